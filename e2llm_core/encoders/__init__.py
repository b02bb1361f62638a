"""Registry of EEG encoders: one line each, behind one small interface. Light to import."""

from __future__ import annotations

from functools import reduce
from operator import or_
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field, SerializeAsAny, ValidatorFunctionWrapHandler, WrapValidator

from e2llm_core.encoders.config import TowerConfig
from e2llm_core.encoders.eegpt.config import EEGPTTower

_BUILTIN = (EEGPTTower,)
"""The encoders of the project. The first is meant where none is named."""


def _name(kind: type[TowerConfig]) -> str:
    return str(kind.model_fields["name"].default)


_REGISTRY: dict[str, type[TowerConfig]] = {_name(kind): kind for kind in _BUILTIN}
DEFAULT_ENCODER = _name(_BUILTIN[0])
"""Name of the encoder that is meant where none is named."""


def _chosen(value: Any, builtin: ValidatorFunctionWrapHandler) -> Any:
    if not isinstance(value, dict):
        return value if isinstance(value, TowerConfig) else builtin(value)
    named = {"name": DEFAULT_ENCODER} | value
    kind = _REGISTRY.get(str(named["name"]))
    return builtin(named) if kind is None or kind in _BUILTIN else kind.model_validate(named)


if TYPE_CHECKING:
    AnyTower = TowerConfig
else:
    AnyTower = Annotated[
        Annotated[reduce(or_, _BUILTIN), Field(discriminator="name")], WrapValidator(_chosen), SerializeAsAny()
    ]
    """Settings of a tower with any encoder, told apart by `name`."""


def default_tower() -> TowerConfig:
    """Settings of a tower where nothing is said about it."""
    return _BUILTIN[0]()


def register(kind: type[TowerConfig]) -> None:
    """Make an encoder available to `load_encoder` under the default of its `name`.

    Raises
    ------
    ValueError
        If the name is taken.
    """
    if _name(kind) in _REGISTRY:
        raise ValueError(f"encoder {_name(kind)!r}: already registered. Choose another name")
    _REGISTRY[_name(kind)] = kind


def encoder_names() -> tuple[str, ...]:
    """Names that `load_encoder` accepts, sorted."""
    return tuple(sorted(_REGISTRY))


def load_encoder(name: str, weights: str | Path | None = None, config: dict[str, Any] | None = None) -> Any:
    """Build an encoder by name.

    Parameters
    ----------
    name
        A registered name, e.g. that of the default, `DEFAULT_ENCODER`.
    weights
        A ``.safetensors`` file, or a checkpoint in a format the encoder knows; None keeps random weights.
        Loading is strict: a missing, unexpected or misshapen tensor is an error.
    config
        Settings of the encoder's network; those that are left out have the published values.

    Returns
    -------
    torch.nn.Module
        An `e2llm_core.encoders.base.EEGEncoder` in evaluation mode.

    Raises
    ------
    ValueError
        If the name, the config or the weights file does not fit.
    """
    kind = _kind(name)
    encoder = kind.make(config or {})
    if weights is not None:
        kind.load(encoder, Path(weights))
    return encoder.eval()


def tower_config(encoder: dict[str, Any], temporal: dict[str, Any]) -> TowerConfig:
    """Settings with which stage 1 would make the tower that a model directory describes.

    Parameters
    ----------
    encoder, temporal
        As `EEGTower.config_dict` returns them; what no spec can set is left out.

    Raises
    ------
    ValueError
        If the encoder is not registered, or a value is out of its range.
    """
    kind = _kind(encoder.get("name", DEFAULT_ENCODER))
    names = {"dim": "temporal_dim", "depth": "temporal_depth", "num_heads": "temporal_heads"}
    values = {key: value for key, value in encoder.items() if key in kind.model_fields}
    return kind.model_validate(values | {names[key]: temporal[key] for key in names if key in temporal})


def _kind(name: str) -> type[TowerConfig]:
    if name not in _REGISTRY:
        raise ValueError(f"encoder: {name!r} is not registered. Known encoders are {list(encoder_names())}")
    return _REGISTRY[name]
