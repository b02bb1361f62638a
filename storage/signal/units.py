"""Is a signal in microvolts? Its amplitude tells a factor of a thousand."""

from collections.abc import Sequence
from typing import Literal

import numpy as np

from storage.errors import InputError

Unit = Literal["uV", "mV", "V"]
UV_PER: dict[str, float] = {"uV": 1.0, "mV": 1e3, "V": 1e6}
LOWEST_UV, HIGHEST_UV = 0.5, 450.0
"""Less than a factor of 1000 apart, so that no such mistake can lead from one plausible amplitude to another."""
_TYPICAL_UV = 20.0
_FACTORS = (1e6, 1e3, 1e-3, 1e-6)


def typical_amplitude(pieces: Sequence[np.ndarray], sfreq_hz: float) -> float:
    """Typical variation of a channel within one second, in the signal's own unit.

    Each channel is cut into seconds, each second is freed of its straight line (offset and slow drift) and its
    standard deviation is taken; the result is the median over a channel's seconds, then over channels. Seconds and
    channels without any variation do not count; 0 when none has any.

    Parameters
    ----------
    pieces : sequence of np.ndarray
        (n_chans, n_times) each.
    sfreq_hz : float
        Sampling rate.
    """
    spreads = np.concatenate([_spread_by_second(piece, max(3, round(sfreq_hz))) for piece in pieces], axis=1)
    by_channel = [np.median(row[row > 0]) for row in spreads if (row > 0).any()]
    return float(np.median(by_channel)) if by_channel else 0.0


def _spread_by_second(piece: np.ndarray, second: int) -> np.ndarray:
    """(n_chans, n_seconds) standard deviations about each second's straight line; a short piece is one second."""
    n_chans, n_times = piece.shape
    second = min(second, n_times)
    if second < 3:  # through two samples there always is a straight line
        return np.zeros((n_chans, 1))
    cut = np.asarray(piece[:, : n_times // second * second], dtype=np.float64).reshape(n_chans, -1, second)
    time = np.linspace(-1, 1, second)
    centred = cut - cut.mean(axis=-1, keepdims=True)
    slope = centred @ time / (time @ time)
    spread = (centred - slope[..., None] * time).std(axis=-1)
    noise = 1e-9 * np.abs(cut).max(axis=-1)  # what rounding leaves of a straight line
    return np.where(spread > noise, spread, 0.0)


def assert_plausible(pieces: Sequence[np.ndarray], sfreq_hz: float, place: str, *, taken: Unit | None = None) -> None:
    """Refuse a signal whose amplitude is not that of EEG in µV.

    Parameters
    ----------
    pieces : sequence of np.ndarray
        (n_chans, n_times) each, in µV.
    sfreq_hz : float
        Sampling rate.
    place : str
        File to name in an error.
    taken : {"uV", "mV", "V"} or None
        Unit that the file's numbers were taken to be in, where the source has a ``unit`` field to correct it.

    Raises
    ------
    InputError
        When `typical_amplitude` is outside 0.5 to 450 µV, naming the factor that would explain it; when all samples
        are 0, or every channel is a straight line.
    """
    if not any(piece.any() for piece in pieces):
        raise InputError(place, "every sample is 0", "Drop the recording, or export it again.")
    typical = typical_amplitude(pieces, sfreq_hz)
    if typical == 0.0:
        raise InputError(place, "no channel varies", "Drop the recording, or export it again.")
    if LOWEST_UV <= typical <= HIGHEST_UV:
        return
    factor = min(_FACTORS, key=lambda factor: abs(np.log(typical / factor / _TYPICAL_UV)))
    times, size = (f"{factor:,.0f}", "large") if factor > 1 else (f"{1 / factor:,.0f}", "small")
    raise InputError(
        place,
        f"a typical channel varies by {typical:.3g} µV within a second, about {times} times too {size} for EEG",
        _remedy(factor, taken),
    )


def _remedy(factor: float, taken: Unit | None) -> str:
    if taken is not None:
        for unit, uv in UV_PER.items():
            if np.isclose(uv, UV_PER[taken] / factor):
                return f"The numbers were taken for {taken}: state `source.unit: {unit}` if they are in {unit}."
    return "Correct the unit in the file, or scale its samples."
