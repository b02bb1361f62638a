"""Batch scoring with Ray Data: recordings in, one Parquet row per window out."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cluster.plans import ScoringPlan
from cluster.progress import watch
from cluster.session import Resources, require_resources
from e2llm_core.tower import EEGSettings
from storage.errors import InputError
from storage.splits import resolve_split
from storage.store import Store, open_store
from storage.windows import WindowConfig, Windows

_WINDOWS_PER_BATCH = 64
COLUMNS = ("recording_id", "subject", "session", "trial", "start", "stop")


class WindowScorer:
    """Scores windows given by number; holds one copy of the model.

    Parameters
    ----------
    plan : ScoringPlan
        Absolute paths.
    """

    def __init__(self, plan: ScoringPlan) -> None:
        from e2llm_core.inference import Predictor, Question

        self._predictor = Predictor(plan.model)
        self._windows = model_windows(self._predictor, plan)
        self._question = Question.emotion(self._predictor.labels)

    @property
    def num_windows(self) -> int:
        """Windows of the store."""
        return len(self._windows)

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, Any]:
        """Turn stretches of window numbers (columns ``first``, ``last``) into rows of the result."""
        stretches = [np.arange(first, last) for first, last in zip(batch["first"], batch["last"], strict=True)]
        return self.score(np.concatenate(stretches)).to_dict("list")

    def score(self, numbers: np.ndarray) -> pd.DataFrame:
        """One row per window: where it is, the emotion, the probabilities, the rationale."""
        segments = self._windows.read(numbers)[:, None]
        probabilities = self._predictor.likelihood(self._question, segments)
        generated = self._predictor.generate(self._question, segments)
        table = self._windows.describe(numbers)[list(COLUMNS)].copy()
        table["start_seconds"] = table["start"] / self._windows.sfreq_hz
        table["emotion"] = [one.answer for one in generated]
        for place, label in enumerate(self._question.options):
            table[f"p_{label}"] = probabilities[:, place].astype(float)
        table["text"] = [one.text for one in generated]
        return table


def model_windows(predictor: Any, plan: ScoringPlan) -> Windows:
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


def score(plan: ScoringPlan, folder: Path, resources: Resources) -> Path:
    """Score a store's windows into ``<folder>/scores`` (Parquet).

    Returns
    -------
    Path
        Folder of the Parquet files.
    """
    import ray

    require_resources(resources)
    count = _count_windows(plan)
    target = folder / "scores"
    shutil.rmtree(target, ignore_errors=True)
    ray.data.DataContext.get_current().enable_progress_bars = False
    starts = range(0, count, _WINDOWS_PER_BATCH)
    stretches = [{"first": first, "last": min(first + _WINDOWS_PER_BATCH, count)} for first in starts]
    scored = ray.data.from_items(stretches, override_num_blocks=len(stretches)).map_batches(
        WindowScorer,
        fn_constructor_args=(plan,),
        batch_size=1,
        concurrency=resources.workers,
        num_cpus=resources.cpus_per_worker,
        num_gpus=resources.gpus_per_worker or None,
    )
    scored.set_name(folder.name)
    with watch("score", len(stretches), lambda: len(list(target.glob("*.parquet")))):
        # The scorers may hold every CPU, and writing must go on all the same.
        scored.write_parquet(str(target), ray_remote_args={"num_cpus": 0})
    return target


def _count_windows(plan: ScoringPlan) -> int:
    """Number of windows, from the model's settings alone."""
    settings = eeg_settings(plan.model)
    store = open_store(plan.store)
    config = WindowConfig(
        window_seconds=settings.window_seconds, stride_seconds=plan.stride_seconds, channels=settings.channels
    )
    return len(Windows(store, config, scored_trials(plan, store)))


def eeg_settings(model: Path) -> EEGSettings:
    """What a model's segments are, without loading the model."""
    return EEGSettings.from_dict(json.loads((model / "config.json").read_text())["eeg"])
