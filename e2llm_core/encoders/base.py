"""What every EEG encoder offers to the rest of the project.

Shape suffixes: B batch, C channels, T samples, N time patches, S summary tokens, D encoder dimension.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, fields
from typing import Any, Protocol, TypeVar, runtime_checkable

from torch import Tensor

ConfigT = TypeVar("ConfigT")


@runtime_checkable
class EEGEncoder(Protocol):
    """Encoder of EEG windows into tokens per time patch.

    Attributes
    ----------
    name : str
        Registry name, stored in model directories.
    n_summary : int
        Summary tokens per time patch (S).
    dim : int
        Width of a token (D).
    patch_seconds : float
        Time step between two patches in seconds.
    """

    name: str
    n_summary: int
    dim: int
    patch_seconds: float

    def forward(self, signal_BCT: Tensor, channels: Sequence[str], sfreq_hz: float, unit: str) -> Tensor:
        """Encode (B, C, T), float32 whatever the encoder's own dtype, into (B, N, S, D) of that dtype."""
        ...

    def num_patches(self, n_times: int) -> int:
        """Count the time patches (N) of a window of `n_times` samples."""
        ...

    def config_dict(self) -> dict[str, Any]:
        """Return plain JSON-serialisable settings from which the registry rebuilds the encoder."""
        ...


def config_from_dict(config_class: type[ConfigT], values: dict[str, Any], place: str) -> ConfigT:
    """Build a frozen dataclass from `values`, refusing unknown keys.

    Raises
    ------
    ValueError
        If a key is not a field of `config_class`; the message lists the known ones.
    """
    known = {field.name for field in fields(config_class)}  # type: ignore[arg-type]
    unknown = sorted(set(values) - known)
    if unknown:
        raise ValueError(f"{place}: unknown keys {unknown}. Known keys are {sorted(known)}")
    return config_class(**values)


def config_to_dict(config: Any) -> dict[str, Any]:
    """Return the plain dict of a dataclass config, with tuples as lists (the JSON form)."""
    return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(config).items()}
