"""The kinds of input that jobs read: stores, windows, models, features, runs. Light to import."""

import hashlib
import json
import posixpath
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from e2llm_core.llm.families.table import family_of
from e2llm_core.plan import Input
from e2llm_core.stages.config import CachedDataConfig, DataConfig
from storage.damage import damage_digest
from storage.errors import InputError
from storage.places.base import Location, is_url
from storage.places.fetching import SETTINGS, fetched
from storage.places.location import locate
from storage.splits import AXES, Split, SplitConfig, resolve_split
from storage.splits.checks import listed
from storage.store import Store, open_store
from storage.windows import WindowConfig, Windows

if TYPE_CHECKING:
    from e2llm_core.stages.probe import Origin

DONE, OWNER = "DONE.json", "run.json"
"""Files of a run: that it has finished, and which spec owns it."""


@dataclass(frozen=True)
class FileInput(Input):
    """A file that must be there; its content is no part of the run's identity.

    Parameters
    ----------
    path : str or Path
        File or folder named in the spec.
    problem, remedy : str
        Texts of the refusal.
    name : str
        Name of the file in the folder.
    """

    path: str | Path
    problem: str
    remedy: str
    name: str = ""

    def digest(self) -> None:
        """Refuse a file that is not there."""
        if not _is_there(posixpath.join(self.path, self.name) if self.name else str(self.path)):
            raise InputError(f"{self.field}: {self.path}", self.problem, self.remedy)


@dataclass(frozen=True)
class RunInput(Input):
    """A run that must have finished."""

    run: str

    def digest(self) -> str:
        """The run's own digest."""
        return finished_digest(self.run, self.field)


@dataclass(frozen=True)
class ModelInput(Input):
    """A model directory."""

    model: str

    def digest(self) -> str:
        """Digest of the run that made it, with that of its temperatures if there are any.

        Of a directory that was brought along it is the directory's own.
        """
        run = posixpath.dirname(self.model)
        if _is_there(f"{run}/{OWNER}"):
            from e2llm_core.model.calibration import CALIBRATION

            made = finished_digest(run, self.field)
            place = locate(self.model)
            if not place.exists(CALIBRATION):
                return made
            return f"{made} at {hashlib.sha256(place.read(CALIBRATION)).hexdigest()}"
        if not any(key.endswith(".safetensors") and "/" not in key for key in locate(self.model).files()):
            raise InputError(
                f"{self.field}: {self.model}", "no model here", "Run the job that creates it, or correct the path."
            )
        from e2llm_core.model.model_io import model_digest

        return model_digest(fetched(self.model))


@dataclass(frozen=True)
class LLMInput(Input):
    """A language model in a folder, at a URL, or on the hub."""

    name: str

    def digest(self) -> str:
        """As for every model directory; a hub id, which must be in the local cache or reachable, is its own digest."""
        place = f"{self.field}: {self.name}"
        if is_url(self.name) or Path(self.name).is_absolute() or self.name.startswith("."):
            digest = ModelInput(self.field, self.name).digest()
            config = json.loads((fetched(self.name, SETTINGS) / "config.json").read_text(encoding="utf-8"))
            family_of(config.get("model_type", ""), place)
            return digest
        from transformers import AutoConfig

        try:
            config = AutoConfig.from_pretrained(self.name, trust_remote_code=False)
        except (OSError, ValueError) as error:
            raise InputError(
                place,
                "neither a folder nor a model of the hub",
                "Correct the path, or download the model on a machine with network and name its folder.",
            ) from error
        family_of(config.model_type, place)
        return self.name


@dataclass(frozen=True)
class StoreInput(Input):
    """A store, with or without labels, of which one side of a split may be read."""

    store: str
    split: SplitConfig | None = None

    def digest(self) -> str:
        """The store's own digest."""
        return open_store(self.store).digest

    def split_digest(self) -> str | None:
        """Of the resolved split."""
        return None if self.split is None else _split_digest(self.store, self.split)


@dataclass(frozen=True)
class LabelledWindows(Input):
    """Windows of a store with labels, on every side of a split."""

    data: DataConfig

    def digest(self) -> str:
        """The store's digest, with that of its damaged windows where they are left out."""
        store: Store = open_store(self.data.store)
        store.require_labels()
        split = resolve_split(self.data.split, store.trials)
        for name, side in split.sides.items():
            windows = Windows(store, self.data.windows, side.rows(store.trials))
            if windows.num_skipped:
                kept = f"{windows.num_skipped:,} windows left out as damaged, {len(windows):,} kept"
                print(f"[{name}] {kept}", flush=True)
        if self.data.windows.damaged == "skip":
            return f"{store.digest} without {damage_digest(store)}"
        return store.digest

    def split_digest(self) -> str:
        """Of the resolved split."""
        return _split_digest(self.data.store, self.data.split)


@dataclass(frozen=True)
class StoreLabels(Input):
    """The labels of a store, for a setting that not all labels allow; no input of its own.

    Attributes
    ----------
    check : callable
        From the labels and the setting's name to an `InputError`, or nothing.
    """

    store: str
    check: Callable[[Sequence[str], str], object]

    def digest(self) -> None:
        """Refuse labels that the setting does not allow."""
        self.check(open_store(self.store).label_set.names, self.field)


@dataclass(frozen=True)
class Fit(Input):
    """A model's fit with the data: it takes these windows, and has not seen what the job tests on."""

    model: str
    data: DataConfig

    def digest(self) -> None:
        """Refuse a model that does not fit."""
        store = open_store(self.data.store)
        split = resolve_split(self.data.split, store.trials)
        windows = Windows(store, self.data.windows, split.train.rows(store.trials))
        origin = same_windows(windows, "data.windows", self.model, self.field)
        if origin.store_digest == store.digest and (seen := _seen(origin, split, store.trials)):
            raise InputError(
                "data.split",
                f"tests on {seen} that {self.model} was trained or selected on",
                "Use the split of its spec.yaml.",
            )


@dataclass(frozen=True)
class WindowsOfModel(Input):
    """All windows of a store, cut as a model takes them."""

    model: str
    store: str
    windows: WindowConfig

    def digest(self) -> str | None:
        """Digest of the damaged windows where they are left out."""
        windows = Windows(open_store(self.store), self.windows)
        same_windows(windows, "windows", self.model, "model")
        return damage_digest(windows.store) if self.windows.damaged == "skip" else None


@dataclass(frozen=True)
class FeaturesInput(Input):
    """A frozen tower's outputs, where the data names some."""

    data: CachedDataConfig
    tower: str

    def digest(self) -> str | None:
        """The features' own digest."""
        if self.data.features is None:
            return None
        from e2llm_core.stages.data import EEGData

        features = EEGData.open(self.data, fetched(self.tower)).features
        assert features is not None
        return features.digest


@dataclass(frozen=True)
class CorpusInput(Input):
    """A corpus of dialogues, where the data names one.

    Attributes
    ----------
    stage : str
        Name of the stage that trains on it.
    settings : mapping
        What its dialogues depend on, beside the inputs.
    """

    data: CachedDataConfig
    model: str
    stage: str
    settings: Mapping[str, Any]

    def digest(self) -> str | None:
        """The corpus's own digest."""
        if self.data.corpus is None:
            return None
        from e2llm_core.stages.corpus.source import check_settings, open_corpus
        from e2llm_core.stages.data import EEGData

        model = fetched(self.model)
        corpus = open_corpus(EEGData.open(self.data, model), self.stage, model)
        assert corpus is not None
        check_settings(corpus, self.settings)
        return corpus.digest


def read_facts(run: str | Path | Location, name: str) -> dict[str, Any]:
    """Read one of the JSON files of a run; empty when it is not there."""
    place = locate(run)
    return dict(json.loads(place.read(name))) if place.exists(name) else {}


def finished_digest(run: str | Path, field: str) -> str:
    """Digest of a finished run.

    Raises
    ------
    InputError
        When the run is not there or has not finished.
    """
    done = read_facts(run, DONE)
    if not done:
        raise InputError(f"{field}: {run}", "no finished run here", "Run the job that creates it first.")
    return str(done["digest"])


def same_windows(windows: Windows, place: str, model: str, field: str) -> "Origin":
    """Check that a model was trained on windows of these channels and this rate, cut so; the stride is free.

    Parameters
    ----------
    windows : Windows
        Windows that the model will read.
    place : str
        Key of the spec that says how they are cut.
    model : str
        Directory or URL of the model.
    field : str
        Key of the spec that names the model.

    Returns
    -------
    Origin
        Data that the model was trained on.

    Raises
    ------
    InputError
        When the windows differ, or the model does not say what it was trained on.
    """
    from e2llm_core.stages.probe import load_origin

    folder = fetched(model, SETTINGS)
    if not (folder / "probe.json").exists():
        raise InputError(f"{field}: {model}", "no probe.json here", "Name the `model` folder of a run of this project.")
    origin = load_origin(folder)
    free = origin.windows.model_dump(include={"stride_seconds", "channels"})
    if windows.config.model_copy(update=free) != origin.windows:
        raise InputError(
            place, f"differ from those that {model} was trained on", "Copy `data.windows` from its spec.yaml."
        )
    eeg = _eeg(folder)
    if windows.sfreq_hz != eeg["sfreq_hz"]:
        raise InputError(
            str(windows.store.root),
            f"is sampled at {windows.sfreq_hz:g} Hz, {model} takes {eeg['sfreq_hz']:g} Hz",
            f"Ingest with signal.sfreq_hz={eeg['sfreq_hz']:g}.",
        )
    if list(windows.channels) != eeg["channels"]:
        raise InputError(
            f"{place}.channels",
            f"are {listed(windows.channels)}; {model} takes {listed(eeg['channels'])}, in this order",
            f"Name them in {place}.channels.",
        )
    return origin


def _is_there(file: str) -> bool:
    folder, name = posixpath.split(file)
    return locate(folder).exists(name)


def _split_digest(store: str, split: SplitConfig) -> str:
    return resolve_split(split, open_store(store).trials).digest


def _eeg(folder: Path) -> Mapping[str, Any]:
    """What the segments of a later stage's model, or of stage 1's tower, are."""
    name = "config.json" if (folder / "config.json").exists() else "tower.json"
    return dict(json.loads((folder / name).read_text())["eeg"])


def _seen(origin: "Origin", split: Split, trials: pd.DataFrame) -> str:
    """Name the test side's trials, values of its declared axes, or labels it leaves out, that a model has seen."""
    before = np.any([side.holds(trials) for side in origin.sides], axis=0)
    if common := sorted(set(trials.loc[before, "label"]) & set(split.train.without)):
        return f"labels {listed(common)}"
    tested = split.test.holds(trials)
    for axis in split.disjoint_on:
        common = sorted(set(trials.loc[before, AXES[axis]]) & set(trials.loc[tested, AXES[axis]]))
        if common:
            return f"{axis}s {listed(common)}"
    return f"{(before & tested).sum()} trials" if (before & tested).any() else ""
