"""What MNE, edfio and pyedflib make of a file, in one form, to be compared with what we make of it."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import mne
import numpy as np

from storage.readers.mne_file import Continuous

Event = tuple[str, float, float]
"""Description, onset and duration in seconds."""


@dataclass(frozen=True)
class Seen:
    """A file as a reader sees it: (n_chans, n_times) in what it takes for µV, and events by their onset."""

    signal_uv: np.ndarray
    events: list[Event]


def by_mne(path: Path) -> Seen:
    """Read by MNE as a user would, without options."""
    raw = mne.io.read_raw(path, preload=True, verbose="error")
    first, notes = raw.first_time, raw.annotations
    events = zip(notes.description, notes.onset - first, np.nan_to_num(notes.duration), strict=True)
    return Seen(raw.get_data() * 1e6, in_order(events))


def by_edfio(path: Path) -> Seen:
    """Read by edfio; what it takes for µV is what the header scales to."""
    import edfio

    file = (edfio.read_bdf if path.suffix == ".bdf" else edfio.read_edf)(path)
    events = ((note.text, note.onset, note.duration or 0.0) for note in file.annotations)
    return Seen(np.array([signal.data for signal in file.signals]), in_order(events))


def by_pyedflib(path: Path) -> Seen:
    """Read by pyedflib; what it takes for µV is what the header scales to."""
    import pyedflib

    with pyedflib.EdfReader(str(path)) as file:
        signals = np.array([file.readSignal(row) for row in range(file.signals_in_file)])
        onsets, seconds, words = file.readAnnotations()
    lasts = np.maximum(np.asarray(seconds, dtype=float), 0.0)
    return Seen(signals, in_order(zip(map(str, words), np.asarray(onsets, dtype=float), lasts, strict=True)))


OTHERS: Mapping[str, tuple[Callable[[Path], Seen], tuple[str, ...]]] = {
    "MNE": (by_mne, ("edf", "bdf", "vhdr", "set", "fif")),
    "edfio": (by_edfio, ("edf", "bdf")),
    "pyedflib": (by_pyedflib, ("edf", "bdf")),
}
"""Readers, and the formats that each reads."""


Verdict = Literal["same", "refuses", "differs"]


def verdict(reader: str, path: Path, mine: Continuous | None) -> Verdict:
    """Whether a reader makes of a file what we make of it (None: we refuse it): samples, no gaps, events."""
    try:
        seen = OTHERS[reader][0](path)
    except Exception:  # each has its own
        return "refuses"
    if mine is None or len(mine.pieces) > 1 or seen.signal_uv.shape != mine.signal_uv.shape:
        return "differs"
    half = 0.5 / mine.sfreq_hz
    events = in_order((note.description, note.onset, note.seconds) for note in mine.annotations)
    equal = len(events) == len(seen.events) and all(
        one[0] == two[0] and abs(one[1] - two[1]) < half and abs(one[2] - two[2]) < half
        for one, two in zip(events, seen.events, strict=True)
    )
    return "same" if equal and np.abs(seen.signal_uv - mine.signal_uv).max() < 1e-3 else "differs"


def in_order(events: Iterable[Event]) -> list[Event]:
    """Events by onset and name, without spaces at the ends of names, and no breaks among them."""
    found = [(str(word).strip(), float(onset), float(seconds)) for word, onset, seconds in events]
    told = [event for event in found if event[0].lower() not in _BREAKS]
    return sorted(told, key=lambda event: (round(event[1], 6), event[0]))


_BREAKS = {"boundary", "bad boundary", "edge boundary", "new segment/"}
