"""Scoring windows: which windows a plan asks for, and one model's answers about them."""

import json
from pathlib import Path

import numpy as np
import pandas as pd

from e2llm_core.inference.config import ScoringPlan
from e2llm_core.inference.predictor import Predictor
from e2llm_core.tasks.registry import LABELLING
from e2llm_core.tower.tower import EEGSettings
from storage.errors import InputError
from storage.places.fetching import SETTINGS, fetched
from storage.splits import resolve_split
from storage.store import Store, open_store
from storage.windows import WindowConfig, Windows

COLUMNS = ("recording_id", "subject", "session", "trial", "start", "stop")


class WindowScorer:
    """Scores windows given by number; holds one copy of the model.

    Parameters
    ----------
    plan : ScoringPlan
        Absolute paths.
    """

    def __init__(self, plan: ScoringPlan) -> None:
        self._predictor = Predictor(plan.model)
        self._windows = model_windows(self._predictor, plan)
        self._question = LABELLING.question(self._predictor.labels)

    @property
    def num_windows(self) -> int:
        """Windows of the store."""
        return len(self._windows)

    def score(self, numbers: np.ndarray) -> pd.DataFrame:
        """One row per window: where it is, the emotion, the probabilities, the rationale."""
        segments = self._windows.read(numbers)[:, None]
        probabilities = self._predictor.likelihood(self._question, segments)
        generated = self._predictor.generate(self._question, segments)
        table = self._windows.describe(numbers)[list(COLUMNS)].copy()
        recordings = self._windows.store.recordings
        places = zip(table["recording_id"], table["start"].tolist(), strict=True)
        table["start_seconds"] = [recordings[name].seconds_at(start) for name, start in places]
        table["emotion"] = [one.answer for one in generated]
        for place, label in enumerate(self._question.options):
            table[f"p_{label}"] = probabilities[:, place].astype(float)
        table["text"] = [one.text for one in generated]
        return table


def model_windows(predictor: Predictor, plan: ScoringPlan) -> Windows:
    """A store's windows, cut and normalised as the model was trained."""
    eeg = predictor.model.tower.eeg
    config = WindowConfig(
        window_seconds=eeg.window_seconds,
        stride_seconds=plan.stride_seconds,
        channels=eeg.channels,
        normalisation=eeg.normalisation,
        adaptation=eeg.adaptation,
    )
    store = open_store(plan.store)
    windows = Windows(store, config, scored_trials(plan, store))
    if windows.sfreq_hz != eeg.sfreq_hz:
        raise InputError(
            str(store.root),
            f"is sampled at {windows.sfreq_hz:g} Hz, the model takes {eeg.sfreq_hz:g} Hz",
            f"Ingest with signal.sfreq_hz={eeg.sfreq_hz:g}.",
        )
    return windows


def scored_trials(plan: ScoringPlan, store: Store) -> pd.DataFrame | None:
    """Trials to score; None for all."""
    if plan.split is None or plan.side is None:
        return None
    sides = resolve_split(plan.split, store.trials).sides
    if plan.side not in sides:
        raise InputError("side", f"the split has no {plan.side} side", f"It has: {', '.join(sides)}.")
    return sides[plan.side].rows(store.trials)


def eeg_settings(model: str | Path) -> EEGSettings:
    """What a model's segments are, without loading the model."""
    return EEGSettings.from_dict(json.loads((fetched(model, SETTINGS) / "config.json").read_text())["eeg"])
