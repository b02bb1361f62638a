"""The EEG that a stage sees: a store, how its windows are cut, and who is on which side of the split."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from e2llm_core.stages.config import DataConfig
from e2llm_core.tower import EEGSettings
from e2llm_core.training.world import World
from storage.splits import Side, Split, resolve_split
from storage.store import Store, open_store
from storage.windows import Windows


@dataclass(frozen=True)
class EEGData:
    """An open data set."""

    config: DataConfig
    store: Store

    @classmethod
    def open(cls, config: DataConfig) -> "EEGData":
        """Open the store and resolve the split; raises `InputError` when either does not fit."""
        return cls(config, open_store(config.store))

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
        config = self.config.windows
        return EEGSettings(
            channels=windows.channels,
            sfreq_hz=windows.sfreq_hz,
            window_seconds=config.window_seconds,
            unit=config.unit,
            normalisation=config.normalisation,
            adaptation=config.adaptation,
        )

    def windows(self, side: Side) -> Windows:
        """Windows of one side of the split, as the model sees them."""
        return Windows(self.store, self.config.windows, side.rows(self.store.trials))

    def measured(self, side: Side) -> Windows:
        """The same windows as the measures need them: session-whitened."""
        whitened = {"normalisation": "session-whitening", "adaptation": "transductive-unlabelled"}
        return Windows(self.store, self.config.windows.model_copy(update=whitened), side.rows(self.store.trials))


def read_augmented(
    windows: Windows, measured: Windows, ids: np.ndarray, seeds: Sequence[Sequence[int]] | None
) -> tuple[np.ndarray, np.ndarray]:
    """Read windows as the model sees them and as the measures do, under one augmentation.

    Parameters
    ----------
    windows, measured : Windows
        The same windows in two normalisations.
    ids : np.ndarray
        Window numbers (batch,).
    seeds : sequence, optional
        One seed per window: random polarity and circular shift; None for none.

    Returns
    -------
    tuple of np.ndarray
        Two float32 (batch, n_chans, n_times).
    """
    eeg = windows.read(ids)
    whitened = eeg if windows.config == measured.config else measured.read(ids)
    if seeds is None:
        return eeg, whitened
    draws = [np.random.default_rng(seed).integers([2, eeg.shape[-1]]) for seed in seeds]

    def change(signal: np.ndarray) -> np.ndarray:
        moved = [
            np.roll(row, shift, axis=-1) * (1 - 2 * sign) for row, (sign, shift) in zip(signal, draws, strict=True)
        ]
        return np.stack(moved).astype(np.float32)

    changed = change(eeg)
    return changed, changed if whitened is eeg else change(whitened)


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
