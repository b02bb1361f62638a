"""What happened in a recording: annotations and triggers of every format, in recording time and in one form."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from storage.readers.timeline import break_at

_BREAK = re.compile(r"(EDGE |BAD[ _])?boundary|New Segment/.*|BAD_ACQ_SKIP", re.IGNORECASE)
"""Annotations by which MNE, EEGLAB and BrainVision say that the signal was interrupted."""
_SKIPPED = "BAD_ACQ_SKIP"
_EEGLAB_BREAK = "-99"
_STIMULI = ("STI101", "STI 014", "Status")
"""Stimulus channels that hold all of a recording's triggers, by MNE's names; the first that is there counts."""


@dataclass(frozen=True)
class Annotation:
    """A described stretch of recording time.

    Attributes
    ----------
    onset, seconds : float
        When it begins and how long it lasts.
    words : tuple of str
        What it is called; the first is what is shown, each may be what a label is given for.
    """

    onset: float
    seconds: float
    words: tuple[str, ...]

    @property
    def description(self) -> str:
        """What it is called."""
        return self.words[0]


def annotation(onset: float, seconds: float, *words: str) -> Annotation:
    """Describe a stretch; spaces at the ends say nothing, and a number is also known without what does not count."""
    said = [word.strip("\0 \t\r\n") for word in words]
    plain = [number for word in said if (number := _plain_number(word)) is not None]
    return Annotation(float(onset), float(seconds), tuple(dict.fromkeys([*said, *plain])))


def _plain_number(word: str) -> str | None:
    """``1`` for ``1.0`` and ``01``; all digits stay."""
    if not re.fullmatch(r"[+-]?\d+(\.\d*)?([eE][+-]?\d{1,3})?", word):
        return None
    try:
        number = Decimal(word)
    except InvalidOperation:
        return None
    return format(number.to_integral_value() if number == number.to_integral_value() else number.normalize(), "f")


def in_order(notes: Iterable[Annotation]) -> tuple[Annotation, ...]:
    """Annotations by onset."""
    return tuple(sorted(notes, key=lambda note: note.onset))


def breaks_of(notes: Sequence[Annotation], sfreq_hz: float, path: Path) -> tuple[list[int], list[tuple[int, int]]]:
    """Samples at which annotations say that the signal was interrupted, and stretches that they say were skipped.

    Holds where time is counted in samples, which is so in every format that has such annotations.
    """
    words = {note.description for note in notes}
    coded = path.suffix.lower() == ".set" and all(_is_number(word) or _BREAK.fullmatch(word) for word in words)
    breaks, skipped = [], []
    for note in notes:
        first = break_at(note.onset * sfreq_hz)
        if note.description == _SKIPPED:
            skipped.append((first, first + round(note.seconds * sfreq_hz)))
        elif _BREAK.fullmatch(note.description) or (coded and _EEGLAB_BREAK in note.words):
            breaks.append(first)
    return breaks, skipped


def tells_events(notes: Sequence[Annotation]) -> bool:
    """Whether any annotation says that something happened, not only that the signal is interrupted or bad."""
    return any(not re.match(r"bad|edge|boundary|New Segment/", note.description, re.IGNORECASE) for note in notes)


def _is_number(word: str) -> bool:
    return re.fullmatch(r"[+-]?\d+(\.\d+)?", word) is not None


def told_by_mne(raw: Any, path: Path, *, limited: bool) -> tuple[Annotation, ...]:
    """Annotations of a file that MNE has read.

    Parameters
    ----------
    raw : mne.io.Raw
        The file.
    path : Path
        Where it is.
    limited : bool
        MNE said that it shortened annotations or left them out, since they end behind the signal: they are read
        again from the file, where that is possible.
    """
    import mne

    told, first = raw.annotations, float(raw.first_time)
    if limited and path.suffix.lower() in {".vhdr", ".set"}:
        from storage.readers.companions import marker_file

        markers = marker_file(path)
        told, first = mne.read_annotations(markers or path, sfreq=raw.info["sfreq"]), 0.0
    rows = zip(told.onset, np.nan_to_num(told.duration), told.description, strict=True)
    return in_order(annotation(onset - first, seconds, str(words)) for onset, seconds, words in rows)


def stimulus_channel(names: Sequence[str], types: Sequence[str]) -> str | None:
    """Name the channel that holds triggers, if there is one."""
    stimuli = [name for name, kind in zip(names, types, strict=True) if kind == "stim"]
    return next((name for name in _STIMULI if name in stimuli), next(iter(stimuli), None))


def triggers(values: np.ndarray, sfreq_hz: float) -> tuple[Annotation, ...]:
    """One annotation for each run of one value other than 0, described by that number."""
    edges = [0, *(np.flatnonzero(np.diff(values)) + 1).tolist(), len(values)]
    return tuple(
        annotation(start / sfreq_hz, (stop - start) / sfreq_hz, str(int(values[start])))
        for start, stop in pairwise(edges)
        if values[start] != 0
    )
