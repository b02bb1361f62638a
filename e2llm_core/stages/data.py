"""The EEG of a stage: a store, its windows, and its split."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from e2llm_core.stages.config import CachedDataConfig, DataConfig
from e2llm_core.stages.features import open_features
from e2llm_core.stages.measured import MeasuredWindows, as_measured, measures_of
from e2llm_core.stages.segments import FeatureSegments, Segments, WindowSegments
from e2llm_core.tower.tower import EEGSettings
from e2llm_core.training.world import World
from storage.features import Features
from storage.splits import Side, Split, resolve_split
from storage.store import Store, open_store
from storage.windows import WindowConfig, Windows


@dataclass(frozen=True)
class EEGData:
    """An open data set."""

    config: DataConfig
    store: Store
    features: Features | None = None
    """The frozen tower's outputs, where they were computed beforehand."""

    @classmethod
    def open(cls, config: DataConfig, tower: Path | None = None) -> "EEGData":
        """Open the store, resolve the split, and open the features that the config names.

        Parameters
        ----------
        config : DataConfig
            Store, windows and split to open.
        tower : Path, optional
            Model directory whose tower the features must be of; needed where the config names some.

        Raises
        ------
        InputError
            When one of them does not fit.
        """
        data = cls(config, open_store(config.store))
        folder = config.features if isinstance(config, CachedDataConfig) else None
        if folder is None or tower is None:
            return data
        return replace(data, features=open_features(folder, data.every_window, tower))

    def __post_init__(self) -> None:
        self.store.require_labels()
        self.windows(self.split.train)

    @cached_property
    def split(self) -> Split:
        """The resolved split."""
        return resolve_split(self.config.split, self.store.trials)

    @property
    def labels(self) -> tuple[str, ...]:
        """Class names in id order."""
        return self.store.label_set.names

    @property
    def settings(self) -> EEGSettings:
        """What a segment is, for the model."""
        windows = self.windows(self.split.train)
        config = windows.config
        return EEGSettings(
            channels=windows.channels,
            sfreq_hz=windows.sfreq_hz,
            window_seconds=config.window_seconds,
            unit=config.unit,
            normalisation=config.normalisation,
            adaptation=config.adaptation,
        )

    @cached_property
    def cut(self) -> WindowConfig:
        """How windows are cut on every side: channels are named, in the order of the first training recording."""
        config, trials = self.config.windows, self.split.train.rows(self.store.trials)
        return config.model_copy(update={"channels": Windows(self.store, config, trials).channels})

    @property
    def every_window(self) -> Windows:
        """Windows of the whole store."""
        return Windows(self.store, self.cut)

    def windows(self, side: Side) -> Windows:
        """Windows of one side of the split, as the model sees them."""
        return Windows(self.store, self.cut, side.rows(self.store.trials))

    def segments(self, side: Side) -> Segments:
        """What the model is shown of one side's windows: their signals, or their features."""
        windows = self.windows(side)
        if self.features is None:
            return WindowSegments(windows)
        return FeatureSegments(self.features, self.every_window, windows)

    @property
    def quantities(self) -> tuple[str, ...]:
        """Names of what is measured in these channels."""
        return measures_of(self.windows(self.split.train), self.config.claims).names

    def measured(self, side: Side) -> Windows:
        """The same windows as the measures need them."""
        return as_measured(self.windows(side))

    def measured_windows(self, side: Side) -> MeasuredWindows:
        """Deviations of the quantities that the config names, in one side's windows.

        Raises
        ------
        InputError
            When the features hold other measures.
        """
        return MeasuredWindows(self.measured(side), self.features, self.config.claims)


def ranks_share(size: int, batch: int, world: World) -> Iterator[tuple[np.ndarray, int]]:
    """Yield a rank's residue class of 0..size-1 in batches; equally many batches of one length on every rank.

    Yields
    ------
    ids : np.ndarray
        Items to compute; a rank that has run out repeats its last one (the first of all, if it had none).
    own : int
        How many of them, from the start, are this rank's; the rest only keeps collective calls in step.
    """
    per_rank = -(-size // world.size)
    mine = np.arange(world.rank, size, world.size)
    padded = np.concatenate([mine, np.full(per_rank - len(mine), mine[-1] if len(mine) else 0)])
    for start in range(0, per_rank, batch):
        yield padded[start : start + batch], int(np.clip(len(mine) - start, 0, batch))
