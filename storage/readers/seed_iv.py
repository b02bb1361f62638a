"""SEED-IV as its authors distribute it: `eeg_raw_data/{session}/{subject}_{date}.mat`."""

import re
from pathlib import Path
from typing import Literal

from storage.datasets.seed import NUM_SESSIONS, SEED_IV_LABELS
from storage.errors import InputError
from storage.labels import SEED_IV, LabelSet
from storage.readers.base import RawRecording, RecordingRef, Source
from storage.readers.clips import assert_published, clip_recording, load_trials
from storage.signal import SEED_CHANNELS

FOLDER = "eeg_raw_data"
README = "ReadMe.txt"
SFREQ_HZ = 200.0


class SeedIVSource(Source):
    """SEED-IV's EEG: one MAT file per session and subject, 24 clips of (62, T) µV at 200 Hz.

    Every session shows 24 different clips, numbered 1 to 72 over the sessions. The labels in `ReadMe.txt`, if it
    exists, must agree with the published ones.
    """

    format: Literal["seed-iv"] = "seed-iv"
    root: Path

    @property
    def label_set(self) -> LabelSet:
        """SEED-IV's four emotions."""
        return SEED_IV

    def list_recordings(self) -> list[RecordingRef]:
        """One reference per subject and session."""
        found: dict[tuple[int, int], Path] = {}
        for session in range(1, NUM_SESSIONS + 1):
            for path in sorted((self.root / FOLDER / str(session)).glob("*.mat")):
                match = re.fullmatch(r"(\d+)_\d{8}", path.stem)
                if match is None:
                    raise InputError(str(path), "is not named {subject}_{date}.mat", "Move it elsewhere.")
                subject = int(match[1])
                if (subject, session) in found:
                    raise InputError(
                        str(path), f"is a second file of subject {subject} in the session", "Move one of them away."
                    )
                found[subject, session] = path
        if not found:
            problem = f"no {FOLDER}/{{1,2,3}}/*.mat"
            raise InputError(str(self.root), problem, "Point `source.root` at SEED-IV's folder.")
        self._assert_labels()
        return [
            RecordingRef(f"sub-{subject:02d}_ses-{session}", f"{subject:02d}", str(session), path)
            for (subject, session), path in sorted(found.items())
        ]

    def read(self, ref: RecordingRef) -> RawRecording:
        """Read one session's 24 clips."""
        labels = SEED_IV_LABELS[int(ref.session) - 1]
        before = (int(ref.session) - 1) * len(labels)
        return clip_recording(
            load_trials(ref.path, len(labels)),
            range(before + 1, before + len(labels) + 1),
            labels,
            channels=SEED_CHANNELS,
            sfreq_hz=SFREQ_HZ,
            provenance={"reader": "seed-iv", "filter": "1-75 Hz (authors)", "device": "ESI NeuroScan"},
            place=str(ref.path),
        )

    def _assert_labels(self) -> None:
        path = self.root / README
        if not path.exists():
            return
        text = path.read_text(encoding="utf-8", errors="replace")
        for session, digits in re.findall(r"session([123])_label\s*=\s*\[([\d,\s]*)\]", text):
            words = [SEED_IV.names[int(word)] for word in re.findall(r"[0-3]", digits)]
            assert_published(path, words, SEED_IV_LABELS[int(session) - 1], f"session {session} label")
