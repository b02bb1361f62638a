"""EDF+ and BDF+: record onsets and annotations.

Specification: https://www.edfplus.info/specs/edfplus.html. MNE silently ignores pauses between records, both in files
declared discontinuous (EDF+D) and in files declared continuous (EDF+C), and shortens or drops annotations that end
after the signal.
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
"""From this many equal steps between records on, the step is a rate, not a pause."""

Note = tuple[float, float, str]
"""Onset in seconds from the first sample, duration in seconds, description."""


@dataclass(frozen=True)
class RecordTimes:
    """Onset of each record in seconds from the first one, and a remark if the header contradicts it."""

    onsets: tuple[float, ...]
    remark: str | None = None


def read_notes(path: Path, header: EdfHeader) -> tuple[list[Note], RecordTimes]:
    """Read annotations and record onsets; without an annotation signal, records are taken to follow each other.

    If the header declares the file continuous (EDF+C), the onsets that its records state take precedence over the
    header, unless all of them are equal, which carries no information.

    Raises
    ------
    InputError
        When a discontinuous file (EDF+D) does not state the onset of each record, or the records of a continuous file
        begin at even steps that differ from the record duration.
    """
    follow = tuple(record * header.record_seconds for record in range(header.num_records))
    if not header.timed:
        if header.discontinuous:
            raise InputError(str(path), "is discontinuous (EDF+D) but states no record onsets", "Export it as EDF+C.")
        return [], RecordTimes(follow)
    found, stated = _lists(path, header)
    if header.discontinuous and None in stated:
        record = stated.index(None) + 1
        raise InputError(str(path), f"record {record} does not state its onset", "Export it as EDF+C.")
    onsets = _filled(stated, header.record_seconds)
    notes = [(onset - onsets[0], seconds, words) for onset, seconds, words in found]
    times = tuple(onset - onsets[0] for onset in onsets)
    return notes, RecordTimes(times) if header.discontinuous else _continuous(times, follow, header, path)


def _lists(path: Path, header: EdfHeader) -> tuple[list[Note], list[float | None]]:
    """Annotations with their onsets as stated in the file, and the onset that each record states."""
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
    """Onsets of all records; a record that states none follows the previous one."""
    known = next(((record, onset) for record, onset in enumerate(stated) if onset is not None), (0, 0.0))
    filled, expected = [], known[1] - known[0] * record_seconds
    for onset in stated:
        filled.append(expected if onset is None else onset)
        expected = filled[-1] + record_seconds
    return filled


def _continuous(times: tuple[float, ...], follow: tuple[float, ...], header: EdfHeader, path: Path) -> RecordTimes:
    """Decide which onsets to use in a file that is declared continuous."""
    steps, record, kind = np.diff(times), header.record_seconds, f"{path.suffix[1:].upper()}+C"
    sfreq_hz = max(header.rates_hz)
    if not (np.abs(steps - record) > _tolerance(times, record, sfreq_hz)).any():
        return RecordTimes(times)
    if not np.any(steps):
        return RecordTimes(follow, "all records state the same onset: they are taken to follow each other")
    if len(steps) >= _FEWEST_STEPS and np.ptp(steps) < 0.5 / sfreq_hz:
        raise InputError(
            str(path),
            f"a record begins every {steps.mean():g} s but lasts {record:g} s, although the file is declared "
            f"continuous ({kind})",
            "Correct the record duration in its header, or declare the file discontinuous (+D).",
        )
    return RecordTimes(times, f"the header declares it continuous ({kind}), but its records do not follow each other")


def pieces_of(header: EdfHeader, onsets: Sequence[float], sfreq_hz: float) -> tuple[Piece, ...]:
    """Group records that follow each other into pieces; a record that comes too late or too early starts a new one."""
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
    """Largest error allowed for each step between records: half a sample, or the rounding error of the onsets.

    Onsets are written with a number of decimals (0.333, 0.667 for records of 1/3 s) or of digits (99999.8, 100000).
    """
    texts = [f"{abs(onset):.9f}".rstrip("0") for onset in onsets]
    decimals = max(len(text.partition(".")[2]) for text in texts)
    digits = max(len(text.replace(".", "").lstrip("0")) for text in texts)
    before_point = np.floor(np.log10(np.maximum(np.abs(onsets[1:]), 1e-9))).astype(int) + 1
    units = 10.0 ** -np.minimum(decimals, digits - before_point)
    even = np.abs(record_seconds / units - np.round(record_seconds / units)) < 1e-6
    return np.maximum(0.5 / sfreq_hz, np.where(even, 0.0, units))
