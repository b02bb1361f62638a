"""BIDS-EEG through mne-bids."""

import warnings
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from storage.errors import InputError
from storage.labels import LabelSet
from storage.readers.base import RawRecording, RecordingRef, Source
from storage.readers.companions import assert_brainvision, companions
from storage.readers.edf import read_header
from storage.readers.files import check_labels, one_trial, require_label
from storage.readers.mne_file import (
    ChannelConfig,
    Continuous,
    assert_file,
    at_native_rate,
    continuous_of,
    reason_of,
    select,
)
from storage.readers.naming import assert_distinct, natural
from storage.readers.trials import AnnotationLabels, trials_of
from storage.signal.caps import Cap
from storage.signal.channels import check_renames
from storage.signal.units import Unit

_EXTENSIONS = (".edf", ".bdf", ".vhdr", ".set")


class TaskLabels(BaseModel):
    """Labels from the task of a recording's name."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["task"] = "task"
    label_of: dict[str, str] = Field(default_factory=dict)
    """Task -> label; a task that is not named is the label."""


class ParticipantLabels(BaseModel):
    """Labels from a column of ``participants.tsv``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["participants"] = "participants"
    column: str
    label_of: dict[str, str] = Field(default_factory=dict)
    """The column's word -> label; a word that is not named is the label."""


class BidsSource(Source):
    """A BIDS data set's EEG recordings (https://bids-specification.readthedocs.io), as mne-bids reads them.

    Recordings are named by their entities (``sub-01_ses-1_task-rest_run-1``). Channels whose status is ``bad`` are
    the recording's bads. Events become trials by `labels_from`: `annotations` matches their ``trial_type``.
    """

    format: Literal["bids"] = "bids"
    root: Path
    tasks: tuple[str, ...] | None = None
    """Tasks to take; null: all."""
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
        """Find the EEG recordings of the data set, derivatives left out."""
        if not (self.root / "dataset_description.json").is_file():
            raise InputError(
                str(self.root), "has no dataset_description.json", "Point `source.root` at a BIDS data set."
            )
        refs: list[RecordingRef] = []
        for path in sorted(self._found(), key=lambda path: natural(str(path.fpath))):
            subject, session = path.subject, path.session or "1"
            position = 1 + sum((ref.subject, ref.session) == (subject, session) for ref in refs)
            entities = {
                "sub": subject,
                "ses": path.session,
                "task": path.task,
                "acq": path.acquisition,
                "run": path.run,
            }
            name = "_".join(f"{key}-{value}" for key, value in entities.items() if value)
            refs.append(RecordingRef(name, subject, session, Path(path.fpath), position))
        if not refs:
            raise InputError(str(self.root), "holds no EEG recording", "Correct `source.root` or `source.tasks`.")
        assert_distinct(refs)
        return refs

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

    def _found(self) -> list[Any]:
        from mne_bids import find_matching_paths

        try:
            found: list[Any] = find_matching_paths(
                self.root, tasks=self.tasks, suffixes="eeg", extensions=list(_EXTENSIONS), datatypes="eeg"
            )
        except (KeyError, ValueError) as error:
            raise InputError(
                str(_misnamed(self.root) or self.root),
                f"is not named as BIDS demands ({reason_of(error)})",
                "Rename it (sub-01_task-rest_run-1_eeg.edf), or move it out of the data set.",
            ) from None
        return found

    def _continuous(self, path: Path) -> Continuous:
        needed = {"channels.tsv": "channel table", "eeg.json": "description"}
        if isinstance(self.labels_from, AnnotationLabels):
            needed["events.tsv"] = "event table"
        assert_file(path)
        for suffix, what in needed.items():
            if _sidecar(path, suffix) is None:
                raise InputError(str(path), f"its {what} (*_{suffix}) is missing", "Restore it: BIDS demands it.")
        header = read_header(path)
        assert_brainvision(path)
        raw = _by_mne_bids(path)
        config = ChannelConfig(unit=self.unit, montage=self.montage, rename=self.rename)
        chosen = select(raw, config, str(path))
        if header is not None:
            if header.discontinuous:
                raise InputError(str(path), "is discontinuous (EDF+D)", "Export it as EDF+C, as BIDS demands.")
            alone = at_native_rate(path, raw, header, chosen)
            if alone is not raw:
                alone.set_meas_date(raw.info["meas_date"])
                alone.set_annotations(raw.annotations)
                alone.info["bads"] = [name for name in raw.info["bads"] if name in alone.ch_names]
            raw = alone
        return continuous_of(raw, chosen, config, path, header)

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
        import pandas as pd

        path = self.root / "participants.tsv"
        if not path.is_file():
            raise InputError(str(path), "no such table", "Restore it, or label by other means.")
        try:
            table = pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False, encoding="utf-8-sig")
        except ValueError:  # pandas' parser errors, and bytes that are no UTF-8
            raise InputError(str(path), "is no table in UTF-8", "Save it as tab-separated text in UTF-8.") from None
        if missing := [name for name in ("participant_id", column) if name not in table]:
            raise InputError(str(path), f"lacks the column {missing[0]}", "Correct `source.labels_from.column`.")
        words = table.loc[table["participant_id"] == f"sub-{ref.subject}", column]
        if len(words) != 1:
            raise InputError(str(path), f"{len(words)} rows for sub-{ref.subject}", "Give it one.")
        return str(words.iloc[0])


def _entities(path: Path) -> dict[str, str | None]:
    from mne_bids import get_entities_from_fname

    found: dict[str, str | None] = get_entities_from_fname(path.name, on_error="ignore")
    return found


def _misnamed(root: Path) -> Path | None:
    """First EEG file whose name mne-bids cannot take apart."""
    for path in sorted(root.glob("**/eeg/*_eeg.*")):
        if path.suffix in _EXTENSIONS:
            try:
                _bids_path(path)
            except (KeyError, ValueError):
                return path
    return None


def _bids_path(path: Path) -> Any:
    from mne_bids import get_bids_path_from_fname

    return get_bids_path_from_fname(path, check=False)


def _sidecar(path: Path, suffix: str) -> Path | None:
    """Nearest side-car by BIDS's inheritance."""
    kind, extension = suffix.split(".")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = _bids_path(path).find_matching_sidecar(suffix=kind, extension=f".{extension}", on_error="ignore")
    return None if found is None else Path(getattr(found, "fpath", found))


def _by_mne_bids(path: Path) -> Any:
    import mne_bids

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return mne_bids.read_raw_bids(_bids_path(path), verbose="error")
    except Exception as error:  # parsers raise whatever the damage leads them to
        raise InputError(
            str(path), f"mne-bids cannot read it ({reason_of(error)})", "Check the data set with the BIDS validator."
        ) from None
