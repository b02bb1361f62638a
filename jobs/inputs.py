"""What a spec builds on: checked before any worker starts, and part of the run's identity."""

import json
import posixpath
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from jobs.run_folder import OWNER, finished_digest
from jobs.spec import EvaluateSpec, FeaturesSpec, IngestSpec, Job, ScoreSpec, Stage1Spec, Stage2Spec, Stage3Spec
from storage.damage import damage_digest
from storage.errors import InputError
from storage.places.base import is_url
from storage.places.fetching import SETTINGS, fetched
from storage.places.location import locate
from storage.splits import AXES, Split, resolve_split
from storage.splits.checks import listed
from storage.store import Store, open_store
from storage.windows import Windows

if TYPE_CHECKING:
    from e2llm_core.stages.probe import Origin


def check_inputs(spec: Job) -> dict[str, str]:
    """Check everything that a job reads.

    Parameters
    ----------
    spec : Job
        With absolute paths.

    Returns
    -------
    dict
        Digests of the inputs by the fields that name them, in a fixed order; the run's own digest is chained to them.

    Raises
    ------
    InputError
        Naming the missing or unfitting input.
    """
    match spec:
        case IngestSpec():
            if spec.twin is None:
                spec.source.list_recordings()
            return {}
        case Stage1Spec():
            if spec.model.weights is not None and not _is_there(spec.model.weights):
                raise InputError(
                    f"model.weights: {spec.model.weights}",
                    "no EEGPT checkpoint here",
                    "Download the published one, or set model.weights=null to start from scratch.",
                )
            return _labelled(spec)
        case Stage2Spec():
            inputs = _model(spec.model.tower, "model.tower") | _labelled(spec) | _llm(spec.model.llm)
            _fits(spec, spec.model.tower, "model.tower")
            return inputs | _features(spec, spec.model.tower)
        case Stage3Spec():
            inputs = _model(spec.model.start, "model.start") | _labelled(spec)
            _same_llm(spec)
            _fits(spec, spec.model.start, "model.start")
            return inputs | _features(spec, spec.model.start)
        case EvaluateSpec():
            fields = {f"stages.{name}": run for name, run in spec.stages.items()}
            inputs = {field: finished_digest(run, field) for field, run in fields.items()}
            inputs |= _model(spec.model, "model") | _labelled(spec)
            _fits(spec, spec.model, "model")
            _twin(spec)
            return inputs
        case FeaturesSpec():
            inputs = _model(spec.model, "model") | {"store": open_store(spec.store).digest}
            windows = Windows(open_store(spec.store), spec.windows)
            _same_windows(windows, "windows", spec.model, "model")
            return inputs | ({"damage": damage_digest(windows.store)} if spec.windows.damaged == "skip" else {})
        case ScoreSpec():
            return {"store": open_store(spec.store).digest} | _model(spec.model, "model")
        case _:
            return {}


def split_digest(spec: Job) -> str | None:
    """Digest of a spec's split on its store; None where it has none."""
    match spec:
        case Stage1Spec() | Stage2Spec() | Stage3Spec() | EvaluateSpec():
            split, store = spec.data.split, spec.data.store
        case ScoreSpec() if spec.split is not None:
            split, store = spec.split, spec.store
        case _:
            return None
    return resolve_split(split, open_store(store).trials).digest


def _labelled(spec: Stage1Spec | Stage2Spec | Stage3Spec | EvaluateSpec) -> dict[str, str]:
    """Digest of a store that has labels, and windows for every side of the split."""
    store: Store = open_store(spec.data.store)
    store.require_labels()
    split = resolve_split(spec.data.split, store.trials)
    for name, side in split.sides.items():
        windows = Windows(store, spec.data.windows, side.rows(store.trials))
        if windows.num_skipped:
            print(f"[{name}] {windows.num_skipped:,} windows left out as damaged, {len(windows):,} kept", flush=True)
    if spec.data.windows.damaged == "skip":
        return {"data.store": f"{store.digest} without {damage_digest(store)}"}
    return {"data.store": store.digest}


def _is_there(file: str) -> bool:
    folder, name = posixpath.split(file)
    return locate(folder).exists(name)


def _model(model: str, field: str) -> dict[str, str]:
    """Digest of the run that made a model directory, or of the directory itself if it was brought along."""
    run = posixpath.dirname(model)
    if _is_there(f"{run}/{OWNER}"):
        return {field: finished_digest(run, field)}
    if not any(key.endswith(".safetensors") and "/" not in key for key in locate(model).files()):
        raise InputError(f"{field}: {model}", "no model here", "Run the job that makes it, or correct the path.")
    from e2llm_core.model.model_io import model_digest

    return {field: model_digest(fetched(model))}


def _features(spec: Stage2Spec | Stage3Spec, tower: str) -> dict[str, str]:
    """Digest of the features that a stage reads, when it reads some."""
    if spec.data.features is None:
        return {}
    from e2llm_core.stages.data import EEGData

    features = EEGData.open(spec.data, fetched(tower)).features
    assert features is not None
    return {"data.features": features.digest}


def _same_windows(windows: Windows, place: str, model: str, field: str) -> "Origin":
    """The model was trained on windows of these channels and this rate that were cut so; the stride is free."""
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


def _eeg(folder: Path) -> dict[str, Any]:
    """What the segments of a later stage's model, or of stage 1's tower, are."""
    name = "config.json" if (folder / "config.json").exists() else "tower.json"
    return dict(json.loads((folder / name).read_text())["eeg"])


def _fits(spec: Stage2Spec | Stage3Spec | EvaluateSpec, model: str, field: str) -> None:
    """The model takes these windows, and has not seen what this spec tests on."""
    store = open_store(spec.data.store)
    trials = store.trials
    train = resolve_split(spec.data.split, trials).train
    windows = Windows(store, spec.data.windows, train.rows(trials))
    origin = _same_windows(windows, "data.windows", model, field)
    if origin.store_digest == store.digest and (seen := _seen(origin, resolve_split(spec.data.split, trials), trials)):
        raise InputError(
            "data.split", f"tests on {seen} that {model} was trained or selected on", "Use the split of its spec.yaml."
        )


def _seen(origin: "Origin", split: Split, trials: pd.DataFrame) -> str:
    """Name the test side's trials, or values of its declared axes, that a model has seen."""
    before = np.any([side.holds(trials) for side in origin.sides], axis=0)
    tested = split.test.holds(trials)
    for axis in split.disjoint_on:
        common = sorted(set(trials.loc[before, AXES[axis]]) & set(trials.loc[tested, AXES[axis]]))
        if common:
            return f"{axis}s {listed(common)}"
    return f"{(before & tested).sum()} trials" if (before & tested).any() else ""


def _twin(spec: EvaluateSpec) -> None:
    if spec.twin is not None and not (spec.twin / "twin.json").exists():
        raise InputError(f"twin: {spec.twin}", "no twin.json here", "Name the folder of the twin, or leave it out.")


def _llm(name: str) -> dict[str, str]:
    """Digest of a language model in a folder or at a URL; a hub id must be in the local cache or reachable."""
    if is_url(name) or Path(name).is_absolute() or name.startswith("."):
        return _model(name, "model.llm")
    from transformers import AutoConfig

    try:
        AutoConfig.from_pretrained(name, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise InputError(
            f"model.llm: {name}",
            "neither a folder nor a model that the hub gave",
            "Correct the path, or download the model on a machine with network and name its folder.",
        ) from error
    return {"model.llm": name}


def _same_llm(spec: Stage3Spec) -> None:
    if spec.model.llm is None:
        return
    from e2llm_core.model.model_io import llm_place

    start = fetched(spec.model.start, SETTINGS)
    source = json.loads((start / "config.json").read_text()).get("llm_source")
    aligned = "" if source is None else source["name"]
    if spec.model.llm.rstrip("/") not in (aligned, llm_place(spec.model.start, source)):
        raise InputError(
            f"model.llm: {spec.model.llm}",
            f"stage 2 aligned its projector to {aligned}",
            f"Run stage 2 with model.llm={spec.model.llm} and start from its model.",
        )
