"""FACED as its authors distribute it: `Processed_data/sub000.pkl`."""

import re
from pathlib import Path
from typing import Literal

import numpy as np

from storage.datasets.faced import CHANNELS, CLIP_LABELS, CLIP_SECONDS, FILE_CHANNELS, NUM_CLIPS, SFREQ_HZ
from storage.errors import InputError
from storage.labels import FACED, LabelSet
from storage.readers.arrays import load_arrays
from storage.readers.base import RawRecording, RecordingRef, Source
from storage.readers.clips import clip_recording
from storage.readers.mne_file import reason_of

FOLDER = "Processed_data"
REMARKS = "After_remarks.mat"
SHAPE = (NUM_CLIPS, len(FILE_CHANNELS), int(CLIP_SECONDS * SFREQ_HZ))


class FacedSource(Source):
    """FACED's processed EEG: a pickle per subject, 28 clips of (32, 7500) µV at 250 Hz, sorted by clip.

    Only the array is read from the pickle; any other object in it is refused. The mastoids A2 and A1 are left out. Each
    subject saw the clips in an order of its own, which `After_remarks.mat` (in `Data/sub000` or
    `After_remarks/sub000`) holds; without that file, the clip number is used as the position.
    """

    format: Literal["faced"] = "faced"
    root: Path

    @property
    def label_set(self) -> LabelSet:
        """FACED's nine emotions."""
        return FACED

    def list_recordings(self) -> list[RecordingRef]:
        """One reference per subject."""
        refs = []
        for path in sorted((self.root / FOLDER).glob("*.pkl")):
            match = re.fullmatch(r"sub(\d{3})", path.stem)
            if match is None:
                raise InputError(str(path), "is not named sub000.pkl, sub001.pkl, ...", "Move it elsewhere.")
            refs.append(RecordingRef(f"sub-{match[1]}", match[1], "1", path))
        if not refs:
            raise InputError(str(self.root), f"no {FOLDER}/*.pkl", "Point `source.root` at FACED's folder.")
        return refs

    def read(self, ref: RecordingRef) -> RawRecording:
        """Read one subject's 28 clips, in presentation order if it is known."""
        signals = load_arrays(ref.path)
        if not isinstance(signals, np.ndarray) or signals.shape != SHAPE or signals.dtype.kind not in "fi":
            held = f"{signals.dtype} {signals.shape}" if isinstance(signals, np.ndarray) else type(signals).__name__
            raise InputError(str(ref.path), f"holds {held}, expected an array of {SHAPE}", "Use the original file.")
        remarks = self._remarks(ref)
        order = presentation_order(remarks) if remarks else range(1, NUM_CLIPS + 1)
        return clip_recording(
            [signals[clip - 1, : len(CHANNELS)] for clip in order],
            order,
            [CLIP_LABELS[clip - 1] for clip in order],
            channels=CHANNELS,
            sfreq_hz=SFREQ_HZ,
            provenance={
                "reader": "faced",
                "filter": "0.05-47 Hz, ICA, average reference (authors)",
                "dropped_channels": list(FILE_CHANNELS[len(CHANNELS) :]),
                "positions": "order of presentation" if remarks else "clip numbers; order of presentation unknown",
            },
            place=str(ref.path),
        )

    def files_of(self, ref: RecordingRef) -> tuple[Path, ...]:
        """Return the signal file and, if it exists, the file with the order of presentation."""
        remarks = self._remarks(ref)
        return (ref.path, remarks) if remarks else (ref.path,)

    def _remarks(self, ref: RecordingRef) -> Path | None:
        places = [self.root / folder / f"sub{ref.subject}" / REMARKS for folder in ("Data", "After_remarks")]
        return next((path for path in places if path.is_file()), None)


def presentation_order(path: Path) -> list[int]:
    """Read the order in which a subject saw the clips 1..28.

    `After_remark` is an array of structures, one per clip in presentation order; the third field is the clip number.

    Raises
    ------
    InputError
        When the file is damaged or does not name each clip once.
    """
    from scipy.io import loadmat

    try:
        rows = np.ravel(loadmat(path, variable_names=["After_remark"])["After_remark"])
        order = [int(np.ravel(row[2])[0]) for row in rows]
    except Exception as error:  # an error of SciPy's parser, or unexpected content
        problem = f"holds no order of clips ({reason_of(error)})"
        raise InputError(str(path), problem, "Fetch the file again.") from None
    if sorted(order) != list(range(1, NUM_CLIPS + 1)):
        raise InputError(
            str(path), f"lists {len(order)} clips that are not 1 to {NUM_CLIPS} once each", "Fetch it again."
        )
    return order
