"""Samples as text: one row per sample, one column per channel."""

import csv
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import pandas as pd
from pydantic import Field, PositiveFloat, field_validator, model_validator

from storage.errors import InputError
from storage.labels import LabelSet
from storage.readers.base import RawRecording, RecordingRef, Source
from storage.readers.clock import TimeUnit, pieces_by_time, seconds_of
from storage.readers.files import check_labels, label_by_name, one_trial, require_label
from storage.readers.label_table import TableLabels
from storage.readers.mne_file import Annotation, Continuous
from storage.readers.naming import check_pattern, list_matching
from storage.readers.trials import EventLabels, trials_of
from storage.signal.caps import Cap
from storage.signal.channels import check_renames, select_eeg
from storage.signal.units import UV_PER, Unit, assert_plausible


class MarkerLabels(EventLabels):
    """Labels from a column: each run of one value is an annotation, as long as the value stays."""

    kind: Literal["markers"] = "markers"
    column: str


class CsvSource(Source):
    """One text table per recording, named and labelled by a pattern as in `FilesSource`.

    With a `time_column` the sampling rate follows from it (a whole number of Hz within 0.1 %, or state `sfreq_hz`),
    and a recording is cut where time jumps; without one, `sfreq_hz` is stated and rows are taken to follow each other.
    Columns with the name of an electrode are channels; `rename` names the others.
    """

    format: Literal["csv"] = "csv"
    root: Path
    pattern: str = Field(
        description="regular expression with the groups subject, and optionally session, run and label"
    )
    labels: LabelSet
    unit: Unit
    """What the numbers are in."""
    separator: str = Field(",", min_length=1)
    columns: tuple[str, ...] | None = None
    """Names of all columns, in place of those of the first line."""
    header: bool = True
    """Whether the first line holds names."""
    time_column: str | None = None
    time_unit: TimeUnit = "s"
    jitter_seconds: float = Field(0.0, ge=0, le=1)
    """How far a time stamp may be off, of devices that deliver in bursts; 0: time must rise from row to row."""
    gap_seconds: PositiveFloat | None = None
    """Longest step without a cut; null: one and a half samples, and twice the jitter."""
    sfreq_hz: PositiveFloat | None = None
    label_of: dict[str, str] = Field(default_factory=dict)
    crop_seconds: dict[str, tuple[float, float]] = Field(default_factory=dict)
    """Stretch (start, stop) in seconds to keep, by label of the name; the whole file where a label is not named."""
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
            raise ValueError("labels come from the file name (label, label_of, crop_seconds) or from labels_from")
        if self.time_column is None and self.sfreq_hz is None:
            raise ValueError("name a time_column, or state sfreq_hz")
        if not self.header and self.columns is None:
            raise ValueError("without a header, state columns")
        return self

    @property
    def label_set(self) -> LabelSet:
        """The label set given in the spec."""
        return self.labels

    def list_recordings(self) -> list[RecordingRef]:
        """Match the files of the folder, subfolders included, against the pattern."""
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
        table = load_table(path, self.separator, self.columns, self.header)
        needed = [self.time_column, self.labels_from.column if isinstance(self.labels_from, MarkerLabels) else None]
        for column in needed:
            if column is not None and column not in table:
                raise InputError(place, f"has no column {column!r}; there are {list(table)[:8]}", "Correct the column.")
        names = [name for name in table if name not in needed]
        rows, channels = select_eeg(names, place, montage=self.montage, rename=self.rename)
        kept = [names[row] for row in rows]
        numbers = numeric(table, kept, place, first_line=1 + self.header)
        signal_uv = np.ascontiguousarray(numbers.to_numpy(np.float64).T) * UV_PER[self.unit]
        if self.time_column is None:
            assert self.sfreq_hz is not None  # the validator's
            sfreq_hz = self.sfreq_hz
            pieces: tuple[tuple[int, int], ...] = ((0, signal_uv.shape[1]),)
        else:
            seconds = seconds_of(table[self.time_column], self.time_unit, place, first_line=1 + self.header)
            sfreq_hz, pieces = pieces_by_time(seconds, self.sfreq_hz, self.jitter_seconds, self.gap_seconds, place)
        assert_plausible([signal_uv[:, one:two] for one, two in pieces], sfreq_hz, place, taken=self.unit)
        notes = _runs(table[needed[1]]) if needed[1] is not None else ()
        provenance: dict[str, str | float | list[str] | None] = {
            "reader": f"pandas {pd.__version__}",
            "dropped_channels": [name for name in names if name not in kept],
            "stated_unit": self.unit,
            "montage": self.montage,
        }
        return Continuous(tuple(channels), sfreq_hz, signal_uv, pieces, notes, (), provenance)


def load_table(path: Path, separator: str, columns: tuple[str, ...] | None, header: bool) -> pd.DataFrame:
    """Read a text table; every value stays text unless all of its column are numbers.

    Raises
    ------
    InputError
        When there is no such file, it is empty, or its lines have another number of fields than there are names.
    """
    place = str(path)
    if not path.is_file():
        raise InputError(place, "is a folder" if path.is_dir() else "no such file", "Correct the path.")
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = csv.reader(file, delimiter=separator, skipinitialspace=True)
            names = [name.strip() for name in next(lines, [])] if header else []
            first = next(lines, None)
    except (UnicodeDecodeError, csv.Error):
        raise InputError(place, "is no text table", "Save it as CSV in UTF-8.") from None
    if first is None:
        raise InputError(place, "holds no sample", "Fetch the file again.")
    stated = list(columns) if columns is not None else names
    if len(stated) != len(first):
        raise InputError(
            place, f"{len(stated)} column names for {len(first)} columns", "State all names in `source.columns`."
        )
    if twice := [name for name in stated if stated.count(name) > 1]:
        raise InputError(place, f"two columns are named {twice[0]!r}", "State other names in `source.columns`.")
    try:
        return pd.read_csv(
            path,
            sep=separator,
            names=stated,
            skiprows=int(header),
            header=None,
            index_col=False,
            skipinitialspace=True,
            skip_blank_lines=False,
            encoding="utf-8-sig",
            low_memory=False,
        )
    except (ValueError, pd.errors.ParserError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(place, f"is no whole table ({reason})", "Fetch the file again.") from None


def numeric(table: pd.DataFrame, names: list[str], place: str, *, first_line: int) -> pd.DataFrame:
    """Columns as numbers; raises `InputError` at the first value that is none, naming its line."""
    numbers = table[names].apply(pd.to_numeric, errors="coerce")
    bad = ~np.isfinite(numbers.to_numpy(np.float64))
    if bad.any():
        row, column = (int(index) for index in np.argwhere(bad)[0])
        raise InputError(
            place,
            f"{int(bad.sum())} samples are missing or no numbers (first: {names[column]}, line {row + first_line})",
            "Repair the file, or leave the column out: `source.rename: {column: drop}`.",
        )
    return numbers


def _runs(values: pd.Series) -> tuple[Annotation, ...]:
    words = [f"{value:g}" if isinstance(value, float) else str(value).strip() for value in values.tolist()]
    edges = [0, *(row for row in range(1, len(words)) if words[row] != words[row - 1]), len(words)]
    return tuple(
        Annotation(start, stop - start, words[start]) for start, stop in pairwise(edges) if words[start] != "nan"
    )
