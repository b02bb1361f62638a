"""Any file that MNE reads (EDF, BDF, FIF, BrainVision, EEGLAB, CNT), labelled by file name, annotations or a table."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from storage.errors import InputError
from storage.labels import LabelSet
from storage.readers.base import Listing, RawRecording, RecordingRef, Source
from storage.readers.companions import companions
from storage.readers.label_table import TableLabels
from storage.readers.mne_file import ChannelConfig, Continuous, read_continuous, read_file
from storage.readers.naming import assert_distinct, check_pattern, group_of, list_matching, recording_id
from storage.readers.trials import AnnotationLabels, Stretch, trials_of, whole_pieces
from storage.signal.caps import Cap
from storage.signal.channels import check_renames
from storage.signal.units import Unit

__all__ = ["FilesSource", "companions", "read_file"]


class FilesSource(Source):
    r"""One file per recording; subject, session and label are named groups of a pattern on the file name.

    ``pattern: 'Subject(?P<subject>\d+)_(?P<label>[12])\.edf'`` with
    ``label_of: {'1': rest, '2': mental_arithmetic}``. A file's position in its session follows
    from sorting the session's files by the group ``run``, if there is one, and then by name. Recordings are named
    ``sub-<subject>_ses-<session>_run-<run or position>``: no other part of a file's name reaches the store.
    `labels_from` takes labels from annotations or from a table instead of the name.
    """

    format: Literal["files"] = "files"
    root: Path
    pattern: str = Field(
        description="regular expression with the groups subject, and optionally session, run and label"
    )
    labels: LabelSet
    label_of: dict[str, str] = Field(default_factory=dict)
    crop_seconds: dict[str, tuple[float, float]] = Field(default_factory=dict)
    """Stretch to keep, (start, stop) in seconds, by label in the file name; labels not listed keep the whole file."""
    labels_from: Annotated[AnnotationLabels | TableLabels, Field(discriminator="kind")] | None = None
    unit: Unit | None = None
    """Unit of the files' numbers, if their headers state it wrongly or not at all."""
    montage: Cap | None = None
    """BioSemi cap whose connectors (A1, A2, ...) the channels are named after."""
    rename: dict[str, str] = Field(default_factory=dict)
    """Channel name in the files -> name in the 10-05 system, or `drop`."""

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
    def _known_labels(self) -> "FilesSource":
        given = self.labels_from.label_of.values() if self.labels_from else ()
        check_labels(self.labels, [*self.label_of.values(), *self.crop_seconds, *given])
        for label, (start, stop) in self.crop_seconds.items():
            if not 0 <= start < stop:
                raise ValueError(f"crop_seconds of {label}: {start}..{stop} s is not a valid stretch")
        if self.labels_from and ("(?P<label>" in self.pattern or self.label_of or self.crop_seconds):
            raise ValueError(
                "take labels from the file name (label, label_of, crop_seconds) or from labels_from, not both"
            )
        return self

    @property
    def label_set(self) -> LabelSet:
        """The label set given in the spec."""
        return self.labels

    def list_recordings(self) -> list[RecordingRef]:
        """Match the files of the folder, subfolders included, against the pattern."""
        return self.listing().refs

    def listing(self) -> Listing:
        """Match the files against the pattern; files that are read as part of another one are left out."""
        found = list_matching(self.root, self.pattern)
        return (
            found if not isinstance(self.labels_from, TableLabels) else replace(found, refs=self._by_table(found.refs))
        )

    def _by_table(self, refs: list[RecordingRef]) -> list[RecordingRef]:
        assert isinstance(self.labels_from, TableLabels)
        table = self.labels_from
        stated: list[RecordingRef] = []
        for ref in refs:
            subject = table.entity(self.root, ref.path, "subject") or ref.subject
            session = table.entity(self.root, ref.path, "session") or ref.session
            position = 1 + sum((other.subject, other.session) == (subject, session) for other in stated)
            run = group_of(self.pattern, ref.path, "run") or position
            name = recording_id(subject, session, run, ref.path)
            stated.append(RecordingRef(name, subject, session, ref.path, position))
        assert_distinct(stated)
        return stated

    def read(self, ref: RecordingRef) -> RawRecording:
        """Read one file: as one trial labelled by its name, or with the trials that `labels_from` defines."""
        file = read_continuous(ref.path, ChannelConfig(unit=self.unit, montage=self.montage, rename=self.rename))
        if self.labels_from is None:
            return one_trial(file, ref, self._label(ref), self.crop_seconds)
        if isinstance(self.labels_from, TableLabels):
            stretches = self.labels_from.stretches(self.root, ref.path, file)
            for stretch in stretches:
                require_label(self.labels, stretch.label, str(self.labels_from.file(self.root)), "labels_from.label_of")
        else:
            stretches = self.labels_from.stretches(file, str(ref.path))
        return trials_of(file, stretches, ref)

    def files_of(self, ref: RecordingRef) -> tuple[Path, ...]:
        """Return the file, the companion files of its format (BrainVision, EEGLAB), and the label table."""
        table = (self.labels_from.file(self.root),) if isinstance(self.labels_from, TableLabels) else ()
        return (ref.path, *companions(ref.path), *table)

    def _label(self, ref: RecordingRef) -> str | None:
        return label_by_name(self.pattern, self.label_of, self.labels, ref.path)


def check_labels(labels: LabelSet, words: list[str]) -> None:
    """Raise `ValueError` for a label outside the label set."""
    for label in words:
        if label not in labels.names:
            raise ValueError(f"label {label!r} is not one of {', '.join(labels.names)}")


def require_label(labels: LabelSet, label: str | None, place: str, field: str) -> None:
    """Raise `InputError` for a label outside the label set."""
    if label is not None and label not in labels.names:
        raise InputError(place, f"label {label!r} is not in {labels.names}", f"Correct `source.{field}`.")


def label_by_name(pattern: str, label_of: dict[str, str], labels: LabelSet, path: Path) -> str | None:
    """Label that the group ``label`` finds in a file's name; None without such a group."""
    word = group_of(pattern, path, "label")
    label = None if word is None else label_of.get(word, word)
    require_label(labels, label, str(path), "label_of")
    return label


def one_trial(
    file: Continuous, ref: RecordingRef, label: str | None, crop_seconds: dict[str, tuple[float, float]]
) -> RawRecording:
    """Make the whole file one trial (one per piece), or only the stretch that `crop_seconds` gives for its label."""
    if (label or "") not in crop_seconds:
        provenance = file.provenance | {"start_seconds": 0.0}
        return whole_pieces(replace(file, provenance=provenance), label, ref)
    start, stop = crop_seconds[label or ""]
    if stop > file.end + 0.5 / file.sfreq_hz:
        raise InputError(str(ref.path), f"ends before {stop} s", f"Shorten `source.crop_seconds` of {label}.")
    inside = []
    for piece in file.pieces:
        first, last = max(0, piece.sample(start)), min(piece.sample(stop), piece.num_samples)
        if first < last:
            inside.append(piece.part(piece.start + first, piece.start + last))
    if not inside:
        raise InputError(
            str(ref.path),
            f"nothing was recorded from {start} to {stop} s",
            f"Correct `source.crop_seconds` of {label}.",
        )
    kept = replace(file, pieces=tuple(inside), provenance=file.provenance | {"start_seconds": start})
    return trials_of(kept, [Stretch(inside[0].onset, inside[-1].end, label, ref.position)], ref)
