"""Zero-phase filters over contiguous pieces, by MNE."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from storage.errors import InputError

_NOTCH_TRANSITION_HZ = 1.0


def bandpass(
    pieces: Sequence[np.ndarray],
    sfreq_hz: float,
    edges_hz: tuple[float | None, float | None],
    steps: list[str],
    place: str,
) -> list[np.ndarray]:
    """Keep a band, by a linear-phase FIR filter of MNE's default design, its delay taken out.

    Parameters
    ----------
    pieces : sequence of np.ndarray
        Each (n_chans, n_times).
    sfreq_hz : float
        Sampling rate.
    edges_hz : (low, high)
        None leaves a side open.
    steps : list of str
        Record of the processing; this step is appended.
    place : str
        Named in an error.

    Raises
    ------
    InputError
        When an edge is not below half of the sampling rate, or a piece is shorter than the filter.
    """
    from mne.filter import filter_data

    low, high = edges_hz
    for edge in edges_hz:
        _below_nyquist(edge, sfreq_hz, "bandpass_hz", place)
    length = _filter_length(pieces, sfreq_hz, low, high, "bandpass_hz", place)
    words = f"{f'{low:g}' if low else ''}-{f'{high:g}' if high else ''} Hz"
    steps.append(f"band-pass {words} ({_design('mne.filter.filter_data', length, sfreq_hz)})")
    return [filter_data(_samples(piece), sfreq_hz, low, high, verbose="error") for piece in pieces]


def notch(
    pieces: Sequence[np.ndarray],
    sfreq_hz: float,
    lines_hz: float | Sequence[float],
    steps: list[str],
    place: str,
) -> list[np.ndarray]:
    """Remove narrow lines: one frequency with its harmonics below Nyquist, or those of a list.

    Parameters and errors as for :func:`bandpass`.
    """
    from mne.filter import notch_filter

    half = _NOTCH_TRANSITION_HZ / 2
    if isinstance(lines_hz, Sequence):
        lines = [float(line) for line in lines_hz]
    else:
        count = max(1, int((sfreq_hz / 2) // lines_hz))
        harmonics = [lines_hz * number for number in range(1, count + 1)]
        lines = harmonics[:1] + [line for line in harmonics[1:] if line * (1 + 1 / 400) + half < sfreq_hz / 2]
    for line in lines:
        _below_nyquist(line * (1 + 1 / 400) + half, sfreq_hz, "notch_hz", place)
    highs, lows = ([line * (1 + sign / 400) + sign * half for line in lines] for sign in (1, -1))
    length = _filter_length(
        pieces, sfreq_hz, highs, lows, "notch_hz", place, l_trans_bandwidth=half, h_trans_bandwidth=half
    )
    words = ", ".join(f"{line:g}" for line in lines)
    steps.append(f"notch {words} Hz ({_design('mne.filter.notch_filter', length, sfreq_hz)})")
    return [
        notch_filter(_samples(piece), sfreq_hz, lines, trans_bandwidth=_NOTCH_TRANSITION_HZ, verbose="error")
        for piece in pieces
    ]


def _samples(piece: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(piece, dtype=np.float64)


def _design(function: str, length: int, sfreq_hz: float) -> str:
    return f"{function}, FIR of {length / sfreq_hz:.3g} s, firwin with a Hamming window, zero phase"


def _below_nyquist(edge_hz: float | None, sfreq_hz: float, key: str, place: str) -> None:
    if edge_hz is not None and edge_hz >= sfreq_hz / 2:
        raise InputError(
            place,
            f"`signal.{key}` reaches {edge_hz:g} Hz, but a rate of {sfreq_hz:g} Hz ends at {sfreq_hz / 2:g} Hz",
            f"Correct `signal.{key}`.",
        )


def _filter_length(
    pieces: Sequence[np.ndarray], sfreq_hz: float, low: Any, high: Any, key: str, place: str, **design: float
) -> int:
    """Samples of the filter that MNE designs; raises `InputError` when a piece has fewer."""
    from mne.filter import create_filter

    length = len(create_filter(None, sfreq_hz, low, high, verbose="error", **design))
    shortest = min(piece.shape[1] for piece in pieces)
    if shortest < length:
        raise InputError(
            place,
            f"a contiguous piece of {shortest / sfreq_hz:.3g} s is shorter than the filter of `signal.{key}`, "
            f"which needs {length / sfreq_hz:.3g} s",
            "Give it whole recordings, raise the low edge, or do not filter.",
        )
    return length
