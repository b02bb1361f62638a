"""What references are made from."""

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
    """What the references of all tasks share.

    Attributes
    ----------
    data : EEGData
        Store, windows and split.
    seed : int
        Of solvers, networks and drawn items.
    baselines : tuple of str
        Which ones are fitted, by name.
    probes : dict of str to Path
        Model directories with a tower and a label head, by the name that their answers have in the results.
    towers : dict of str to Path
        The same directories, by the name that what their features tell has.
    twin : TwinConfig or None
        Of the synthetic twin, where the data are one.
    kept_features : str or None
        Where features of windows are kept from one evaluation to the next.
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
        """What baselines are fitted to; raises InputError where the split leaves nobody to choose settings on."""
        return BaselineWindows(self.data, self.seed, self.kept_features)

    @cached_property
    def _fitted(self) -> dict[str, Fitted]:
        return {}

    @cached_property
    def _features(self) -> dict[str, tuple[NDArray[np.int64], NDArray[np.float32]]]:
        return {}

    def fitted(self, name: str) -> Fitted:
        """A baseline, fitted when it is asked for, once."""
        if name not in self._fitted:
            self._fitted[name] = BASELINES[name].load().fit(name, self.windows, self.windows.truth)
        return self._fitted[name]

    def check(self, names: Iterable[str] | None = None) -> None:
        """Refuse baselines that the split or the size of the windows does not allow, before any is fitted.

        Parameters
        ----------
        names : iterable of str, optional
            Which; those that are asked for, unless given.

        Raises
        ------
        InputError
            Naming the baseline, or as `windows`.
        """
        for name in self.baselines if names is None else names:
            size = self.windows.size
            try:
                BASELINES[name].load().check(*size)
            except ValueError as error:
                remedy = "Use longer windows, or leave it out of `baselines`."
                raise InputError("data.windows", f"{name} cannot be fitted: {error}", remedy) from error

    def labelled(self, task: str, items: Items) -> dict[str, Callable[[], pd.DataFrame]]:
        """Labels of a task's single windows by each baseline; raises as `check`."""
        self.check()
        return {name: partial(_label, self, name, task, items) for name in self.baselines}

    def compared(
        self, task: str, items: Items, draw: Callable[[Windows, int, int], Items]
    ) -> dict[str, Callable[[], pd.DataFrame]]:
        """Comparisons of a task's pairs of windows by each baseline, see `Fitted.compare`; raises as `check`."""
        self.check()
        return {name: partial(_compare, self, name, task, items, draw) for name in self.baselines}

    def tower_features(self, name: str) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Some training windows and their features, computed once; see `decoding.tower_features`."""
        if name not in self._features:
            self._features[name] = tower_features(self.data, self.towers[name])
        return self._features[name]

    def tells_apart(self, what: str) -> bool:
        """Whether the training side has anything to tell apart."""
        if what == "position":
            return True
        return bool(self.data.split.train.rows(self.data.store.trials)[what].nunique() > 1)


def _label(inputs: ReferenceInputs, name: str, task: str, items: Items) -> pd.DataFrame:
    return inputs.fitted(name).label(task, items)


def _compare(
    inputs: ReferenceInputs, name: str, task: str, items: Items, draw: Callable[[Windows, int, int], Items]
) -> pd.DataFrame:
    return inputs.fitted(name).compare(task, items, draw)
