"""SEED-V as its authors distribute it: `EEG_raw/{subject}_{session}_{date}.cnt`."""

import re
from pathlib import Path
from typing import Literal

from storage.datasets.seed import SEED_V_LABELS, SEED_V_STARTS, SEED_V_STOPS
from storage.errors import InputError
from storage.labels import SEED_V, LabelSet
from storage.readers.base import RawRecording, RecordingRef, Source, TrialSpan
from storage.readers.clips import assert_published
from storage.readers.cnt import SFREQ_HZ, cnt_files, read_cnt
from storage.signal import SEED_CHANNELS

FOLDER = "EEG_raw"
TIMES = "trial_start_end_timestamp.txt"


class SeedVSource(Source):
    """SEED-V's raw EEG: one Neuroscan file per subject and session, 62 electrodes at 1000 Hz, continuous.

    Clips lie at published times of the recording; every session shows 15 different clips, numbered 1 to 45 over the
    sessions. The times in `trial_start_end_timestamp.txt`, if it exists, must agree with the published ones. A file
    whose name ends in `_repaired` replaces the one it repairs (the header of subject 7, session 1, is known to be
    broken).
    """

    format: Literal["seed-v"] = "seed-v"
    root: Path

    @property
    def label_set(self) -> LabelSet:
        """SEED-V's five emotions."""
        return SEED_V

    def list_recordings(self) -> list[RecordingRef]:
        """One reference per subject and session."""
        files = cnt_files(self.root / FOLDER, r"(?P<subject>\d+)_(?P<session>[123])_\d{8}(?P<repaired>_repaired)?")
        if not files:
            raise InputError(str(self.root), f"no {FOLDER}/*.cnt", "Point `source.root` at SEED-V's folder.")
        self._assert_times()
        return [
            RecordingRef(f"sub-{subject:02d}_ses-{session}", f"{subject:02d}", str(session), path)
            for (subject, session), path in sorted(files.items())
        ]

    def read(self, ref: RecordingRef) -> RawRecording:
        """Read one session: one piece with 15 trials in it."""
        index = int(ref.session) - 1
        recording = read_cnt(ref.path)
        starts, stops, labels = SEED_V_STARTS[index], SEED_V_STOPS[index], SEED_V_LABELS[index]
        last = round(stops[-1] * SFREQ_HZ)
        if (length := recording.signal_uv.shape[1]) < last:
            raise InputError(
                str(ref.path),
                f"lasts {length / SFREQ_HZ:g} s, but its last clip ends at {stops[-1]} s",
                "Fetch the file again.",
            )
        trials = [
            TrialSpan(
                piece=0,
                start=round(start * SFREQ_HZ),
                stop=round(stop * SFREQ_HZ),
                trial=position,
                position=position,
                clip=index * len(labels) + position,
                label=label,
            )
            for position, (start, stop, label) in enumerate(zip(starts, stops, labels, strict=True), start=1)
        ]
        return RawRecording(
            SEED_CHANNELS,
            SFREQ_HZ,
            [recording.signal_uv],
            trials,
            bads=recording.bads,
            provenance=recording.provenance | {"trials_from": "published times"},
        )

    def _assert_times(self) -> None:
        path = self.root / TIMES
        if not path.exists():
            return
        blocks = re.findall(
            r"Session\s*([123]):\s*start_second:\s*\[([^\]]*)\]\s*end_second:\s*\[([^\]]*)\]",
            path.read_text(encoding="utf-8", errors="replace"),
        )
        if [session for session, _, _ in blocks] != ["1", "2", "3"]:
            raise InputError(str(path), "does not list starts and ends of sessions 1, 2, 3", "Use the original file.")
        for session, starts, stops in blocks:
            for what, text, published in (("start", starts, SEED_V_STARTS), ("end", stops, SEED_V_STOPS)):
                found = [int(word) for word in re.findall(r"\d+", text)]
                assert_published(path, found, published[int(session) - 1], f"session {session} {what}")
