"""SEED-VII as its authors distribute it: `EEG_preprocessed/*.mat`, the label workbook, continuous labels."""

from pathlib import Path
from typing import Literal

import numpy as np

from storage.datasets.seed_vii import (
    CLIP_LABELS,
    NUM_SESSIONS,
    SFREQ_HZ,
    TRIALS_PER_SESSION,
    WORDS,
    clip_of,
)
from storage.errors import InputError
from storage.labels import SEED_VII, LabelSet
from storage.readers.base import RawRecording, RecordingRef, Source
from storage.readers.clips import clip_recording
from storage.readers.mat import load_variables
from storage.signal import SEED_CHANNELS

WORKBOOK = "emotion_label_and_stimuli_order.xlsx"


class SeedVIISource(Source):
    """SEED-VII's preprocessed EEG: one MAT v5 file per subject with keys '1'..'80', (62, T) µV at 200 Hz.

    One recording is one session of one subject; there are gaps between its 20 clips, which windows never cross.
    """

    format: Literal["seed-vii"] = "seed-vii"
    root: Path

    @property
    def label_set(self) -> LabelSet:
        """SEED-VII's seven emotions."""
        return SEED_VII

    def list_recordings(self) -> list[RecordingRef]:
        """One reference per subject and session; the user's workbook must agree with the published order."""
        files = sorted((self.root / "EEG_preprocessed").glob("*.mat"), key=lambda path: (len(path.stem), path.stem))
        if not files:
            raise InputError(str(self.root), "no EEG_preprocessed/*.mat", "Point `source.root` at SEED-VII's folder.")
        if odd := [path for path in files if not path.stem.isascii() or not path.stem.isdigit()]:
            raise InputError(str(odd[0]), "is not named after a subject's number", "Move it elsewhere.")
        assert_workbook(self.root / WORKBOOK)
        return [
            RecordingRef(f"sub-{int(path.stem):02d}_ses-{session}", f"{int(path.stem):02d}", str(session), path)
            for path in files
            for session in range(1, NUM_SESSIONS + 1)
        ]

    def read(self, ref: RecordingRef) -> RawRecording:
        """Read one session's 20 clips."""
        session = int(ref.session)
        clips = [clip_of(session, position) for position in range(1, TRIALS_PER_SESSION + 1)]
        signals = load_clips(ref.path, clips)
        if missing := [str(clip) for clip in clips if clip not in signals]:
            raise InputError(str(ref.path), f"has no clip {', '.join(missing)}", "Fetch the file again.")
        labels = continuous_labels(self.root, ref.subject)
        return clip_recording(
            [signals[clip] for clip in clips],
            clips,
            [CLIP_LABELS[clip - 1] for clip in clips],
            channels=SEED_CHANNELS,
            sfreq_hz=SFREQ_HZ,
            provenance={
                "reader": "seed-vii",
                "filter": "0.1-70 Hz, 50 Hz notch (authors)",
                "device": "ESI NeuroScan",
            },
            place=str(ref.path),
            intensities=load_intensities(labels, clips) if labels.exists() else None,
        )

    def files_of(self, ref: RecordingRef) -> tuple[Path, ...]:
        """Return the subject's signal file and, if it exists, the file of continuous labels."""
        labels = continuous_labels(self.root, ref.subject)
        return (ref.path, labels) if labels.exists() else (ref.path,)


def continuous_labels(root: Path, subject: str) -> Path:
    """Path of a subject's continuous labels; the file may not exist."""
    return root / "continuous_labels" / f"{int(subject)}.mat"


def load_intensities(path: Path, clips: list[int]) -> dict[int, tuple[float, ...]]:
    """Load the continuous labels of some clips, one value per 4 s; raises the same errors as `load_clips`."""
    return {clip: tuple(map(float, np.ravel(values))) for clip, values in load_clips(path, clips).items()}


def load_clips(path: Path, clips: list[int]) -> dict[int, np.ndarray]:
    """Load selected clips (keys '1'..'80') of a MAT v5 file; clips that it does not hold are left out.

    Raises
    ------
    InputError
        When the file is missing, truncated or not a MAT v5 file, or a clip is not numeric.
    """
    found = load_variables(path, {str(clip): f"clip {clip}" for clip in clips})
    return {int(name): value for name, value in found.items()}


def assert_workbook(path: Path) -> None:
    """Compare the user's label workbook with the published clip order.

    Raises
    ------
    InputError
        When they differ, naming the first clip that does, or the file is missing or not a workbook.
    """
    if not path.exists():
        raise InputError(str(path), "the label workbook is missing", "Copy it from the data set's folder.")
    rows = [[cell for cell in row[1:] if cell is not None] for row in _workbook_rows(path)]
    words = [str(word).strip() for row in rows[1 : 2 * NUM_SESSIONS : 2] for word in row]
    if len(words) != len(CLIP_LABELS):
        raise InputError(str(path), f"holds {len(words)} emotion words, expected 80", "Use the original workbook.")
    for clip, (word, expected) in enumerate(zip(words, CLIP_LABELS, strict=True), start=1):
        if WORDS.get(word) != expected:
            raise InputError(
                str(path), f"clip {clip} is {word!r}, but was published as {expected!r}", "Use the original workbook."
            )


def _workbook_rows(path: Path) -> list[tuple[object, ...]]:
    import openpyxl

    try:
        book = openpyxl.load_workbook(path, read_only=True)
        rows = list(book.worksheets[0].iter_rows(values_only=True))
    except Exception as error:  # openpyxl passes on errors of zipfile and of its XML parser
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise InputError(str(path), f"is not an Excel workbook ({reason})", "Fetch the file again.") from error
    book.close()
    return rows
