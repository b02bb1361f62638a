"""SEED as its authors distribute it: `Preprocessed_EEG/{subject}_{date}.mat`."""

import re
from pathlib import Path
from typing import Literal

import numpy as np

from storage.datasets.seed import NUM_SESSIONS, SEED_LABELS
from storage.errors import InputError
from storage.labels import SEED, LabelSet
from storage.readers.base import RawRecording, RecordingRef, Source
from storage.readers.clips import assert_published, clip_recording, load_trials
from storage.readers.mat import load_variables
from storage.signal import SEED_CHANNELS

FOLDER = "Preprocessed_EEG"
SFREQ_HZ = 200.0


class SeedSource(Source):
    """SEED's preprocessed EEG: one MAT file per subject and day, 15 clips of (62, T) µV at 200 Hz.

    A subject's three days are its sessions; all show the same 15 clips in the same order. `label.mat`, if it exists,
    must agree with the published labels.
    """

    format: Literal["seed"] = "seed"
    root: Path

    @property
    def label_set(self) -> LabelSet:
        """SEED's three emotions."""
        return SEED

    def list_recordings(self) -> list[RecordingRef]:
        """One reference per subject and day."""
        days: dict[int, list[tuple[str, Path]]] = {}
        for path in sorted((self.root / FOLDER).glob("*.mat")):
            if path.name == "label.mat":
                continue
            match = re.fullmatch(r"(\d+)_(\d{8})", path.stem)
            if match is None:
                raise InputError(str(path), "is not named {subject}_{date}.mat", "Move it elsewhere.")
            days.setdefault(int(match[1]), []).append((match[2], path))
        if not days:
            raise InputError(str(self.root), f"no {FOLDER}/*.mat", "Point `source.root` at SEED's folder.")
        for subject, files in days.items():
            if len(files) != NUM_SESSIONS:
                raise InputError(
                    str(self.root / FOLDER),
                    f"subject {subject} has {len(files)} files; the order of {NUM_SESSIONS} dates gives the sessions",
                    "Fetch the missing ones, or remove the subject.",
                )
        self._assert_labels()
        return [
            RecordingRef(f"sub-{subject:02d}_ses-{session}", f"{subject:02d}", str(session), path)
            for subject in sorted(days)
            for session, (_, path) in enumerate(sorted(days[subject]), start=1)
        ]

    def read(self, ref: RecordingRef) -> RawRecording:
        """Read one session's 15 clips."""
        return clip_recording(
            load_trials(ref.path, len(SEED_LABELS)),
            range(1, len(SEED_LABELS) + 1),
            SEED_LABELS,
            channels=SEED_CHANNELS,
            sfreq_hz=SFREQ_HZ,
            provenance={"reader": "seed", "filter": "0-75 Hz (authors)", "device": "ESI NeuroScan"},
            place=str(ref.path),
        )

    def _assert_labels(self) -> None:
        path = self.root / FOLDER / "label.mat"
        if not path.exists():
            return
        values = load_variables(path, {"label": "label"})
        if "label" not in values:
            raise InputError(str(path), "has no variable label", "Use the original file.")
        words = [{-1: "negative", 0: "neutral", 1: "positive"}.get(value, value) for value in np.ravel(values["label"])]
        assert_published(path, words, SEED_LABELS, "label")
