"""Interfaces of a baseline and of a fitted one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from e2llm_core.evaluation.predictions import most_probable
from e2llm_core.evaluation.references.classifiers import MakeClassifier, linear_svm
from e2llm_core.evaluation.references.comparisons import ShownPairs, compared_pairs
from e2llm_core.evaluation.references.windows import BaselineWindows
from e2llm_core.tasks.items import Items
from storage.windows import Windows


class Fitted(ABC):
    """A classifier of single windows, fitted to the training side and chosen on the validation side.

    Parameters
    ----------
    name : str
        Name in the results.
    windows : BaselineWindows
        Windows that it was fitted to.

    Attributes
    ----------
    make : callable
        Makes the classifier that compares two windows by the difference of their features.
    """

    make: MakeClassifier = staticmethod(linear_svm)

    def __init__(self, name: str, windows: BaselineWindows) -> None:
        self.name, self.windows = name, windows

    @abstractmethod
    def probabilities(self, side: str) -> NDArray[np.floating]:
        """Class probabilities (windows, labels) of a side's windows, in their order."""

    def features(self, side: str) -> NDArray[np.float32] | None:
        """Features (windows, d) by which a side's windows are compared; None if there are none."""
        return None

    def label(self, task: str, items: Items) -> pd.DataFrame:
        """Label the single windows that a task's test items show."""
        answers = self.probabilities("test")[items.windows[:, 0]]
        labels, seed = self.windows.labels, self.windows.seed
        return most_probable(items.table, answers, task=task, model=self.name, labels=labels, seed=seed)

    def compare(self, task: str, test: Items, draw: Callable[[Windows, int, int], Items]) -> pd.DataFrame:
        """Compare the two windows of each test item; each other side gets four times as many items.

        Parameters
        ----------
        task : str
            Name of the task.
        test : Items
            Items of the test side.
        draw : callable
            From the windows of another side, a number of items and a seed to items of this side.
        """
        probabilities, features, tables = [], [], []
        seed, data = self.windows.seed, self.windows.data
        for name, side in self.windows.sides.items():
            items = test if name == "test" else draw(data.windows(side), 4 * len(test.table), seed)
            probabilities.append(self.probabilities(name)[items.windows])
            if (known := self.features(name)) is not None:
                features.append(known[items.windows])
            tables.append(items.table.assign(side=name))
        table = pd.concat(tables, ignore_index=True)
        shown = ShownPairs(np.concatenate(probabilities), np.concatenate(features) if features else None)
        sides = {name: (table["side"] == name).to_numpy() for name in self.windows.sides}
        return compared_pairs(table, shown, sides, task=task, model=self.name, make=self.make, seed=seed)[0]


class Baseline(ABC):
    """A classifier that can be fitted to windows."""

    @abstractmethod
    def check(self, n_chans: int, n_times: int, sfreq_hz: float) -> None:
        """Raise ValueError if it cannot be fitted to windows of this size; no signal is read."""

    @abstractmethod
    def fit(self, name: str, windows: BaselineWindows, truth: NDArray[np.object_]) -> Fitted:
        """Fit to the training rows, and choose settings on the validation rows.

        Parameters
        ----------
        name : str
            Name in the results.
        windows : BaselineWindows
            Windows of all sides.
        truth : np.ndarray
            Label of each window; those of the test side are not used.
        """
