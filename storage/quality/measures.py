"""What is wrong with a recording, in numbers: measured as read, before anything is done to its signal."""

from collections.abc import Collection, Iterator, Sequence
from functools import cached_property

import numpy as np
from pydantic import BaseModel, ConfigDict, model_validator

from storage.errors import InputError

BLOCK_SECONDS = 1.0
FLAT_UV = 0.1
"""A block whose standard deviation is below this is flat: the step in which a store keeps samples."""
SHORTEST_PLATEAU = 3
"""Equal samples in a row at a channel's highest or lowest value that count as saturated."""
LINE_HZ = (50, 60)
WELCH_SECONDS = 2.0

BAD_FLAT_SHARE = 0.25
BAD_SATURATED_SHARE = 0.01
STRONG_LINE_RATIO = 10.0
STRONG_LINE_UV = 1.0
OUTLIER_FACTOR = 5.0

_LINE_HALF_WIDTH_HZ = 1.0
_NEIGHBOURS_HZ = (2.0, 5.0)

Numbers = tuple[float, ...]


class Quality(BaseModel):
    """Measures of one recording, one value per channel in the order of `channels`.

    Parameters
    ----------
    channels : tuple of str
        Names of the channels.
    seconds : float
        Length of all pieces together.
    gaps : int
        Places where the signal is interrupted: one less than there are pieces.
    marked_bad : tuple of str
        Channels that the file itself marks as bad.
    offset_uv : tuple of float
        Median over blocks of 1 s of their mean.
    rms_uv : tuple of float
        Standard deviation over all blocks, slow drift included.
    robust_sd_uv : tuple of float
        Median over blocks of 1 s of their standard deviation: bursts and drift hardly move it.
    flat_share : tuple of float
        Share of blocks of 1 s that vary by less than 0.1 µV.
    saturated_share : tuple of float
        Share of samples that repeat the channel's highest or lowest value three times or more in a row. Clipping
        that was filtered after it happened is no longer seen.
    line_50hz, line_60hz : tuple of float or None
        Power density within 1 Hz of the line, relative to the median 2 to 5 Hz beside it; None where the sampling
        rate or the recording's length does not show it.
    line_50hz_uv, line_60hz_uv : tuple of float or None
        Root mean square of the line itself: what stands out above its neighbours.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    channels: tuple[str, ...]
    seconds: float
    gaps: int
    marked_bad: tuple[str, ...] = ()
    offset_uv: Numbers
    rms_uv: Numbers
    robust_sd_uv: Numbers
    flat_share: Numbers
    saturated_share: Numbers
    line_50hz: tuple[float | None, ...]
    line_60hz: tuple[float | None, ...]
    line_50hz_uv: tuple[float | None, ...]
    line_60hz_uv: tuple[float | None, ...]

    @model_validator(mode="after")
    def _one_value_each(self) -> "Quality":
        for name in set(type(self).model_fields) - {"channels", "seconds", "gaps", "marked_bad"}:
            if len(getattr(self, name)) != len(self.channels):
                raise ValueError(f"{name} has {len(getattr(self, name))} values for {len(self.channels)} channels")
        return self

    @cached_property
    def flat(self) -> tuple[str, ...]:
        """Channels that are flat for a quarter of the time or more."""
        return self._where(share >= BAD_FLAT_SHARE for share in self.flat_share)

    @cached_property
    def saturated(self) -> tuple[str, ...]:
        """Channels with 1 % of their samples or more at the end of their range."""
        return self._where(share >= BAD_SATURATED_SHARE for share in self.saturated_share)

    @cached_property
    def bads(self) -> tuple[str, ...]:
        """Channels that are marked as bad, flat or saturated, in channel order."""
        found = {*self.marked_bad, *self.flat, *self.saturated}
        return self._where(channel in found for channel in self.channels)

    @cached_property
    def line_ratio(self) -> tuple[float | None, ...]:
        """The stronger of 50 and 60 Hz per channel, relative to its neighbours."""
        pairs = zip(self.line_50hz, self.line_60hz, strict=True)
        return tuple(max((value for value in pair if value is not None), default=None) for pair in pairs)

    @cached_property
    def noisy(self) -> tuple[str, ...]:
        """Channels with line noise of ten times its neighbours or more, and of at least 1 µV."""
        lines = ((self.line_50hz, self.line_50hz_uv), (self.line_60hz, self.line_60hz_uv))
        strong = {
            channel
            for ratios, amplitudes in lines
            for channel, ratio, size in zip(self.channels, ratios, amplitudes, strict=True)
            if (ratio or 0.0) >= STRONG_LINE_RATIO and (size or 0.0) >= STRONG_LINE_UV
        }
        return self._where(channel in strong for channel in self.channels)

    @cached_property
    def typical_sd_uv(self) -> float:
        """Median robust standard deviation over the channels that are not bad (over all where every one is)."""
        good = [sd for channel, sd in zip(self.channels, self.robust_sd_uv, strict=True) if channel not in self.bads]
        return float(np.median(good or self.robust_sd_uv))

    @cached_property
    def outliers(self) -> tuple[str, ...]:
        """Channels that vary five times more or less than the recording's typical channel, and are not flat."""
        typical = self.typical_sd_uv
        return self._where(
            channel not in self.flat and not typical / OUTLIER_FACTOR <= sd <= typical * OUTLIER_FACTOR
            for channel, sd in zip(self.channels, self.robust_sd_uv, strict=True)
        )

    def _where(self, chosen: Iterator[bool]) -> tuple[str, ...]:
        return tuple(channel for channel, is_chosen in zip(self.channels, chosen, strict=True) if is_chosen)


def require_finite(pieces: Sequence[np.ndarray], channels: Sequence[str], place: str) -> None:
    """Raise `InputError` at `place` when a sample is NaN or infinite; names its channel and second or sample."""
    for number, piece in enumerate(pieces):
        for channel, row in zip(channels, piece, strict=True):
            if not np.isfinite(row).all():
                sample = int(np.flatnonzero(~np.isfinite(row))[0])
                where = f"sample {sample}" + (f" of piece {number + 1}" if len(pieces) > 1 else "")
                raise InputError(
                    place, f"channel {channel} is NaN or infinite at {where}", "Repair or drop the recording."
                )


def measure(
    pieces: Sequence[np.ndarray],
    channels: Sequence[str],
    sfreq_hz: float,
    *,
    bads: Collection[str] = (),
    place: str = "recording",
) -> Quality:
    """Measure a recording's signal.

    Parameters
    ----------
    pieces : sequence of np.ndarray
        Contiguous stretches, each (n_chans, n_times) in µV.
    channels : sequence of str
        Names of the rows.
    sfreq_hz : float
        Sampling rate.
    bads : collection of str
        Channels that the file marks as bad; others than `channels` are left out.
    place : str
        File or recording to name in an error.

    Raises
    ------
    InputError
        When there is no sample, or one that is not finite.
    """
    pieces = [piece for piece in pieces if piece.shape[1]]
    if not pieces:
        raise InputError(place, "holds no sample", "Drop the recording.")
    require_finite(pieces, channels, place)
    columns: dict[str, list[float | None]] = {}
    for row in range(len(channels)):
        parts = [np.asarray(piece[row], dtype=np.float64) for piece in pieces]
        measured = _amplitudes(parts, sfreq_hz) | _saturation(parts) | _lines(parts, sfreq_hz)
        for name, value in measured.items():
            columns.setdefault(name, []).append(None if value is None else float(f"{value:.4g}"))
    values = {
        "channels": tuple(channels),
        "seconds": sum(piece.shape[1] for piece in pieces) / sfreq_hz,
        "gaps": len(pieces) - 1,
        "marked_bad": tuple(channel for channel in channels if channel in bads),
    }
    return Quality.model_validate(values | {name: tuple(column) for name, column in columns.items()})


def _amplitudes(parts: Sequence[np.ndarray], sfreq_hz: float) -> dict[str, float | None]:
    length = min(max(2, round(BLOCK_SECONDS * sfreq_hz)), max(map(len, parts)))
    blocks = np.concatenate(
        [
            np.stack([cut.mean(axis=1), cut.std(axis=1)])
            for part in parts
            if len(cut := part[: len(part) // length * length].reshape(-1, length))
        ],
        axis=1,
    )
    means, deviations = blocks
    return {
        "offset_uv": float(np.median(means)),
        "rms_uv": float(np.sqrt(means.var() + (deviations**2).mean())),
        "robust_sd_uv": float(np.median(deviations)),
        "flat_share": float((deviations < FLAT_UV).mean()),
    }


def _saturation(parts: Sequence[np.ndarray]) -> dict[str, float | None]:
    low, high = min(part.min() for part in parts), max(part.max() for part in parts)
    if low == high:
        return {"saturated_share": 0.0}
    found = sum(_in_plateaus(part == end) for part in parts for end in (low, high))
    return {"saturated_share": found / sum(map(len, parts))}


def _in_plateaus(at_end: np.ndarray) -> int:
    """Count samples in runs of at least `SHORTEST_PLATEAU`."""
    edges = np.flatnonzero(np.diff(at_end.astype(np.int8), prepend=0, append=0))
    lengths = edges[1::2] - edges[::2]
    return int(lengths[lengths >= SHORTEST_PLATEAU].sum())


def _lines(parts: Sequence[np.ndarray], sfreq_hz: float) -> dict[str, float | None]:
    freqs, density = _spectrum(parts, sfreq_hz)
    found: dict[str, float | None] = {}
    for line in LINE_HZ:
        distance = np.abs(freqs - line)
        near = distance <= _LINE_HALF_WIDTH_HZ
        beside = (distance >= _NEIGHBOURS_HZ[0]) & (distance <= _NEIGHBOURS_HZ[1])
        ratio = size = None
        if len(freqs) > 1 and freqs[-1] > line + _LINE_HALF_WIDTH_HZ and freqs[1] <= 1 / BLOCK_SECONDS:
            neighbours = float(np.median(density[beside]))
            excess = float((density[near] - neighbours).sum() * freqs[1])
            ratio = float(density[near].mean()) / neighbours if neighbours > 0 else None
            size = float(np.sqrt(max(0.0, excess)))
        found |= {f"line_{line}hz": ratio, f"line_{line}hz_uv": size}
    return found


def _spectrum(parts: Sequence[np.ndarray], sfreq_hz: float) -> tuple[np.ndarray, np.ndarray]:
    """Welch's power density (µV²/Hz) over all pieces that hold a segment."""
    from scipy.signal import welch

    length = min(round(WELCH_SECONDS * sfreq_hz), max(map(len, parts)))
    whole = [part for part in parts if len(part) >= length]
    weights = [len(part) // (length - length // 2) for part in whole]
    spectra = [welch(part, sfreq_hz, nperseg=length) for part in whole]
    return spectra[0][0], np.average([density for _, density in spectra], axis=0, weights=weights)
