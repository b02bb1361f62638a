"""The windows that baselines are fitted to and answer about: their labels, their sides and their features."""

import hashlib
import io
import json
from collections.abc import Sized
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from e2llm_core.evaluation.references.features.base import Features
from e2llm_core.evaluation.references.sides import with_validation
from e2llm_core.stages.data import EEGData
from storage.damage import damage_digest
from storage.errors import InputError
from storage.places.location import locate
from storage.splits import Side
from storage.windows import Windows

_READ = 64


class BaselineWindows:
    """The windows of all sides as baselines see them, cut and adapted as for the model.

    No signal is read before features are requested.

    Parameters
    ----------
    data : EEGData
        Store, windows and split.
    seed : int
        Seed of solvers, networks and random draws.
    kept : str, optional
        Folder or URL that keeps features from one evaluation to the next: those of the whole store, which do not
        depend on the fold. Without it, only the sessions of the split are measured, for this evaluation alone.

    Attributes
    ----------
    sides : dict of str to Side
        The sides ``train``, ``validation`` and ``test``.

    Raises
    ------
    InputError
        If the split leaves no subject to choose settings on, or if features of the whole store are to be kept but its
        recordings cannot be cut alike.
    """

    def __init__(self, data: EEGData, seed: int, kept: str | None = None) -> None:
        self.data, self.seed = data, seed
        self.sides = with_validation(data.split)
        self._kept = kept
        self._plain = data.cut.model_copy(update={"normalisation": "none", "adaptation": "none"})
        self._windows = Windows(data.store, self._plain, _whole_sessions(data, self.sides))
        self._everything = None if kept is None else self._whole_store()
        self._features: dict[str, NDArray[np.float32]] = {}

    @property
    def labels(self) -> tuple[str, ...]:
        """Class names."""
        return self.data.labels

    @property
    def size(self) -> tuple[int, int, float]:
        """Channels and samples of a window, and the sampling rate in hertz."""
        return len(self._windows.channels), self._windows.n_times, self._windows.sfreq_hz

    @property
    def table(self) -> pd.DataFrame:
        """All windows of the sessions that occur on any side, one row each."""
        return self._windows.table

    @property
    def truth(self) -> NDArray[np.object_]:
        """Label of each row of `table`."""
        return self.table["label"].to_numpy(object, copy=True)

    @cached_property
    def masks(self) -> dict[str, NDArray[np.bool_]]:
        """Mask of each side's rows of `table`."""
        return {name: side.holds(self.table) for name, side in self.sides.items()}

    def features(self, kind: Features) -> NDArray[np.float32]:
        """Features (rows, d) of a kind, adapted to their sessions and placed in this fold."""
        rule = self.data.config.windows.adaptation
        if kind.name not in self._features:
            stored = self._everything
            adapted = self._adapted(kind, self._windows) if stored is None else self._of_store(kind, stored)
            self._features[kind.name] = kind.in_fold(adapted, self.masks["train"], rule)
        return self._features[kind.name]

    def _adapted(self, kind: Features, windows: Windows) -> NDArray[np.float32]:
        measured = np.concatenate([kind.measure(windows.read(ids), windows.sfreq_hz) for ids in batches_of(windows)])
        table = windows.table
        groups = (table["subject"] + "/" + table["session"]).to_numpy()
        return kind.adapt(measured, groups, self.data.config.windows.adaptation, table[["position", "stop"]].to_numpy())

    def _whole_store(self) -> Windows:
        """All windows of the store, with the channels of the split's windows."""
        self._plain = self._plain.model_copy(update={"channels": self._windows.channels})
        try:
            return Windows(self.data.store, self._plain)
        except InputError as error:
            problem = f"keeps features of the whole store, in which {error.place} {error.problem}"
            remedy = "Leave it out, or name `windows.channels` that every recording has."
            raise InputError("kept_features", problem, remedy) from error

    def _of_store(self, kind: Features, everything: Windows) -> NDArray[np.float32]:
        """Features of the rows of `table`, out of those of the whole store, which are measured unless they are kept."""
        place, name = locate(str(self._kept)), self._file(kind)
        if not place.exists(name):
            place.write(name, _as_npy(self._adapted(kind, everything)))
        features: NDArray[np.float32] = np.load(io.BytesIO(place.read(name)), allow_pickle=False)
        used = pd.MultiIndex.from_frame(self.table[["subject", "session"]]).unique()
        return features[pd.MultiIndex.from_frame(everything.table[["subject", "session"]]).isin(used)]

    def _file(self, kind: Features) -> str:
        """File name with a digest of all that the features depend on."""
        store = self.data.store
        depends = {
            "store": store.digest,
            "damage": damage_digest(store) if self._plain.damaged == "skip" else None,
            "windows": self._plain.model_dump(mode="json"),
            "adaptation": self.data.config.windows.adaptation,
            "version": kind.version,
        }
        digest = hashlib.sha256(json.dumps(depends, sort_keys=True).encode()).hexdigest()
        return f"{kind.name}-{digest[:16]}.npy"


def _whole_sessions(data: EEGData, sides: dict[str, Side]) -> pd.DataFrame:
    """All trials of the sessions that occur on any side: adaptation may use these, as for the model."""
    trials = data.store.trials
    used = np.any([side.holds(trials) for side in sides.values()], axis=0)
    sessions = pd.MultiIndex.from_frame(trials[["subject", "session"]])
    return trials[sessions.isin(sessions[used])]


def batches_of(source: Sized) -> list[np.ndarray]:
    """Indices of all windows, in batches that are read together."""
    return np.array_split(np.arange(len(source)), -(-len(source) // _READ))


def _as_npy(features: NDArray[np.float32]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, features, allow_pickle=False)
    return buffer.getvalue()
