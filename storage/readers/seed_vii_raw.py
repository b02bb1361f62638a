"""SEED-VII's raw recordings: `EEG_raw/{subject}_{YYYYMMDD}_{session}.cnt`."""

from datetime import datetime
from pathlib import Path
from typing import Literal

from storage.datasets.seed_vii import CLIP_LABELS, TRIALS_PER_SESSION, clip_of
from storage.errors import InputError
from storage.labels import SEED_VII, LabelSet
from storage.readers.base import RawRecording, RecordingRef, Source, TrialSpan
from storage.readers.cnt import SFREQ_HZ, CntRecording, cnt_files, read_cnt
from storage.readers.seed_vii import WORKBOOK, assert_workbook, continuous_labels, load_intensities
from storage.readers.triggers import START, STOP, Mark, from_table, in_turn, read_trigger_table
from storage.signal import SEED_CHANNELS

FOLDER = "EEG_raw"
TABLES = "save_info"
RECORDING_STARTS = {
    "14_20221015_1": datetime(2022, 10, 15, 14, 25, 34),
    "9_20221111_3": datetime(2022, 11, 11, 14, 1, 27),
}
"""Start times of the two recordings whose triggers are documented as unusable; their trigger tables replace them."""


class SeedVIIRawSource(Source):
    """SEED-VII's raw EEG: one Neuroscan file per subject and session, 62 electrodes at 1000 Hz, continuous.

    One recording is one session: one piece with 20 trials in it. Trials lie between the triggers 1 and 2. If these are
    not 20 pairs, and always for the two recordings that the authors name, the rows of
    `save_info/{name}_trigger_info.csv` are used instead, timed from the start of the recording.
    """

    format: Literal["seed-vii-raw"] = "seed-vii-raw"
    root: Path

    @property
    def label_set(self) -> LabelSet:
        """SEED-VII's seven emotions."""
        return SEED_VII

    def list_recordings(self) -> list[RecordingRef]:
        """One reference per subject and session; the user's workbook must agree with the published order."""
        files = cnt_files(self.root / FOLDER, r"(?P<subject>\d+)_\d{8}_(?P<session>[1-4])")
        if not files:
            raise InputError(str(self.root), f"no {FOLDER}/*.cnt", "Point `source.root` at SEED-VII's folder.")
        assert_workbook(self.root / WORKBOOK)
        return [
            RecordingRef(f"sub-{subject:02d}_ses-{session}", f"{subject:02d}", str(session), path)
            for (subject, session), path in sorted(files.items())
        ]

    def read(self, ref: RecordingRef) -> RawRecording:
        """Read one session, with its continuous labels if they exist."""
        recording = read_cnt(ref.path)
        marks, trials_from = self._marks(ref.path, recording)
        clips = [clip_of(int(ref.session), position) for position in range(1, TRIALS_PER_SESSION + 1)]
        labels = continuous_labels(self.root, ref.subject)
        intensities = load_intensities(labels, clips) if labels.exists() else {}
        samples = [round(second * SFREQ_HZ) for second, _ in marks]
        self._require_inside(ref.path, samples, recording.signal_uv.shape[1])
        trials = [
            TrialSpan(
                piece=0,
                start=samples[2 * index],
                stop=samples[2 * index + 1],
                trial=index + 1,
                position=index + 1,
                clip=clip,
                label=CLIP_LABELS[clip - 1],
                intensity=intensities.get(clip),
            )
            for index, clip in enumerate(clips)
        ]
        provenance = recording.provenance | {"trials_from": trials_from}
        return RawRecording(
            SEED_CHANNELS, SFREQ_HZ, [recording.signal_uv], trials, bads=recording.bads, provenance=provenance
        )

    def files_of(self, ref: RecordingRef) -> tuple[Path, ...]:
        """Return the recording, its trigger table (if it exists or is needed) and its continuous labels (if any)."""
        table, labels = self._table(ref.path), continuous_labels(self.root, ref.subject)
        tables = (table,) if table.exists() or ref.path.stem in RECORDING_STARTS else ()
        return (ref.path, *tables, *((labels,) if labels.exists() else ()))

    def _table(self, path: Path) -> Path:
        return self.root / TABLES / f"{path.stem}_trigger_info.csv"

    def _marks(self, path: Path, recording: CntRecording) -> tuple[list[Mark], str]:
        """Alternating starts and ends of the trials, and their origin for the provenance."""
        marks = [event for event in recording.events if event[1] in (START, STOP)]
        documented = RECORDING_STARTS.get(path.stem)
        if documented is None and in_turn([code for _, code in marks], TRIALS_PER_SESSION):
            return marks, "triggers"
        table = self._table(path)
        rows = read_trigger_table(table) if documented or table.exists() else []
        if not in_turn([code for _, code in rows], TRIALS_PER_SESSION):
            raise InputError(
                str(path),
                f"{_count(marks)} in the recording, {_count(rows)} in {table.name}, "
                f"expected {TRIALS_PER_SESSION} of each, alternating",
                "Fetch both files again.",
            )
        if documented:
            return from_table(rows, documented, [], str(path)), "trigger table, documented start"
        if recording.started is None:
            raise InputError(
                str(path),
                f"{_count(marks)}, and no recording time by which to place {table.name}",
                "Fetch the file again.",
            )
        return from_table(rows, recording.started, marks, str(path)), "trigger table"

    @staticmethod
    def _require_inside(path: Path, samples: list[int], n_times: int) -> None:
        if samples[0] < 0 or samples[-1] > n_times or samples != sorted(set(samples)):
            raise InputError(
                str(path),
                f"its trials at {samples[0] / SFREQ_HZ:.1f} to {samples[-1] / SFREQ_HZ:.1f} s "
                f"do not lie in order within its {n_times / SFREQ_HZ:.1f} s",
                "Use the original files.",
            )


def _count(marks: list[Mark] | list[tuple[datetime, str]]) -> str:
    codes = [code for _, code in marks]
    return f"{codes.count(START)} start and {codes.count(STOP)} end triggers"
