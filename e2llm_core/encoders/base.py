"""What every EEG encoder offers to the rest of the project.

Shape suffixes: B batch, C channels, T samples, N time patches, S summary tokens, D encoder dimension.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, fields
from typing import Any, Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor

from e2llm_core.encoders.config import InputContract

MILLIVOLTS_PER_UNIT = {"mV": 1.0, "uV": 1e-3, "V": 1e3}
DIMENSIONLESS = ("whitened", "zscore")

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


def to_contract(signal_BCT: Tensor, unit: str, contract: InputContract) -> Tensor:
    """Convert a physical signal to an encoder's unit and reference; leave a dimensionless one as it is.

    Parameters
    ----------
    signal_BCT
        (batch, n_chans, n_times), floating point.
    unit
        ``"mV"``, ``"uV"``, ``"V"``, or one of `DIMENSIONLESS`.
    contract
        The encoder's.

    Returns
    -------
    Tensor
        (batch, n_chans, n_times); a converted one has float32 at least.

    Raises
    ------
    ValueError
        If the unit is unknown, or an average reference is asked of a single channel.
    """
    if unit in DIMENSIONLESS:
        return signal_BCT
    if unit not in MILLIVOLTS_PER_UNIT:
        known = [*MILLIVOLTS_PER_UNIT, *DIMENSIONLESS]
        raise ValueError(f"unit: {unit!r} is unknown. Convert the signal to one of {known} and name it")
    precise_BCT = signal_BCT.to(torch.promote_types(signal_BCT.dtype, torch.float32))
    converted_BCT = precise_BCT * (MILLIVOLTS_PER_UNIT[unit] / MILLIVOLTS_PER_UNIT[contract.unit])
    if contract.reference == "none":
        return converted_BCT
    if signal_BCT.shape[1] < 2:
        raise ValueError(f"channels: an average reference of one channel in {unit} is zero. Give two or more")
    return converted_BCT - converted_BCT.mean(dim=1, keepdim=True)


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
