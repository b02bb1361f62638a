"""Answers to any task from what labels single windows: baselines, label heads, and the twin's oracle."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from e2llm_core.evaluation.predictions import most_probable
from e2llm_core.evaluation.references.inputs import ReferenceInputs
from e2llm_core.evaluation.references.oracle import oracle_probabilities
from e2llm_core.evaluation.references.probe import probe_probabilities
from e2llm_core.stages.probe import probe_labels
from e2llm_core.tasks.items import Items
from storage.errors import InputError


class Composes(Protocol):
    """What `composed_references` needs of a task (`e2llm_core.tasks.task.Task`)."""

    @property
    def name(self) -> str:
        """As results name it."""

    @property
    def num_segments(self) -> int:
        """Segments of an item."""

    def options(self, labels: Sequence[str]) -> tuple[str, ...]:
        """The answers to choose from."""

    def composed(self, probabilities: np.ndarray, labels: Sequence[str], listed: Sequence[str]) -> np.ndarray | None:
        """Probabilities of the options, from those of single segments."""


Labeller = Callable[[], NDArray[np.floating]]
"""Returns label probabilities (windows, labels) of the test side's windows."""

ORACLE = "oracle"


def composed_references(inputs: ReferenceInputs, task: Composes, items: Items) -> dict[str, Callable[[], pd.DataFrame]]:
    """Functions that answer a task's items, by the name of what labels the windows; none where nothing composes.

    Raises
    ------
    InputError
        As `ReferenceInputs.check`; when a label head gives other labels than those of the store.
    """
    labels = inputs.data.labels
    none = np.zeros((0, task.num_segments, len(labels)))
    if task.composed(none, labels, ()) is None:
        return {}
    inputs.check()
    for folder in inputs.probes.values():
        if (given := probe_labels(folder)) != tuple(labels):
            raise InputError(
                f"model {folder}",
                f"labels {', '.join(given)}, but the store's labels are {', '.join(labels)}",
                "Evaluate it on a store of its own labels.",
            )
    labellers: dict[str, Labeller] = {name: partial(_of_baseline, inputs, name) for name in inputs.baselines}
    labellers |= {name: partial(probe_probabilities, inputs, name) for name in inputs.probes}
    if inputs.twin is not None:
        labellers[ORACLE] = partial(oracle_probabilities, inputs)
    return {name: partial(_answered, inputs, task, items, name, label) for name, label in labellers.items()}


def _of_baseline(inputs: ReferenceInputs, name: str) -> NDArray[np.floating]:
    return inputs.fitted(name).probabilities("test")


def _answered(inputs: ReferenceInputs, task: Composes, items: Items, name: str, label: Labeller) -> pd.DataFrame:
    labels = inputs.data.labels
    probabilities = task.composed(inputs.labelled(name, label)[items.windows], labels, items.listed)
    assert probabilities is not None
    options = task.options(labels)
    return most_probable(items.table, probabilities, task=task.name, model=name, labels=options, seed=inputs.seed)
