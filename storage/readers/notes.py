"""Annotations and triggers of every format in one common form, in recording time."""

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
"""Annotations with which MNE, EEGLAB and BrainVision mark an interruption of the signal."""
_SKIPPED = "BAD_ACQ_SKIP"
_EEGLAB_BREAK = "-99"
_STIMULI = ("STI101", "STI 014", "Status")
"""MNE's names of stimulus channels that hold all triggers of a recording; the first one present is used."""


@dataclass(frozen=True)
class Annotation:
    """A described stretch of recording time.

    Attributes
    ----------
    onset, seconds : float
        Onset and duration in seconds.
    words : tuple of str
        Descriptions; the first one is shown, and any of them can be mapped to a label.
    """

    onset: float
    seconds: float
    words: tuple[str, ...]

    @property
    def description(self) -> str:
        """Description that is shown."""
        return self.words[0]


def annotation(onset: float, seconds: float, *words: str) -> Annotation:
    """Make an annotation: words lose surrounding spaces; numbers are also listed in plain form (``1.0`` as ``1``)."""
    said = [word.strip("\0 \t\r\n") for word in words]
    plain = [number for word in said if (number := _plain_number(word)) is not None]
    return Annotation(float(onset), float(seconds), tuple(dict.fromkeys([*said, *plain])))


def _plain_number(word: str) -> str | None:
    """Plain form of a number, ``1`` for ``1.0`` and ``01``, with all significant digits; None for other words."""
    if not re.fullmatch(r"[+-]?\d+(\.\d*)?([eE][+-]?\d{1,3})?", word):
        return None
    try:
        number = Decimal(word)
    except InvalidOperation:
        return None
    return format(number.to_integral_value() if number == number.to_integral_value() else number.normalize(), "f")


def in_order(notes: Iterable[Annotation]) -> tuple[Annotation, ...]:
    """Sort annotations by onset."""
    return tuple(sorted(notes, key=lambda note: note.onset))


def breaks_of(notes: Sequence[Annotation], sfreq_hz: float, path: Path) -> tuple[list[int], list[tuple[int, int]]]:
    """Find samples at which annotations mark an interruption, and stretches (first, stop) that they mark as skipped.

    Assumes that times are counted in samples, as in every format that has such annotations.
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
    """Whether any annotation describes an event, not just an interrupted or bad signal."""
    return any(not re.match(r"bad|edge|boundary|New Segment/", note.description, re.IGNORECASE) for note in notes)


def _is_number(word: str) -> bool:
    return re.fullmatch(r"[+-]?\d+(\.\d+)?", word) is not None


def told_by_mne(raw: Any, path: Path, *, limited: bool) -> tuple[Annotation, ...]:
    """Annotations of a file that MNE has read.

    Parameters
    ----------
    raw : mne.io.Raw
        The file as MNE opened it.
    path : Path
        Path of the file.
    limited : bool
        Whether MNE warned that it shortened or omitted annotations that end after the signal; they are then read
        again from the file, if its format allows.
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
    """Name of the channel that holds the triggers; None if there is none."""
    stimuli = [name for name, kind in zip(names, types, strict=True) if kind == "stim"]
    return next((name for name in _STIMULI if name in stimuli), next(iter(stimuli), None))


def triggers(values: np.ndarray, sfreq_hz: float) -> tuple[Annotation, ...]:
    """Make one annotation of each run of equal values other than 0, described by that value."""
    edges = [0, *(np.flatnonzero(np.diff(values)) + 1).tolist(), len(values)]
    return tuple(
        annotation(start / sfreq_hz, (stop - start) / sfreq_hz, str(int(values[start])))
        for start, stop in pairwise(edges)
        if values[start] != 0
    )
