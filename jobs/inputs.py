"""What a spec builds on: checked before any worker starts, and part of the run's identity."""

from pathlib import Path

from jobs.run_folder import finished_digest
from jobs.spec import EvaluateSpec, IngestSpec, Job, ScoreSpec, Stage1Spec, Stage2Spec, Stage3Spec
from storage.errors import InputError
from storage.splits import resolve_split
from storage.store import Store, open_store
from storage.windows import Windows


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
            if spec.model.weights is not None and not spec.model.weights.exists():
                raise InputError(
                    f"model.weights: {spec.model.weights}",
                    "no EEGPT checkpoint here",
                    "Download the published one, or set model.weights=null to start from scratch.",
                )
            return [_labelled(spec)]
        case Stage2Spec():
            return [_labelled(spec), _model(spec.model.tower, "model.tower"), _llm(spec.model.llm)]
        case Stage3Spec():
            start = _model(spec.model.start, "model.start")
            _same_llm(spec)
            return [_labelled(spec), start]
        case EvaluateSpec():
            stages = [finished_digest(run, f"stages.{name}") for name, run in spec.stages.items()]
            return [_labelled(spec), _model(spec.model, "model"), *stages]
        case ScoreSpec():
            store = open_store(spec.store)
            return [store.digest, _model(spec.model, "model")]
        case _:
            return []


def _labelled(spec: Stage1Spec | Stage2Spec | Stage3Spec | EvaluateSpec) -> str:
    """Digest of a store that has labels, and windows for the split's training subjects."""
    store: Store = open_store(spec.data.store)
    store.require_labels()
    split = resolve_split(spec.data.split, store.trials)
    for subjects in (split.train, split.test):
        Windows(store, spec.data.windows, subjects)
    return store.digest


def _model(folder: Path, field: str) -> str:
    """Digest of the run that made a model directory, or of the directory itself if it was brought along."""
    if (folder.parent / "run.json").exists():
        return finished_digest(folder.parent, field)
    if not any(folder.glob("*.safetensors")):
        raise InputError(f"{field}: {folder}", "no model here", "Run the job that makes it, or correct the path.")
    from e2llm_core.model_io import model_digest

    return model_digest(folder)


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
