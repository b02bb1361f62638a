"""What MNE, edfio and pyedflib make of a file, in one form, to be compared with what we make of it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import mne
import numpy as np

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


def in_order(events: object) -> list[Event]:
    """Events by onset and name, without spaces at the ends of names, and no breaks among them."""
    found = [(str(word).strip(), float(onset), float(seconds)) for word, onset, seconds in events]  # type: ignore[attr-defined]
    told = [event for event in found if event[0].lower() not in _BREAKS]
    return sorted(told, key=lambda event: (event[1], event[0]))


_BREAKS = {"boundary", "bad boundary", "edge boundary", "new segment/"}
