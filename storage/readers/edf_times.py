"""EDF+ and BDF+: when each record was recorded, and the annotations.

https://www.edfplus.info/specs/edfplus.html. MNE passes over pauses between records in silence, in files that say that
they are interrupted (EDF+D) and in files that say that they are not (EDF+C), and over annotations that end behind the
signal.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from storage.errors import InputError
from storage.readers.edf import EdfHeader, text_of
from storage.readers.timeline import Piece, whole

_TAL = re.compile(rb"([+-]\d+(?:\.\d*)?)(?:\x15(\d+(?:\.\d*)?)?)?\x14(.*?)\x14?\x00", re.DOTALL)
_FEWEST_STEPS = 2
"""So many equal steps between records are a rate, not a pause."""

Note = tuple[float, float, str]
"""Seconds from the first sample, duration in seconds, description."""


@dataclass(frozen=True)
class RecordTimes:
    """Onset of each record in seconds from the first, and a remark where the header says otherwise."""

    onsets: tuple[float, ...]
    remark: str | None = None


def read_notes(path: Path, header: EdfHeader) -> tuple[list[Note], RecordTimes]:
    """Annotations, and when each record begins; without annotations, records follow each other.

    A file whose header says that it is continuous (EDF+C) is believed as far as its records say so as well: the onset
    that each record states goes before the header, unless all state the same one, which says nothing.

    Raises
    ------
    InputError
        When a discontinuous file (EDF+D) does not say when a record begins, or the records of a continuous one begin
        at even steps that are not as long as they are.
    """
    follow = tuple(record * header.record_seconds for record in range(header.num_records))
    if not header.timed:
        if header.discontinuous:
            raise InputError(str(path), "is discontinuous (EDF+D) without onsets of its records", "Export it as EDF+C.")
        return [], RecordTimes(follow)
    found, stated = _lists(path, header)
    if header.discontinuous and None in stated:
        record = stated.index(None) + 1
        raise InputError(str(path), f"record {record} does not say when it begins", "Export it as EDF+C.")
    onsets = _filled(stated, header.record_seconds)
    notes = [(onset - onsets[0], seconds, words) for onset, seconds, words in found]
    times = tuple(onset - onsets[0] for onset in onsets)
    return notes, RecordTimes(times) if header.discontinuous else _continuous(times, follow, header, path)


def _lists(path: Path, header: EdfHeader) -> tuple[list[Note], list[float | None]]:
    """Annotations as the file states their onsets, and the onset that each record states."""
    starts = np.cumsum([0, *header.samples]) * header.bytes_per_sample
    shape = (header.num_records, header.record_bytes)
    records = np.asarray(np.memmap(path, dtype="u1", mode="r", offset=header.header_bytes, shape=shape))
    columns = {signal: records[:, starts[signal] : starts[signal + 1]].tobytes() for signal in header.timed}
    found: list[Note] = []
    onsets: list[float | None] = []
    for record in range(header.num_records):
        for signal, column in columns.items():
            width = len(column) // header.num_records
            text = column[record * width : (record + 1) * width].rstrip(b"\0") + b"\0"
            lists = [(float(tal[1]), float(tal[2] or 0), tal[3].split(b"\x14")) for tal in _TAL.finditer(text)]
            if signal == header.timed[0]:
                onsets.append(lists[0][0] if lists and not lists[0][2][0] else None)
            found += [
                (onset, seconds, words)
                for onset, seconds, texts in lists
                for text in texts
                if (words := text_of(text).strip("\0 \t\r\n"))
            ]
    return found, onsets


def _filled(stated: Sequence[float | None], record_seconds: float) -> list[float]:
    """Onsets of all records: one that states none follows the one before it."""
    known = next(((record, onset) for record, onset in enumerate(stated) if onset is not None), (0, 0.0))
    filled, expected = [], known[1] - known[0] * record_seconds
    for onset in stated:
        filled.append(expected if onset is None else onset)
        expected = filled[-1] + record_seconds
    return filled


def _continuous(times: tuple[float, ...], follow: tuple[float, ...], header: EdfHeader, path: Path) -> RecordTimes:
    """What to believe of the onsets in a file that says that it is continuous."""
    steps, record, kind = np.diff(times), header.record_seconds, f"{path.suffix[1:].upper()}+C"
    sfreq_hz = max(header.rates_hz)
    if not (np.abs(steps - record) > _tolerance(times, record, sfreq_hz)).any():
        return RecordTimes(times)
    if not np.any(steps):
        return RecordTimes(follow, "all records state one onset: they are taken to follow each other")
    if len(steps) >= _FEWEST_STEPS and np.ptp(steps) < 0.5 / sfreq_hz:
        raise InputError(
            str(path),
            f"a record begins every {steps.mean():g} s and lasts {record:g} s, in a file that says that it is "
            f"continuous ({kind})",
            "Correct its header: the duration of a record, or that the signal is interrupted (+D).",
        )
    return RecordTimes(times, f"the header says that it is continuous ({kind}), its records do not follow each other")


def pieces_of(header: EdfHeader, onsets: Sequence[float], sfreq_hz: float) -> tuple[Piece, ...]:
    """Pieces of records that follow each other; one begins at each record that comes too late or too early."""
    record, per_record = header.record_seconds, round(header.record_seconds * sfreq_hz)
    follow = np.arange(len(onsets)) * record
    if np.abs(np.asarray(onsets) - follow).max(initial=0.0) <= 0.5 / sfreq_hz:
        return whole(round(header.num_records * record * sfreq_hz), sfreq_hz)
    off = np.abs(np.diff(onsets) - record)
    late = np.flatnonzero(off > _tolerance(onsets, record, sfreq_hz)) + 1
    edges = [0, *late.tolist(), len(onsets)]
    return tuple(
        Piece(first * per_record, last * per_record, onsets[first], onsets[last - 1] - onsets[first] + record)
        for first, last in pairwise(edges)
    )


def _tolerance(onsets: Sequence[float], record_seconds: float, sfreq_hz: float) -> np.ndarray:
    """By how much each step between records may be off: half a sample, or what rounding did to onsets.

    Onsets are written with a number of decimals (0.333, 0.667 of records of a third) or of digits (99999.8, 100000).
    """
    texts = [f"{abs(onset):.9f}".rstrip("0") for onset in onsets]
    decimals = max(len(text.partition(".")[2]) for text in texts)
    digits = max(len(text.replace(".", "").lstrip("0")) for text in texts)
    before_point = np.floor(np.log10(np.maximum(np.abs(onsets[1:]), 1e-9))).astype(int) + 1
    units = 10.0 ** -np.minimum(decimals, digits - before_point)
    even = np.abs(record_seconds / units - np.round(record_seconds / units)) < 1e-6
    return np.maximum(0.5 / sfreq_hz, np.where(even, 0.0, units))
