"""Recordings stored as text tables: one row per sample, one column per channel."""

import csv
import re
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import pandas as pd
from pydantic import Field, PositiveFloat, field_validator, model_validator

from storage.errors import InputError
from storage.labels import LabelSet
from storage.readers.base import Listing, RawRecording, RecordingRef, Source, assert_there
from storage.readers.clock import TimeUnit, pieces_by_time, seconds_of
from storage.readers.files import check_labels, label_by_name, one_trial, require_label
from storage.readers.label_table import TableLabels
from storage.readers.mne_file import Continuous
from storage.readers.naming import check_pattern, list_matching
from storage.readers.notes import Annotation, annotation
from storage.readers.text import encoding_of
from storage.readers.timeline import Piece
from storage.readers.trials import EventLabels, trials_of
from storage.signal.caps import Cap
from storage.signal.channels import check_renames, select_eeg
from storage.signal.units import UV_PER, Unit, assert_plausible

_LOOKED_AT = 1 << 18
_MOST_LINES = 200
_DECIMAL_COMMA = re.compile(r"[+-]?\d*,\d+([eE][+-]?\d+)?")
_NUMBER = re.compile(r"[+-]?(\d+([.,]\d*)?|[.,]\d+)([eE][+-]?\d+)?")
_DESCRIBED = re.compile(r"[A-Za-z][\w ]*:.*")


class MarkerLabels(EventLabels):
    """Labels from a column: each run of equal values is one annotation."""

    kind: Literal["markers"] = "markers"
    column: str


class CsvSource(Source):
    """One text table per recording, named and labelled by a pattern as in `FilesSource`.

    With a `time_column`, the sampling rate is derived from it (give `sfreq_hz` if it is not a whole number of Hz within
    0.1 %), and a recording is cut where time jumps. Without one, `sfreq_hz` is required and rows are taken to follow
    each other. Columns named after an electrode are channels; `rename` maps others to electrodes.
    """

    format: Literal["csv"] = "csv"
    root: Path
    pattern: str = Field(
        description="regular expression with the groups subject, and optionally session, run and label"
    )
    labels: LabelSet
    unit: Unit
    """Unit of the numbers."""
    separator: str = Field(",", min_length=1)
    columns: tuple[str, ...] | None = None
    """Names of all columns, replacing those in the first line."""
    header: bool = True
    """Whether the first line holds the column names."""
    time_column: str | None = None
    time_unit: TimeUnit = "s"
    jitter_seconds: float = Field(0.0, ge=0, le=1)
    """Largest error of a time stamp in seconds, for devices that deliver in bursts; 0: time must rise in every row."""
    gap_seconds: PositiveFloat | None = None
    """Longest step in seconds that is not a gap; null: one and a half samples plus twice the jitter."""
    sfreq_hz: PositiveFloat | None = None
    label_of: dict[str, str] = Field(default_factory=dict)
    crop_seconds: dict[str, tuple[float, float]] = Field(default_factory=dict)
    """Stretch to keep, (start, stop) in seconds, by label in the file name; labels not listed keep the whole file."""
    labels_from: Annotated[MarkerLabels | TableLabels, Field(discriminator="kind")] | None = None
    montage: Cap | None = None
    rename: dict[str, str] = Field(default_factory=dict)

    @field_validator("pattern")
    @classmethod
    def _names_subject(cls, pattern: str) -> str:
        return check_pattern(pattern)

    @field_validator("rename")
    @classmethod
    def _electrodes(cls, rename: dict[str, str]) -> dict[str, str]:
        check_renames(rename)
        return rename

    @model_validator(mode="after")
    def _possible(self) -> "CsvSource":
        given = self.labels_from.label_of.values() if self.labels_from else ()
        check_labels(self.labels, [*self.label_of.values(), *self.crop_seconds, *given])
        if self.labels_from and ("(?P<label>" in self.pattern or self.label_of or self.crop_seconds):
            raise ValueError(
                "take labels from the file name (label, label_of, crop_seconds) or from labels_from, not both"
            )
        if self.time_column is None and self.sfreq_hz is None:
            raise ValueError("give a time_column or sfreq_hz")
        if not self.header and self.columns is None:
            raise ValueError("without a header, columns is required")
        return self

    @property
    def label_set(self) -> LabelSet:
        """The label set given in the spec."""
        return self.labels

    def list_recordings(self) -> list[RecordingRef]:
        """Match the files of the folder, subfolders included, against the pattern."""
        return list_matching(self.root, self.pattern).refs

    def listing(self) -> Listing:
        """Match the files against the pattern, and report which are left out."""
        return list_matching(self.root, self.pattern)

    def read(self, ref: RecordingRef) -> RawRecording:
        """Read one table."""
        file = self._continuous(ref.path)
        if self.labels_from is None:
            label = label_by_name(self.pattern, self.label_of, self.labels, ref.path)
            return one_trial(file, ref, label, self.crop_seconds)
        if isinstance(self.labels_from, TableLabels):
            stretches = self.labels_from.stretches(self.root, ref.path, file)
            for stretch in stretches:
                require_label(self.labels, stretch.label, str(self.labels_from.file(self.root)), "labels_from.label_of")
        else:
            stretches = self.labels_from.stretches(file, str(ref.path))
        return trials_of(file, stretches, ref)

    def files_of(self, ref: RecordingRef) -> tuple[Path, ...]:
        """Return the file and the label table."""
        table = (self.labels_from.file(self.root),) if isinstance(self.labels_from, TableLabels) else ()
        return (ref.path, *table)

    def _continuous(self, path: Path) -> Continuous:
        place = str(path)
        marker_column = self.labels_from.column if isinstance(self.labels_from, MarkerLabels) else None
        layout = look_at(path, self.separator, self.columns, self.header)
        table = load_table(path, layout, words=marker_column)
        needed = [self.time_column, marker_column]
        for column in needed:
            if column is not None and column not in table:
                raise InputError(place, f"has no column {column!r}; there are {list(table)[:8]}", "Correct the column.")
        names = [name for name in table if name not in needed]
        rows, channels = select_eeg(names, place, montage=self.montage, rename=self.rename)
        kept = [names[row] for row in rows]
        is_sample = _holds_samples(table, kept)
        samples = table if is_sample.all() else table[is_sample]
        numbers = numeric(samples, kept, place, first_line=layout.first_line)
        signal_uv = np.ascontiguousarray(numbers.to_numpy(np.float64).T) * UV_PER[self.unit]
        pieces: tuple[Piece, ...]
        if self.time_column is None:
            assert self.sfreq_hz is not None  # ensured by the validator
            sfreq_hz = self.sfreq_hz
            pieces = _pieces_by_row(is_sample, sfreq_hz)
        else:
            seconds = seconds_of(samples[self.time_column], self.time_unit, place, first_line=layout.first_line)
            sfreq_hz, pieces = pieces_by_time(seconds, self.sfreq_hz, self.jitter_seconds, self.gap_seconds, place)
        stretches = [signal_uv[:, piece.start : piece.stop] for piece in pieces]
        assert_plausible(stretches, sfreq_hz, place, taken=self.unit)
        notes = _runs(table[marker_column], is_sample, pieces) if marker_column is not None else ()
        lost = len(is_sample) - int(is_sample.sum())
        remarks = [*layout.remarks, *([f"{lost:,} rows without any sample are left out"] if lost else [])]
        provenance: dict[str, str | float | list[str] | None] = {
            "reader": f"pandas {pd.__version__}",
            "dropped_channels": [name for name in names if name not in kept],
            "stated_unit": self.unit,
            "montage": self.montage,
            **({"remarks": remarks} if remarks else {}),
        }
        return Continuous(tuple(channels), sfreq_hz, signal_uv, pieces, notes, (), provenance)


@dataclass(frozen=True)
class TableLayout:
    """Layout of a text table: column names, number of lines before the rows, separator, encoding and decimal mark."""

    names: tuple[str, ...]
    skipped: int
    separator: str
    encoding: str
    decimal: str
    remarks: tuple[str, ...]

    @property
    def first_line(self) -> int:
        """Line number of the first row, from 1."""
        return self.skipped + 1


def look_at(path: Path, separator: str, columns: tuple[str, ...] | None, header: bool) -> TableLayout:
    """Detect a table's layout from its first lines.

    Lines before the names are skipped if they begin with ``%`` or ``#`` (OpenBCI) or hold ``key:value`` (Emotiv). A
    comma is the decimal mark if numbers contain one and it does not separate columns.

    Raises
    ------
    InputError
        When the file is missing, empty or not text, or its rows do not have as many fields as there are names, or two
        columns have the same name.
    """
    place = str(path)
    assert_there(path)
    if not path.is_file():
        raise InputError(place, "is a folder" if path.is_dir() else "no such file", "Correct the path.")
    with path.open("rb") as file:
        content = file.read(_LOOKED_AT)
    try:
        encoding = encoding_of(content)
        text = content.decode(encoding, errors="ignore")
        lines = list(csv.reader(text.splitlines()[:_MOST_LINES], delimiter=separator, skipinitialspace=True))
    except (ValueError, csv.Error):
        raise InputError(place, "is not a text table", "Save it as CSV in UTF-8.") from None
    before = _lines_before(lines, header)
    rows = lines[before + int(header) :]
    if not rows:
        raise InputError(place, "holds no samples", "Fetch the file again.")
    stated = list(columns) if columns is not None else [name.strip() for name in lines[before]]
    if len(stated) == 1 and (other := next((mark for mark in ";\t,|" if mark in stated[0]), None)):
        raise InputError(
            place,
            f"its columns are separated by {other!r}, not by {separator!r}",
            f"Set `source.separator: {other!r}`.",
        )
    if len(stated) != len(rows[0]):
        raise InputError(
            place,
            f"has {len(stated)} column names for {len(rows[0])} columns",
            "List all names in `source.columns`, or correct `source.separator`.",
        )
    if twice := [name for name in stated if stated.count(name) > 1]:
        raise InputError(place, f"two columns are named {twice[0]!r}", "Give different names in `source.columns`.")
    comma = separator != "," and any(_DECIMAL_COMMA.fullmatch(cell.strip()) for row in rows for cell in row)
    remarks = [f"{before} lines before the names are skipped"] if before else []
    remarks += ["numbers have a decimal comma"] if comma else []
    skipped = before + int(header)
    return TableLayout(tuple(stated), skipped, separator, encoding, "," if comma else ".", tuple(remarks))


def _lines_before(lines: list[list[str]], header: bool) -> int:
    """Number of lines before the table: comments and a device's self-description; the names belong to the table."""
    before = 0
    while before < len(lines) and (not lines[before] or lines[before][0].lstrip().startswith(("%", "#"))):
        before += 1
    may_be_names = header and 0 < before < len(lines) and len(lines[before - 1]) == len(lines[before]) > 1
    if may_be_names and any(_NUMBER.fullmatch(cell.strip()) for cell in lines[before]):
        return before - 1  # the names are on a comment line
    if before < len(lines):
        cells = [cell.strip() for cell in lines[before] if cell.strip()]
        described = sum(bool(_DESCRIBED.fullmatch(cell)) for cell in cells)
        if described >= max(2, len(cells) / 2) and before + 1 < len(lines):
            before += 1
    return before


def load_table(path: Path, layout: TableLayout, *, words: str | None = None) -> pd.DataFrame:
    """Read a text table; a column becomes numbers only if all of its values are, and the column `words` stays text.

    Raises
    ------
    InputError
        When its lines have different numbers of fields, or the file is not text.
    """
    try:
        return pd.read_csv(
            path,
            sep=layout.separator,
            names=list(layout.names),
            skiprows=layout.skipped,
            header=None,
            index_col=False,
            skipinitialspace=True,
            skip_blank_lines=False,
            keep_default_na=False,
            na_values={name: ["", "NaN", "nan"] for name in layout.names if name != words},
            dtype={words: str} if words in layout.names else None,
            decimal=layout.decimal,
            encoding=layout.encoding,
            low_memory=False,
        )
    except UnicodeDecodeError:
        further = {"utf-8-sig": "cp1252", "cp1252": "latin1"}.get(layout.encoding)  # the first lines were plain ASCII
        if further is None:
            raise InputError(str(path), "is not a text table", "Save it as CSV in UTF-8.") from None
        return load_table(path, replace(layout, encoding=further), words=words)
    except (ValueError, pd.errors.ParserError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(
            str(path),
            f"is not a complete table ({reason})",
            "Correct `source.separator` or that line, or fetch the file again.",
        ) from None


def numeric(table: pd.DataFrame, names: list[str], place: str, *, first_line: int) -> pd.DataFrame:
    """Convert columns to numbers; raises `InputError` naming the line of the first value that is not finite."""
    numbers = table[names].apply(pd.to_numeric, errors="coerce")
    bad = ~np.isfinite(numbers.to_numpy(np.float64))
    if bad.any():
        row, column = (int(index) for index in np.argwhere(bad)[0])
        raise InputError(
            place,
            f"{int(bad.sum())} samples are missing or not numbers (first: {names[column]}, "
            f"line {int(table.index[row]) + first_line})",
            "Repair the file, or leave the column out: `source.rename: {column: drop}`.",
        )
    return numbers


def _holds_samples(table: pd.DataFrame, names: list[str]) -> np.ndarray:
    """Mark the rows that are samples: some devices write events as rows of their own (Mind Monitor)."""
    missing = table[names].isna().to_numpy()
    alone = missing.all(axis=1)
    return np.ones(len(table), dtype=bool) if alone.all() else ~alone


def _pieces_by_row(is_sample: np.ndarray, sfreq_hz: float) -> tuple[Piece, ...]:
    """Pieces of a table without times: rows follow each other, and a row without any sample is a gap."""
    rows = np.flatnonzero(is_sample)
    edges = [0, *(np.flatnonzero(np.diff(rows) > 1) + 1).tolist(), len(rows)]
    return tuple(
        Piece(start, stop, float(rows[start] - rows[0]) / sfreq_hz, (stop - start) / sfreq_hz)
        for start, stop in pairwise(edges)
    )


def _runs(values: pd.Series, is_sample: np.ndarray, pieces: tuple[Piece, ...]) -> tuple[Annotation, ...]:
    """Make one annotation of each run of equal words, from its first sample to the end of its last one."""
    words = values.fillna("").astype(str).str.strip().to_numpy(dtype=object)
    edges = [0, *(np.flatnonzero(words[1:] != words[:-1]) + 1).tolist(), len(words)]
    before = np.concatenate([[0], np.cumsum(is_sample)])
    found = []
    for start, stop in pairwise(edges):
        if words[start] == "":
            continue
        first, last = int(before[start]), int(before[stop])
        onset = _second(pieces, first)
        found.append(
            annotation(onset, _second(pieces, last, of_end=True) - onset if last > first else 0.0, words[start])
        )
    return tuple(found)


def _second(pieces: tuple[Piece, ...], sample: int, *, of_end: bool = False) -> float:
    """Recording time of a sample of the file or, with `of_end`, of the end of the previous sample."""
    for piece in pieces:
        if piece.start <= sample < piece.stop or (of_end and piece.start < sample <= piece.stop):
            return piece.onset + (sample - piece.start) * piece.seconds / piece.num_samples
    return pieces[-1].end
