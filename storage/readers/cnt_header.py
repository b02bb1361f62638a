"""Length fields of a Neuroscan .cnt header, and whether they can be trusted.

The header's number of samples is often wrong: 0, or overflowed. MNE needs it to tell 16-bit from 32-bit samples.
"""

import struct
from pathlib import Path
from typing import Literal

import numpy as np

from storage.errors import InputError

_NUM_CHANNELS, _NUM_SAMPLES, _EVENT_TABLE = 370, 864, 886
_FIXED_BYTES, _BYTES_PER_CHANNEL = 900, 75
_LOOKED_AT = 4096
_FEW = 0.05

SampleFormat = Literal["int16", "int32"]
_WIDTH: dict[SampleFormat, int] = {"int16": 2, "int32": 4}


def sample_format(path: Path) -> SampleFormat | None:
    """Detect how samples are stored if the header's number of samples does not show it; None if it does.

    Raises
    ------
    InputError
        When the header's number of samples does not match the file, and the samples do not reveal their width.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(_FIXED_BYTES)
        if len(head) < _FIXED_BYTES or not head.startswith(b"Version 3"):
            return None  # ANT's .cnt, or not a .cnt at all: MNE reports what it is
        num_channels = struct.unpack_from("<H", head, _NUM_CHANNELS)[0]
        stated = struct.unpack_from("<i", head, _NUM_SAMPLES)[0]
        table = struct.unpack_from("<I", head, _EVENT_TABLE)[0]
        first = _FIXED_BYTES + _BYTES_PER_CHANNEL * num_channels
        if not num_channels or not first < table <= size:
            return None
        num_bytes = table - first
        if stated > 0 and num_bytes in (stated * num_channels * width for width in _WIDTH.values()):
            return None
        file.seek(first)
        content = file.read(min(num_bytes, _LOOKED_AT * num_channels * 4))
    possible = [kind for kind, width in _WIDTH.items() if num_bytes % (width * num_channels) == 0]
    looks = _looks_like(content, num_channels)
    if looks not in possible:
        counts = " or ".join(f"{num_bytes / (width * num_channels):,.10g} of {8 * width} bits" for width in (2, 4))
        raise InputError(
            str(path),
            f"its header counts {stated:,} samples, but the file holds {counts}",
            "Export it again from the recording software, or convert it to EDF.",
        )
    return looks


def _looks_like(content: bytes, num_channels: int) -> SampleFormat | None:
    """Infer it from the upper halves of 32-bit words, which hardly change between samples; None if inconclusive."""
    usable = len(content) // (4 * num_channels) * 4 * num_channels
    halves = np.frombuffer(content[:usable], "<u2").reshape(-1, num_channels, 2)
    if len(halves) < 2:
        return None
    changes = (np.diff(halves.astype(np.int32), axis=0) != 0).mean(axis=(0, 1))
    lower, upper = float(changes[0]), float(changes[1])
    if lower < 2 * _FEW:
        return None  # nothing varies
    # An upper half changes at most with the sign, between 0 and -1, so it takes few values.
    kinds = np.mean([len(np.unique(halves[:, channel, 1])) for channel in range(num_channels)]) / len(halves)
    return "int32" if kinds < _FEW or upper < _FEW else "int16"
