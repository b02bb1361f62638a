"""BIDS-EEG: files are read by the reader of their format, combined with the side-car tables; mne-bids parses names."""

import io
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from storage.errors import InputError
from storage.labels import LabelSet
from storage.readers.base import Listing, RawRecording, RecordingRef, Source, assert_there, is_there
from storage.readers.companions import companions
from storage.readers.files import check_labels, one_trial, require_label
from storage.readers.mne_file import Beside, ChannelConfig, Continuous, assert_file, read_continuous, reason_of
from storage.readers.naming import assert_distinct, natural
from storage.readers.notes import Annotation, annotation, breaks_of, in_order
from storage.readers.text import read_text
from storage.readers.timeline import cut
from storage.readers.trials import AnnotationLabels, trials_of
from storage.signal.caps import Cap
from storage.signal.channels import check_renames
from storage.signal.units import Unit

_EXTENSIONS = (".edf", ".bdf", ".vhdr", ".set")
_BESIDE_SUBJECTS = ("derivatives", "sourcedata", "code", "stimuli")
"""Folders whose files BIDS does not count as part of the data set."""
_MISSING = ("", "n/a")
_DESCRIBING = ("trial_type", "stim_type", "value")
"""Columns that may describe an event; the first one present is used."""


class TaskLabels(BaseModel):
    """Labels from the task entity of a recording's name."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["task"] = "task"
    label_of: dict[str, str] = Field(default_factory=dict)
    """Task -> label; a task that is not listed is used as the label itself."""


class ParticipantLabels(BaseModel):
    """Labels from a column of ``participants.tsv``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["participants"] = "participants"
    column: str
    label_of: dict[str, str] = Field(default_factory=dict)
    """Value in the column -> label; a value that is not listed is used as the label itself."""


class BidsSource(Source):
    """A BIDS data set's EEG recordings (https://bids-specification.readthedocs.io).

    Recordings are named by their entities (``sub-01_ses-1_task-rest_run-1``). Channels whose status is ``bad`` are
    the recording's bad channels. `labels_from` turns events into trials: `annotations` matches their ``trial_type`` (or
    ``trial_type/value``). Files below ``derivatives``, ``sourcedata``, ``code`` or ``stimuli`` are left out.
    """

    format: Literal["bids"] = "bids"
    root: Path
    tasks: tuple[str, ...] | None = None
    """Tasks to read; null: all."""
    labels: LabelSet
    labels_from: Annotated[AnnotationLabels | TaskLabels | ParticipantLabels, Field(discriminator="kind")] | None = None
    unit: Unit | None = None
    montage: Cap | None = None
    rename: dict[str, str] = Field(default_factory=dict)

    @field_validator("rename")
    @classmethod
    def _electrodes(cls, rename: dict[str, str]) -> dict[str, str]:
        check_renames(rename)
        return rename

    @model_validator(mode="after")
    def _known_labels(self) -> "BidsSource":
        check_labels(self.labels, list(self.labels_from.label_of.values()) if self.labels_from else [])
        return self

    @property
    def label_set(self) -> LabelSet:
        """The label set given in the spec."""
        return self.labels

    def list_recordings(self) -> list[RecordingRef]:
        """Find the EEG recordings of the data set, without derivatives."""
        return self.listing().refs

    def listing(self) -> Listing:
        """Find the EEG recordings of the data set, and report which other EEG files are left out."""
        if not (self.root / "dataset_description.json").is_file():
            raise InputError(
                str(self.root), "has no dataset_description.json", "Point `source.root` at a BIDS data set."
            )
        refs: list[RecordingRef] = []
        for path in sorted(self._found(), key=lambda path: natural(str(path))):
            known = _entities(path)
            if self.tasks is not None and known["task"] not in self.tasks:
                continue
            subject, session = str(known["subject"]), known["session"] or "1"
            position = 1 + sum((ref.subject, ref.session) == (subject, session) for ref in refs)
            entities = {
                "sub": subject,
                "ses": known["session"],
                "task": known["task"],
                "acq": known["acquisition"],
                "run": known["run"],
                "desc": known.get("description"),
            }
            name = "_".join(f"{key}-{value}" for key, value in entities.items() if value)
            refs.append(RecordingRef(name, subject, session, path, position))
        left_out = [
            f"{self.root / folder}: {len(files)} EEG files are not recordings of the data set itself"
            for folder in _BESIDE_SUBJECTS
            if (files := _eeg_files(self.root / folder, "**/*_eeg.*"))
        ]
        if not refs:
            others = f"; {left_out[0]}" if left_out else ""
            raise InputError(
                str(self.root), f"holds no EEG recording{others}", "Correct `source.root` or `source.tasks`."
            )
        assert_distinct(refs, "Distinguish them by their entities: session, task, acq, run or desc.")
        return Listing(refs, tuple(left_out))

    def read(self, ref: RecordingRef) -> RawRecording:
        """Read one recording with its side-cars."""
        file = self._continuous(ref.path)
        if isinstance(self.labels_from, AnnotationLabels):
            return trials_of(file, self.labels_from.stretches(file, str(ref.path)), ref)
        return one_trial(file, ref, self._label(ref), {})

    def files_of(self, ref: RecordingRef) -> tuple[Path, ...]:
        """Return the recording, its companions, its side-cars and, if labels come from it, ``participants.tsv``."""
        beside = [path for suffix in ("channels.tsv", "events.tsv", "eeg.json") if (path := _sidecar(ref.path, suffix))]
        if isinstance(self.labels_from, ParticipantLabels):
            beside.append(self.root / "participants.tsv")
        return (ref.path, *companions(ref.path), *beside)

    def _found(self) -> list[Path]:
        found = _eeg_files(self.root, "sub-*/eeg/*_eeg.*") + _eeg_files(self.root, "sub-*/ses-*/eeg/*_eeg.*")
        for path in found:
            try:
                is_named = path.name.startswith("sub-") and bool(_bids_path(path).task)
                problem = "" if is_named else "no subject or task"
            except (KeyError, ValueError) as error:
                problem = reason_of(error)
            if problem:
                raise InputError(
                    str(path),
                    f"is not named as BIDS requires ({problem})",
                    "Rename it (sub-01_task-rest_run-1_eeg.edf), or move it out of the data set.",
                )
        return found

    def _continuous(self, path: Path) -> Continuous:
        needed = {"channels.tsv": "channel table", "eeg.json": "description"}
        if isinstance(self.labels_from, AnnotationLabels):
            needed["events.tsv"] = "event table"
        assert_file(path)
        tables = {suffix: _sidecar(path, suffix) for suffix in needed}
        for suffix, what in needed.items():
            if tables[suffix] is None:
                raise InputError(str(path), f"its {what} (*_{suffix}) is missing", "Restore it: BIDS requires it.")
        config = ChannelConfig(unit=self.unit, montage=self.montage, rename=self.rename)
        channels = tables["channels.tsv"]
        assert channels is not None
        file = read_continuous(path, config, _beside(channels))
        events = tables.get("events.tsv") or _sidecar(path, "events.tsv")
        if events is None:
            return file
        told = _events(events)
        if all(
            piece.sample(piece.start / file.sfreq_hz) == 0 for piece in file.pieces
        ):  # its times are counted in samples
            file = replace(file, pieces=cut(file.pieces, *breaks_of(told, file.sfreq_hz, path)))
        return replace(file, annotations=told)

    def _label(self, ref: RecordingRef) -> str | None:
        if self.labels_from is None or isinstance(self.labels_from, AnnotationLabels):
            return None
        if isinstance(self.labels_from, TaskLabels):
            word, place = str(_entities(ref.path).get("task")), str(ref.path)
        else:
            word, place = self._participant(ref, self.labels_from.column), str(self.root / "participants.tsv")
        label = self.labels_from.label_of.get(word, word)
        require_label(self.labels, label, place, "labels_from.label_of")
        return label

    def _participant(self, ref: RecordingRef, column: str) -> str:
        path = self.root / "participants.tsv"
        if not path.is_file():
            raise InputError(str(path), "no such table", "Restore it, or change `source.labels_from`.")
        table = _table(path)
        if missing := [name for name in ("participant_id", column) if name not in table]:
            raise InputError(str(path), f"lacks the column {missing[0]}", "Correct `source.labels_from.column`.")
        words = table.loc[table["participant_id"] == f"sub-{ref.subject}", column]
        if len(words) != 1:
            raise InputError(
                str(path), f"has {len(words)} rows for sub-{ref.subject}", "Give each participant one row."
            )
        return str(words.iloc[0])


def _entities(path: Path) -> dict[str, str | None]:
    from mne_bids import get_entities_from_fname

    found: dict[str, str | None] = get_entities_from_fname(path.name, on_error="ignore")
    return found


def _bids_path(path: Path) -> Any:
    from mne_bids import get_bids_path_from_fname

    return get_bids_path_from_fname(path, check=False)


def _sidecar(path: Path, suffix: str) -> Path | None:
    """Find the closest side-car by BIDS's inheritance principle."""
    kind, extension = suffix.split(".")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = _bids_path(path).find_matching_sidecar(suffix=kind, extension=f".{extension}", on_error="ignore")
    return None if found is None else Path(getattr(found, "fpath", found))


def _eeg_files(folder: Path, pattern: str) -> list[Path]:
    """List the EEG files below a folder, broken links included, so that reading them reports the missing content."""
    return [path for path in folder.glob(pattern) if path.suffix in _EXTENSIONS and is_there(path)]


def _table(path: Path) -> pd.DataFrame:
    """Read a BIDS table with every value as text; raises `InputError` if the file is not a table."""
    assert_there(path)
    try:
        table = pd.read_csv(io.StringIO(read_text(path)), sep="\t", dtype=str, keep_default_na=False)
    except ValueError:  # pandas' parser errors, and bytes that are not text
        raise InputError(str(path), "is not a table", "Save it as tab-separated text in UTF-8.") from None
    return table.rename(columns=str.strip).map(str.strip)


def _beside(path: Path) -> Beside:
    """Read types, units and bad channels from ``channels.tsv``, by channel name; row order does not matter."""
    table = _table(path)
    if "name" not in table:
        raise InputError(str(path), "lacks the column name", "Restore it: BIDS requires it.")
    if twice := table["name"][table["name"].duplicated()].tolist():
        raise InputError(str(path), f"lists {twice[0]} twice", "Give each channel one row.")
    rows = table.set_index("name")
    stated = rows["type"].loc[lambda column: ~column.isin(_MISSING)] if "type" in rows else {}
    types = {name: "eeg" if word.upper() == "EEG" else "misc" for name, word in dict(stated).items()}
    units = rows["units"].loc[lambda column: ~column.isin(_MISSING)] if "units" in rows else {}
    bads = rows.index[rows["status"].str.lower() == "bad"] if "status" in rows else []
    return Beside(types, dict(units), frozenset(bads), tuple(rows.index), str(path))


def _events(path: Path) -> tuple[Annotation, ...]:
    """Read ``events.tsv`` as annotations, named by ``trial_type`` or ``trial_type/value``.

    Raises
    ------
    InputError
        When the file is not a table, lacks a column, or has a time that is not a number.
    """
    table = _table(path)
    for column in ("onset", "duration"):
        if column not in table:
            raise InputError(str(path), f"lacks the column {column}", "Restore it: BIDS requires it.")
    described = next((column for column in _DESCRIBING if column in table), None)
    found = []
    for line, row in enumerate(table.to_dict("records"), start=2):
        if row["onset"] in _MISSING:
            continue
        try:
            onset = float(row["onset"])
            seconds = 0.0 if row["duration"] in _MISSING else float(row["duration"])
        except ValueError:
            raise InputError(f"{path}:{line}", "its onset or duration is not a number", "Correct the table.") from None
        word = row[described] if described is not None else ""
        if word in _MISSING:
            continue
        value = row.get("value", "")
        both = (f"{word}/{value}",) if described == "trial_type" and value not in _MISSING else ()
        found.append(annotation(onset, max(0.0, seconds), word, *both))
    return in_order(found)
