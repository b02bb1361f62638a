"""Registry of EEG encoders: names to builders behind one small interface."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from e2llm_core.encoders.base import EEGEncoder

__all__ = ["EEGEncoder", "EncoderEntry", "encoder_names", "load_encoder", "register"]


@dataclass(frozen=True)
class EncoderEntry:
    """One registered encoder.

    Attributes
    ----------
    build
        Makes a randomly initialised encoder from a config (object, dict of overrides, or None).
    load_weights
        Loads a weights file strictly into an encoder, in place.
    """

    build: Callable[[Any], nn.Module]
    load_weights: Callable[[nn.Module, Path], None]


_REGISTRY: dict[str, EncoderEntry] = {}


def register(name: str, entry: EncoderEntry) -> None:
    """Make an encoder available to `load_encoder` under `name`.

    Raises
    ------
    ValueError
        If the name is taken.
    """
    if name in _REGISTRY:
        raise ValueError(f"encoder {name!r}: already registered. Choose another name")
    _REGISTRY[name] = entry


def encoder_names() -> tuple[str, ...]:
    """Names that `load_encoder` accepts, sorted."""
    return tuple(sorted(_REGISTRY))


def load_encoder(name: str, weights: str | Path | None = None, config: Any = None) -> Any:
    """Build an encoder by name.

    Parameters
    ----------
    name
        A registered name, e.g. ``"eegpt"``.
    weights
        A ``.safetensors`` file, or a checkpoint in a format the encoder knows; None keeps random weights.
        Loading is strict: a missing, unexpected or misshapen tensor is an error.
    config
        The encoder's config object, a dict of its fields, or None for the published size.

    Returns
    -------
    torch.nn.Module
        An `EEGEncoder` in evaluation mode.

    Raises
    ------
    ValueError
        If the name, the config or the weights file does not fit.
    """
    if name not in _REGISTRY:
        raise ValueError(f"encoder: {name!r} is not registered. Known encoders are {list(encoder_names())}")
    entry = _REGISTRY[name]
    encoder = entry.build(config)
    if weights is not None:
        entry.load_weights(encoder, Path(weights))
    return encoder.eval()


def _register_builtin() -> None:
    from e2llm_core.encoders.eegpt import build_eegpt
    from e2llm_core.encoders.eegpt_weights import load_eegpt_weights

    register("eegpt", EncoderEntry(build=build_eegpt, load_weights=load_eegpt_weights))


_register_builtin()
