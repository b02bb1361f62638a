"""Batch scoring with Ray Data: recordings in, one Parquet row per window out."""

import hashlib
import json
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from cluster.progress import watch
from cluster.resources import Resources, require_resources
from e2llm_core.inference.config import ScoringPlan
from e2llm_core.inference.scoring import WindowScorer, eeg_settings, scored_trials
from storage.places.base import Location, is_url
from storage.places.fetching import MODEL
from storage.places.location import locate
from storage.places.parts import Parts
from storage.places.workspace import Workspace
from storage.store import open_store
from storage.windows import WindowConfig, Windows

_WINDOWS_PER_BATCH = 64
SCORES = "scores"
"""Folder of the Parquet files in the run's."""


class ScoreWriter:
    """Scores ranges of windows and writes a Parquet file for each.

    Parameters
    ----------
    plan : ScoringPlan
        Absolute paths.
    run : str
        The run's folder or URL.
    """

    def __init__(self, plan: ScoringPlan, run: str) -> None:
        self._scorer, self._place = WindowScorer(plan), locate(run)

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, Any]:
        """Score stretches of window numbers, given in columns ``first`` and ``last``."""
        for first, last in zip(batch["first"], batch["last"], strict=True):
            rows = self._scorer.score(np.arange(first, last))
            self._place.write(f"{SCORES}/{part_name(first)}", rows.to_parquet(index=False))
        return {"first": batch["first"]}


def part_name(first: int) -> str:
    """File in `SCORES` of the windows from `first` on."""
    return f"{first:012d}.parquet"


def missing_stretches(plan: ScoringPlan, run: str | Path) -> tuple[list[dict[str, int]], int]:
    """Ranges of windows not yet scored, and the number of all windows.

    Parts that were made from another model, store or plan are removed, and so is all that is no part of this run.

    Returns
    -------
    stretches : list of dict
        For `ScoreWriter`: ``first`` and ``last`` (exclusive) window numbers.
    total : int
        How many there are, done or not.
    """
    count = _count_windows(plan)
    starts = range(0, count, _WINDOWS_PER_BATCH)
    parts = Parts(run, SCORES, _made_from(plan, count))
    if parts.differs:
        print(f"[score] begins anew: the {', '.join(parts.differs)} differs from what was scored", flush=True)
    parts.keep_only([part_name(first) for first in starts])
    if parts:
        print(f"[score] goes on: {len(parts)} of {len(starts)} parts are there", flush=True)
    missing = [first for first in starts if part_name(first) not in parts]
    return [{"first": first, "last": min(first + _WINDOWS_PER_BATCH, count)} for first in missing], len(starts)


def score(plan: ScoringPlan, run: str | Path, resources: Resources) -> str:
    """Score a store's windows into ``<run>/scores`` (Parquet); scores of a killed run are kept.

    Returns
    -------
    str
        Folder or URL of the Parquet files.
    """
    import ray

    require_resources(resources)
    place = locate(run)
    stretches, total = missing_stretches(plan, run)
    if stretches:
        ray.data.DataContext.get_current().enable_progress_bars = False
        scored = ray.data.from_items(stretches, override_num_blocks=len(stretches)).map_batches(
            ScoreWriter,
            fn_constructor_args=(plan, str(run)),
            batch_size=1,
            concurrency=resources.workers,
            num_cpus=resources.cpus_per_worker,
            num_gpus=resources.gpus_per_worker or None,
        )
        scored.set_name(Workspace(run).name)
        with watch("score", total, lambda: len(_scored(place)), 5 * place.seconds_between_looks):
            for _ in scored.iter_batches():
                pass
    for left in place.files(SCORES).keys() - _scored(place):  # by a writer that was killed and started again
        place.remove(left)
    return f"{place}/{SCORES}"


def _scored(place: Location) -> set[str]:
    return {key for key in place.files(SCORES) if key.endswith(".parquet")}


def _made_from(plan: ScoringPlan, count: int) -> dict[str, str]:
    """Everything that the scores depend on, with digests in place of paths."""
    settings = plan.model_dump(mode="json", include=ScoringPlan.model_fields.keys() - {"model", "store"})
    settings |= {"windows": count, "windows_per_part": _WINDOWS_PER_BATCH}
    return {
        "model": _content(plan.model),
        "store": open_store(plan.store).digest,
        "plan": hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest(),
    }


def _content(model: str) -> str:
    """Digest of a model's settings and weights; at a URL of what the object store says of them, without a copy."""
    from e2llm_core.model.model_io import model_digest

    if not is_url(model):
        return model_digest(model)
    files = [
        (key, one.size, one.tag) for key, one in locate(model).files().items() if PurePosixPath(key).suffix in MODEL
    ]
    return hashlib.sha256(json.dumps(files).encode()).hexdigest()


def _count_windows(plan: ScoringPlan) -> int:
    """Number of windows, from the model's settings alone."""
    settings = eeg_settings(plan.model)
    store = open_store(plan.store)
    config = WindowConfig(
        window_seconds=settings.window_seconds, stride_seconds=plan.stride_seconds, channels=settings.channels
    )
    return len(Windows(store, config, scored_trials(plan, store)))
