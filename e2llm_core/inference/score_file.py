"""Scoring one recording on this machine, by the same path as a whole store."""

import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd

from e2llm_core.inference.config import ScoringPlan
from e2llm_core.inference.scoring import WindowScorer, eeg_settings
from storage.errors import InputError
from storage.ingest import ingest_recording
from storage.labels import LabelSet
from storage.places.location import locate
from storage.readers import FilesSource
from storage.readers.base import RecordingRef
from storage.signal import SignalConfig
from storage.store import create_store

_ID = "recording"
_UNLABELLED = LabelSet(name="unlabelled", names=("unknown", "other"))


_OF_A_SPEC = re.compile(r"`?\b(source|signal|windows|labels_from)\.\w+")


def score_file(model: str | Path, recording: Path) -> pd.DataFrame:
    """Score every window of one file.

    Parameters
    ----------
    model : str or Path
        Model directory of stage 3, or its URL.
    recording : Path
        Anything that MNE reads. Statistics for the model's adaptation rule come from this file alone.

    Returns
    -------
    pandas.DataFrame
        One row per window; columns as in `e2llm_core.inference.scoring`.

    Raises
    ------
    InputError
        When the file cannot be read, lacks a channel of the model, or is shorter than a window.
    """
    if not locate(model).exists("config.json"):
        raise InputError(str(model), "is not a model directory", "Give a run's `model` folder.")
    settings = eeg_settings(model)
    with tempfile.TemporaryDirectory() as folder, _of_this_command(recording, folder):
        source = FilesSource(root=recording.parent, pattern=r"(?P<subject>.*)", labels=_UNLABELLED)
        store = create_store(Path(folder) / "store.zarr", dataset="file", label_set=_UNLABELLED)
        ref = RecordingRef(_ID, "file", "1", recording)
        ingest_recording(store, source, ref, SignalConfig(sfreq_hz=settings.sfreq_hz))
        scorer = WindowScorer(ScoringPlan(store=str(store.root), model=model, stride_seconds=settings.window_seconds))
        return scorer.score(np.arange(scorer.num_windows))


@contextmanager
def _of_this_command(recording: Path, folder: str) -> Iterator[None]:
    """Have refusals name the file that was given, and what can be done without a spec."""
    try:
        yield
    except InputError as error:
        inside = error.place == _ID or error.place.startswith(folder)
        place = str(recording) if inside else error.place
        remedy = error.remedy
        if inside or _OF_A_SPEC.search(remedy):
            remedy = (
                "This command takes a file as it is: correct it, or ingest it by a spec, which can state units, names "
                "and channels, and score the store."
            )
        raise InputError(place, error.problem, remedy) from error
