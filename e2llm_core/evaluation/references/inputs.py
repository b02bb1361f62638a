"""Inputs of references and fitted controls."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from e2llm_core.evaluation.references.baselines.base import Fitted
from e2llm_core.evaluation.references.baselines.table import BASELINES
from e2llm_core.evaluation.references.decoding import tower_features
from e2llm_core.evaluation.references.windows import BaselineWindows
from e2llm_core.stages.data import EEGData
from e2llm_core.tasks.items import Items
from storage.errors import InputError
from storage.twin import TwinConfig
from storage.windows import Windows


@dataclass(frozen=True)
class ReferenceInputs:
    """Inputs that the references of all tasks share.

    Attributes
    ----------
    data : EEGData
        Store, windows and split.
    seed : int
        Seed of solvers, networks and drawn items.
    baselines : tuple of str
        Names of the baselines to fit.
    probes : dict of str to Path
        Model directories with a tower and a label head, by the name of the label head's answers in the results.
    towers : dict of str to Path
        The same directories, by the name in the results of the answers decoded from the tower's features.
    twin : TwinConfig or None
        Settings of the synthetic twin; None without a twin.
    kept_features : str or None
        Folder or URL that keeps features of windows from one evaluation to the next; None: not kept.
    """

    data: EEGData
    seed: int
    baselines: tuple[str, ...] = ()
    probes: Mapping[str, Path] = field(default_factory=dict)
    towers: Mapping[str, Path] = field(default_factory=dict)
    twin: TwinConfig | None = None
    kept_features: str | None = None

    @cached_property
    def windows(self) -> BaselineWindows:
        """Windows that baselines are fitted to; raises InputError as `BaselineWindows` does."""
        return BaselineWindows(self.data, self.seed, self.kept_features)

    @cached_property
    def _fitted(self) -> dict[str, Fitted]:
        return {}

    @cached_property
    def _labelled(self) -> dict[str, NDArray[np.floating]]:
        return {}

    @cached_property
    def _features(self) -> dict[str, tuple[NDArray[np.int64], NDArray[np.float32]]]:
        return {}

    def fitted(self, name: str) -> Fitted:
        """Return a fitted baseline, which is fitted at the first call."""
        if name not in self._fitted:
            self._fitted[name] = BASELINES[name].load().fit(name, self.windows, self.windows.truth)
        return self._fitted[name]

    def check(self, names: Iterable[str] | None = None) -> None:
        """Refuse baselines that the split or the size of the windows does not allow, before any is fitted.

        Parameters
        ----------
        names : iterable of str, optional
            Names of the baselines to check; by default those of `baselines`.

        Raises
        ------
        InputError
            If a baseline, which the message names, cannot be fitted; and as `windows` raises it.
        """
        for name in self.baselines if names is None else names:
            size = self.windows.size
            try:
                BASELINES[name].load().check(*size)
            except ValueError as error:
                remedy = "Use longer windows, or leave it out of `baselines`."
                raise InputError("data.windows", f"{name} cannot be fitted: {error}", remedy) from error

    def labelled(self, name: str, label: Callable[[], NDArray[np.floating]]) -> NDArray[np.floating]:
        """Label probabilities (windows, labels) of the test windows by what has this name; `label` is called once."""
        if name not in self._labelled:
            self._labelled[name] = label()
        return self._labelled[name]

    def compared(
        self, task: str, items: Items, draw: Callable[[Windows, int, int], Items]
    ) -> dict[str, Callable[[], pd.DataFrame]]:
        """Functions that compare a task's pairs, by name of the baseline, see `Fitted.compare`; raises as `check`."""
        self.check()
        return {name: partial(_compare, self, name, task, items, draw) for name in self.baselines}

    def tower_features(self, name: str) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Numbers of some training windows and their features, computed once; see `decoding.tower_features`."""
        if name not in self._features:
            self._features[name] = tower_features(self.data, self.towers[name])
        return self._features[name]

    def tells_apart(self, what: str) -> bool:
        """Whether the training side has more than one class to decode."""
        if what == "position":
            return True
        return bool(self.data.split.train.rows(self.data.store.trials)[what].nunique() > 1)


def _compare(
    inputs: ReferenceInputs, name: str, task: str, items: Items, draw: Callable[[Windows, int, int], Items]
) -> pd.DataFrame:
    return inputs.fitted(name).compare(task, items, draw)
