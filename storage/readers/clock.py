"""Sampling rate and gaps of a table, derived from its time stamps."""

from itertools import pairwise
from typing import Literal

import numpy as np
import pandas as pd

from storage.errors import InputError
from storage.readers.timeline import Piece

TimeUnit = Literal["s", "ms", "us", "datetime"]
_PER_SECOND: dict[str, float] = {"s": 1.0, "ms": 1e3, "us": 1e6}
_WHOLE_HZ = 0.001
_RATE_TOLERANCE = 0.01


def seconds_of(times: pd.Series, unit: TimeUnit, place: str, *, first_line: int) -> np.ndarray:
    """Convert time stamps to seconds since the first sample; raises `InputError` naming the first invalid line.

    The series is indexed by table row, from 0.
    """
    if unit == "datetime":
        stamps = pd.to_datetime(times, errors="coerce", utc=True, format="ISO8601")
        seconds: np.ndarray = (stamps - stamps.iloc[0]).dt.total_seconds().to_numpy(np.float64)
    else:
        seconds = pd.to_numeric(times, errors="coerce").to_numpy(np.float64) / _PER_SECOND[unit]
        seconds = seconds - seconds[0]
    bad = ~np.isfinite(seconds)
    if bad.any():
        raise InputError(
            place,
            f"{times.name} is not a time in {unit}: line {int(times.index[int(np.flatnonzero(bad)[0])]) + first_line}",
            "Correct `source.time_unit`, or repair the file.",
        )
    return seconds


def pieces_by_time(
    seconds: np.ndarray, sfreq_hz: float | None, jitter: float, gap: float | None, place: str
) -> tuple[float, tuple[Piece, ...]]:
    """Find the sampling rate, and the stretches in which time does not jump.

    Parameters
    ----------
    seconds : np.ndarray
        (n_times,) time stamps.
    sfreq_hz : float or None
        Stated rate; None: counted over the stretches, starting from the median step.
    jitter : float
        Largest error of a time stamp, in seconds.
    gap : float or None
        Longest step in seconds within a stretch; None: one and a half samples plus twice the jitter.
    place : str
        File that error messages name.

    Returns
    -------
    sfreq_hz : float
        The stated rate, or the counted one, a whole number of Hz.
    pieces : tuple of Piece
        The stretches, with times counted from the first sample.

    Raises
    ------
    InputError
        When time stands still or goes back by more than the jitter, or the samples do not match the rate.
    """
    steps = np.diff(seconds)
    if not len(steps):
        raise InputError(place, "holds only one sample", "Fetch the file again.")
    _assert_forward(steps, jitter, place)
    median = float(np.median(steps))
    period = 1 / sfreq_hz if sfreq_hz else median
    if not jitter and abs(median - period) > period / 2:
        raise InputError(
            place,
            f"samples are {median:.4g} s apart; at {sfreq_hz:g} Hz it would be {period:.4g} s",
            "Correct `source.sfreq_hz` or `source.time_unit`.",
        )
    longest = gap if gap is not None else 1.5 * period + 2 * jitter
    cuts = np.flatnonzero(steps > longest) + 1
    edges = [0, *cuts.tolist(), len(seconds)]
    stretches = tuple(pairwise(edges))
    counted = sum(stop - start - 1 for start, stop in stretches)
    elapsed = float(sum(seconds[stop - 1] - seconds[start] for start, stop in stretches))
    if not counted or elapsed <= 0:
        raise InputError(
            place,
            "no two samples follow each other without a gap",
            "Correct `source.time_unit` or `source.gap_seconds`.",
        )
    if sfreq_hz is None:
        sfreq_hz = _whole(counted / elapsed, place)
    _assert_rate(seconds, stretches, sfreq_hz, jitter, place)
    return sfreq_hz, tuple(_piece(seconds, start, stop, sfreq_hz, jitter) for start, stop in stretches)


def _piece(seconds: np.ndarray, start: int, stop: int, sfreq_hz: float, jitter: float) -> Piece:
    """Time a stretch by the sampling rate, unless its time stamps deviate from that by more than the jitter."""
    onset, expected = float(seconds[start] - seconds[0]), (stop - start) / sfreq_hz
    found = float(seconds[stop - 1] - seconds[start]) + 1 / sfreq_hz
    return Piece(start, stop, onset, expected if abs(found - expected) <= 2 * jitter + 0.5 / sfreq_hz else found)


def _assert_forward(steps: np.ndarray, jitter: float, place: str) -> None:
    back = np.flatnonzero(steps < -jitter if jitter else steps <= 0)
    if len(back):
        row = int(back[0])
        how = "repeats" if steps[row] == 0 else f"goes back by {-steps[row]:g} s"
        raise InputError(
            place,
            f"time {how} at sample {row + 2} ({len(back)} times in all)",
            "Sort and repair the file, or set `source.jitter_seconds` for the device.",
        )


def _whole(rate: float, place: str) -> float:
    whole = float(round(rate))
    if whole < 1 or abs(rate - whole) > _WHOLE_HZ * whole:
        raise InputError(
            place,
            f"samples come at {rate:.4g} Hz, which is not a whole number",
            "Set `source.sfreq_hz`, and check `source.time_unit`.",
        )
    return whole


def _assert_rate(
    seconds: np.ndarray, pieces: tuple[tuple[int, int], ...], sfreq_hz: float, jitter: float, place: str
) -> None:
    for start, stop in pieces:
        expected = (stop - start - 1) / sfreq_hz
        found = float(seconds[stop - 1] - seconds[start])
        if abs(found - expected) > _RATE_TOLERANCE * expected + 2 * jitter + 1 / sfreq_hz:
            raise InputError(
                place,
                f"{stop - start} samples take {found:.4g} s; at {sfreq_hz:g} Hz they would take {expected:.4g} s",
                "Correct `source.sfreq_hz` or `source.time_unit`; irregular samples cannot be used.",
            )
