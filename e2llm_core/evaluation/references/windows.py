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
    """The windows of all sides, as baselines see them: in the model's cut and adaptation.

    No signal is read before the first features are asked for.

    Parameters
    ----------
    data : EEGData
        Store, windows and split.
    seed : int
        Of solvers, networks and what is drawn.
    kept : str, optional
        Folder or URL where features are kept from one evaluation to the next: those of the whole store, which do not
        depend on the fold. Without it, only the sessions of the split are measured, for this evaluation alone.

    Attributes
    ----------
    sides : dict of str to Side
        Train, validation and test.

    Raises
    ------
    InputError
        Where the split leaves nobody to choose settings on, or features of the whole store are to be kept and its
        recordings are too unlike.
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
        """All windows of the sessions that a side has windows of, one row each."""
        return self._windows.table

    @property
    def truth(self) -> NDArray[np.object_]:
        """Label of each row."""
        return self.table["label"].to_numpy(object, copy=True)

    @cached_property
    def masks(self) -> dict[str, NDArray[np.bool_]]:
        """Rows of each side."""
        return {name: side.holds(self.table) for name, side in self.sides.items()}

    def features(self, kind: Features) -> NDArray[np.float32]:
        """Features (rows, d) of a kind: adapted to their sessions, placed in this fold."""
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
        """All windows of the store, of the channels that the split's have."""
        self._plain = self._plain.model_copy(update={"channels": self._windows.channels})
        try:
            return Windows(self.data.store, self._plain)
        except InputError as error:
            problem = f"keeps features of the whole store, in which {error.place} {error.problem}"
            remedy = "Leave it out, or name `windows.channels` that every recording has."
            raise InputError("kept_features", problem, remedy) from error

    def _of_store(self, kind: Features, everything: Windows) -> NDArray[np.float32]:
        """The same rows out of those of the whole store, which are measured where nobody has done so."""
        place, name = locate(str(self._kept)), self._file(kind)
        if not place.exists(name):
            place.write(name, _as_npy(self._adapted(kind, everything)))
        features: NDArray[np.float32] = np.load(io.BytesIO(place.read(name)), allow_pickle=False)
        used = pd.MultiIndex.from_frame(self.table[["subject", "session"]]).unique()
        return features[pd.MultiIndex.from_frame(everything.table[["subject", "session"]]).isin(used)]

    def _file(self, kind: Features) -> str:
        """Name that says all that the features depend on."""
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
    """All trials of the sessions that a side has trials of: what adaptation may use, as for the model."""
    trials = data.store.trials
    used = np.any([side.holds(trials) for side in sides.values()], axis=0)
    sessions = pd.MultiIndex.from_frame(trials[["subject", "session"]])
    return trials[sessions.isin(sessions[used])]


def batches_of(source: Sized) -> list[np.ndarray]:
    """Places of all windows, those that are read together in one."""
    return np.array_split(np.arange(len(source)), -(-len(source) // _READ))


def _as_npy(features: NDArray[np.float32]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, features, allow_pickle=False)
    return buffer.getvalue()
