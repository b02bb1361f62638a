"""What a spec builds on: checked before any worker starts, and part of the run's identity."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from jobs.run_folder import finished_digest
from jobs.spec import EvaluateSpec, FeaturesSpec, IngestSpec, Job, ScoreSpec, Stage1Spec, Stage2Spec, Stage3Spec
from storage.damage import damage_digest
from storage.errors import InputError
from storage.splits import AXES, Split, resolve_split
from storage.splits.checks import listed
from storage.store import Store, open_store
from storage.windows import WindowConfig, Windows

if TYPE_CHECKING:
    from e2llm_core.stages.probe import Origin


def check_inputs(spec: Job) -> list[str]:
    """Check everything that a job reads.

    Parameters
    ----------
    spec : Job
        With absolute paths.

    Returns
    -------
    list of str
        Digests of the inputs, which the run's own digest is chained to.

    Raises
    ------
    InputError
        Naming the missing or unfitting input.
    """
    match spec:
        case IngestSpec():
            if spec.twin is None:
                spec.source.list_recordings()
            return []
        case Stage1Spec():
            if spec.model.weights is not None and not spec.model.weights.is_file():
                raise InputError(
                    f"model.weights: {spec.model.weights}",
                    "no EEGPT checkpoint here",
                    "Download the published one, or set model.weights=null to start from scratch.",
                )
            return [_labelled(spec)]
        case Stage2Spec():
            inputs = [_model(spec.model.tower, "model.tower"), _labelled(spec), _llm(spec.model.llm)]
            _fits(spec, spec.model.tower, "model.tower")
            return inputs + _features(spec, spec.model.tower)
        case Stage3Spec():
            inputs = [_model(spec.model.start, "model.start"), _labelled(spec)]
            _same_llm(spec)
            _fits(spec, spec.model.start, "model.start")
            return inputs + _features(spec, spec.model.start)
        case EvaluateSpec():
            inputs = [finished_digest(run, f"stages.{name}") for name, run in spec.stages.items()]
            inputs += [_model(spec.model, "model"), _labelled(spec)]
            _fits(spec, spec.model, "model")
            _twin(spec)
            return inputs
        case FeaturesSpec():
            inputs = [_model(spec.model, "model"), open_store(spec.store).digest]
            _same_windows(spec.windows, "windows", spec.model, "model")
            windows = Windows(open_store(spec.store), spec.windows)
            return [*inputs, damage_digest(windows.store)] if spec.windows.damaged == "skip" else inputs
        case ScoreSpec():
            store = open_store(spec.store)
            return [store.digest, _model(spec.model, "model")]
        case _:
            return []


def _labelled(spec: Stage1Spec | Stage2Spec | Stage3Spec | EvaluateSpec) -> str:
    """Digest of a store that has labels, and windows for every side of the split."""
    store: Store = open_store(spec.data.store)
    store.require_labels()
    split = resolve_split(spec.data.split, store.trials)
    for name, side in split.sides.items():
        windows = Windows(store, spec.data.windows, side.rows(store.trials))
        if windows.num_skipped:
            print(f"[{name}] {windows.num_skipped:,} windows left out as damaged, {len(windows):,} kept", flush=True)
    if spec.data.windows.damaged == "skip":
        return f"{store.digest} without {damage_digest(store)}"
    return store.digest


def _model(folder: Path, field: str) -> str:
    """Digest of the run that made a model directory, or of the directory itself if it was brought along."""
    if (folder.parent / "run.json").exists():
        return finished_digest(folder.parent, field)
    if not any(folder.glob("*.safetensors")):
        raise InputError(f"{field}: {folder}", "no model here", "Run the job that makes it, or correct the path.")
    from e2llm_core.model_io import model_digest

    return model_digest(folder)


def _features(spec: Stage2Spec | Stage3Spec, tower: Path) -> list[str]:
    """Digest of the features that a stage reads, when it reads some."""
    if spec.data.features is None:
        return []
    from e2llm_core.stages.features import open_features

    every = Windows(open_store(spec.data.store), spec.data.windows)
    return [open_features(spec.data.features, every, tower).digest]


def _same_windows(windows: WindowConfig, place: str, model: Path, field: str) -> "Origin":
    """The model was trained on windows that were cut so; the stride is free."""
    from e2llm_core.stages.probe import load_origin

    if not (model / "probe.json").exists():
        raise InputError(f"{field}: {model}", "no probe.json here", "Name the `model` folder of a run of this project.")
    origin = load_origin(model)
    if windows.model_copy(update={"stride_seconds": origin.windows.stride_seconds}) != origin.windows:
        raise InputError(
            place, f"differ from those that {model} was trained on", "Copy `data.windows` from its spec.yaml."
        )
    return origin


def _fits(spec: Stage2Spec | Stage3Spec | EvaluateSpec, model: Path, field: str) -> None:
    """The model takes these windows, and has not seen what this spec tests on."""
    store = open_store(spec.data.store)
    trials, origin = store.trials, _same_windows(spec.data.windows, "data.windows", model, field)
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


def _llm(name: str) -> str:
    """Digest of a local language model; a hub id must be in the local cache or reachable."""
    if Path(name).is_absolute() or name.startswith("."):
        return _model(Path(name), "model.llm")
    from transformers import AutoConfig

    try:
        AutoConfig.from_pretrained(name, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise InputError(
            f"model.llm: {name}",
            "neither a folder nor a model that the hub gave",
            "Correct the path, or download the model on a machine with network and name its folder.",
        ) from error
    return name


def _same_llm(spec: Stage3Spec) -> None:
    if spec.model.llm is None:
        return
    import json

    source = json.loads((spec.model.start / "config.json").read_text()).get("llm_source") or {}
    aligned = source.get("name", "")
    if spec.model.llm != aligned and Path(spec.model.llm) != (spec.model.start / aligned).resolve():
        raise InputError(
            f"model.llm: {spec.model.llm}",
            f"stage 2 aligned its projector to {aligned}",
            f"Run stage 2 with model.llm={spec.model.llm} and start from its model.",
        )
