"""The classical baseline of a data set: features of its windows once, and predictions for the tasks that ask."""

from collections.abc import Callable
from functools import cached_property

import numpy as np
import pandas as pd

from e2llm_core.evaluation.references.de_svm import LinearClassifier, baseline_pairs, classified_windows, fit_linear
from e2llm_core.evaluation.references.differential_entropy import adapt, differential_entropy
from e2llm_core.stages.data import EEGData
from e2llm_core.tasks.items import Items
from storage.errors import InputError
from storage.splits import Side, Split
from storage.windows import Windows

_READ = 64


class Baseline:
    """Differential entropy + linear SVM on the same windows, split and adaptation as the model, in microvolts.

    No signal is read before the first answer.

    Parameters
    ----------
    data : EEGData
        Store, windows and split.
    seed : int
        Of the solver.
    """

    def __init__(self, data: EEGData, seed: int) -> None:
        self._data, self._seed = data, seed
        self._sides = with_validation(data.split)
        plain = data.cut.model_copy(update={"normalisation": "none", "adaptation": "none"})
        self._windows = Windows(data.store, plain, _whole_sessions(data, self._sides))

    @cached_property
    def _features(self) -> np.ndarray:
        """float32 (windows, features) of all sides."""
        entropy = np.concatenate(
            [differential_entropy(self._windows.read(ids), self._windows.sfreq_hz) for ids in batches_of(self._windows)]
        )
        table = self._windows.table
        groups = (table["subject"] + "/" + table["session"]).to_numpy()
        order = table[["position", "stop"]].to_numpy()
        return adapt(entropy, groups, self._data.config.windows.adaptation, order)

    @cached_property
    def classifier(self) -> LinearClassifier:
        """Fitted to the labels of single windows."""
        table = self._windows.table
        sides = {name: side.holds(table) for name, side in self._sides.items()}
        return fit_linear(self._features, table["label"].to_numpy(object), sides, self._data.labels, seed=self._seed)

    def _of_side(self, name: str) -> np.ndarray:
        """Features (windows, features) of a side's windows, in their order."""
        features: np.ndarray = self._features[np.flatnonzero(self._sides[name].holds(self._windows.table))]
        return features

    def windows(self, task: str, items: Items) -> pd.DataFrame:
        """Labels of the single windows that a task's test items show."""
        features = self._of_side("test")[items.windows[:, 0]]
        return classified_windows(items.table, features, self.classifier, task=task, seed=self._seed)

    def pairs(self, task: str, test: Items, draw: Callable[[Windows, int, int], Items]) -> pd.DataFrame:
        """Comparisons of the two windows of a task's test items; trained on four times as many of the other sides.

        Parameters
        ----------
        task : str
            Its name.
        test : Items
            Of the test side.
        draw : callable
            Makes items of another side, by its windows, a number and a seed.
        """
        features, tables = [], []
        for name, side in self._sides.items():
            items = test
            if name != "test":
                items = draw(self._data.windows(side), 4 * len(test.table), self._seed)
            features.append(self._of_side(name)[items.windows])
            tables.append(items.table.assign(side=name))
        stacked = np.concatenate(features)
        table = pd.concat(tables, ignore_index=True)
        sides = {name: (table["side"] == name).to_numpy() for name in self._sides}
        first, second = stacked[:, 0], stacked[:, 1]
        return baseline_pairs(table, first, second, sides, self.classifier, task=task, seed=self._seed)[0]


def with_validation(split: Split) -> dict[str, Side]:
    """The split's sides; without a validation side, the last training subject is one.

    Raises
    ------
    InputError
        When there is no validation side and one training subject only.
    """
    if split.validation is not None:
        return split.sides
    *fitted, last = split.train.subjects
    if not fitted:
        raise InputError(
            "data.split", "the baseline needs validation trials to choose its cost", "Give the split a validation side."
        )
    return {"train": split.train.of(tuple(fitted)), "validation": split.train.of((last,)), "test": split.test}


def _whole_sessions(data: EEGData, sides: dict[str, Side]) -> pd.DataFrame:
    """All trials of the sessions that a side has trials of: what adaptation may use, as for the model."""
    trials = data.store.trials
    used = np.any([side.holds(trials) for side in sides.values()], axis=0)
    sessions = pd.MultiIndex.from_frame(trials[["subject", "session"]])
    return trials[sessions.isin(sessions[used])]


def batches_of(source: Windows) -> list[np.ndarray]:
    """Numbers of all windows, those that are read together in one."""
    return np.array_split(np.arange(len(source)), -(-len(source) // _READ))
