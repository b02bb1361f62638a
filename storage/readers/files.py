"""Any file that MNE reads (EDF, BDF, FIF, BrainVision, EEGLAB), labelled by its name."""

import re
import warnings
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field, field_validator, model_validator

from storage.channels import select_eeg
from storage.errors import InputError
from storage.labels import LabelSet
from storage.readers.base import RawRecording, RecordingRef, Source, TrialSpan
from storage.readers.edf import assert_whole
from storage.recording import RECORDING_ID

IMPLAUSIBLE_UV = 1e5


class FilesSource(Source):
    r"""One file per recording; subject, session and label are named groups of a pattern on the file name.

    ``pattern: 'Subject(?P<subject>\d+)_(?P<label>[12])\.edf'`` with
    ``label_of: {'1': rest, '2': mental_arithmetic}``. A file's position in its session is its place among the
    session's files in the order of their names.
    """

    format: Literal["files"] = "files"
    root: Path
    pattern: str = Field(description="regular expression with the groups subject, and optionally session and label")
    labels: LabelSet
    label_of: dict[str, str] = Field(default_factory=dict)
    crop_seconds: dict[str, tuple[float, float]] = Field(default_factory=dict)
    """Stretch (start, stop) in seconds to keep, by label; the whole file where a label is not named."""

    @field_validator("pattern")
    @classmethod
    def _names_subject(cls, pattern: str) -> str:
        try:
            groups = re.compile(pattern).groupindex
        except re.error as error:
            raise ValueError(f"not a regular expression: {error}") from error
        if "subject" not in groups:
            raise ValueError("needs a group (?P<subject>...)")
        return pattern

    @model_validator(mode="after")
    def _known_labels(self) -> "FilesSource":
        for label in [*self.label_of.values(), *self.crop_seconds]:
            if label not in self.labels.names:
                raise ValueError(f"label {label!r} is not one of {', '.join(self.labels.names)}")
        for label, (start, stop) in self.crop_seconds.items():
            if not 0 <= start < stop:
                raise ValueError(f"crop_seconds of {label}: {start}..{stop} is no stretch")
        return self

    @property
    def label_set(self) -> LabelSet:
        """The label set given in the spec."""
        return self.labels

    def list_recordings(self) -> list[RecordingRef]:
        """Match the files of the folder, subfolders included, against the pattern."""
        refs: list[RecordingRef] = []
        places: Counter[tuple[str, str]] = Counter()
        for path in sorted(self.root.glob("**/*"), key=lambda path: (path.name, path)):
            match = re.fullmatch(self.pattern, path.name)
            if match and path.is_file():
                subject, session = match["subject"], match.groupdict().get("session") or "1"
                places[subject, session] += 1
                refs.append(_reference(path, subject, session, places[subject, session]))
        doubles = Counter(ref.recording_id for ref in refs)
        for ref in refs:
            if doubles[ref.recording_id] > 1:
                raise InputError(
                    str(ref.path),
                    "another file has the same name without extension",
                    "Rename one, or narrow `source.pattern`.",
                )
        if not refs:
            raise InputError(
                str(self.root),
                f"no file matches {self.pattern!r}",
                "Correct `source.root` or `source.pattern`.",
            )
        return refs

    def read(self, ref: RecordingRef) -> RawRecording:
        """Read one file as one trial: all of it, or the stretch that `crop_seconds` names for its label."""
        label = self._label(ref)
        raw = read_file(ref.path)
        signal = raw.pieces[0]
        start, stop = self.crop_seconds.get(label or "", (0.0, signal.shape[1] / raw.sfreq_hz))
        first, last = round(start * raw.sfreq_hz), round(stop * raw.sfreq_hz)
        if last > signal.shape[1]:
            raise InputError(str(ref.path), f"ends before {stop} s", f"Shorten `source.crop_seconds` of {label}.")
        span = TrialSpan(
            piece=0,
            start=0,
            stop=last - first,
            trial=ref.position,
            position=ref.position,
            clip=ref.position,
            label=label,
        )
        provenance = raw.provenance | {"start_seconds": start}
        return replace(raw, pieces=[signal[:, first:last]], trials=[span], provenance=provenance)

    def files_of(self, ref: RecordingRef) -> tuple[Path, ...]:
        """Return the file and those that its format keeps beside it (BrainVision, EEGLAB)."""
        return (ref.path, *companions(ref.path))

    def _label(self, ref: RecordingRef) -> str | None:
        match = re.fullmatch(self.pattern, ref.path.name)
        word = match.groupdict().get("label") if match else None
        if word is None:
            return None
        label = self.label_of.get(word, word)
        if label not in self.labels.names:
            raise InputError(
                str(ref.path), f"label {label!r} is not in {self.labels.names}", "Correct `source.label_of`."
            )
        return label


def _reference(path: Path, subject: str, session: str, position: int) -> RecordingRef:
    if not re.fullmatch(RECORDING_ID, path.stem):
        raise InputError(
            str(path), "its name becomes the recording's and may hold A-Z a-z 0-9 . _ - only", "Rename it."
        )
    return RecordingRef(path.stem, subject, session, path, position)


def companions(path: Path) -> tuple[Path, ...]:
    """Files that hold the samples or markers of a header file, as far as they are there."""
    names = [f"{path.stem}.fdt"] if path.suffix.lower() == ".set" else []
    if path.suffix.lower() == ".vhdr":
        header = path.read_text(encoding="utf-8", errors="replace")
        named = re.findall(r"^(?:DataFile|MarkerFile)=(.+)$", header, flags=re.MULTILINE)
        names = [name.strip().replace("$b", path.stem) for name in named]
    return tuple(beside for name in names if (beside := path.with_name(Path(name).name)).is_file())


def read_file(path: Path) -> RawRecording:
    """Read one recording with MNE: scalp EEG channels only, in µV, without the header's personal fields.

    Raises
    ------
    InputError
        When the file is cut off, MNE cannot read it, no channel is a scalp electrode, or amplitudes are not
        those of EEG.
    """
    import mne

    if not path.exists():
        raise InputError(str(path), "no such file", "Correct the path.")
    assert_whole(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            raw = mne.io.read_raw(path, preload=True, verbose="error")
    except Exception as error:  # MNE's parsers raise whatever the damage leads them to
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise InputError(str(path), f"MNE cannot read it ({reason})", "Convert it to EDF or FIF.") from error
    rows, channels = select_eeg(raw.ch_names, str(path))
    dropped = [name for row, name in enumerate(raw.ch_names) if row not in rows]
    provenance: dict[str, str | float | list[str] | None] = {
        "reader": f"mne {mne.__version__}",
        "highpass_hz": float(raw.info["highpass"]),
        "lowpass_hz": float(raw.info["lowpass"]),
        "dropped_channels": dropped,
    }
    signal_uv = raw.get_data(picks=rows) * 1e6
    if (typical := float(np.median(signal_uv.std(axis=1)))) > IMPLAUSIBLE_UV:
        raise InputError(
            str(path),
            f"a typical channel varies by {typical:.3g} µV",
            "Write the unit into the file's header.",
        )
    span = TrialSpan(piece=0, start=0, stop=signal_uv.shape[1], trial=1, position=1, clip=1, label=None)
    return RawRecording(tuple(channels), float(raw.info["sfreq"]), [signal_uv], [span], provenance=provenance)
