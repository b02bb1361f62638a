"""From a validated spec to its work: checks first, then the cluster, then the run's folder is marked done."""

import hashlib
import json
import os
from collections.abc import Callable
from typing import Any

from pydantic import BaseModel

from jobs.inputs import check_inputs, split_digest
from jobs.load import LoadedSpec
from jobs.paths import CODE, absolute, root_folder
from jobs.run_folder import RunFolder, chained_digest
from jobs.spec import EvaluateSpec, FeaturesSpec, IngestSpec, Job, ScoreSpec
from storage.places.location import locate
from storage.places.lock import only_job


def run(loaded: LoadedSpec, *, local: bool) -> None:
    """Run a job, unless it is done already.

    Parameters
    ----------
    loaded : LoadedSpec
        The validated spec and its digest.
    local : bool
        On a private Ray of this machine instead of the job's cluster.

    Raises
    ------
    InputError
        When an input is missing or does not fit, or another job is at work in the run; before any worker starts.
    """
    assert isinstance(loaded.spec, Job)
    spec: Job = absolute(loaded.spec, root_folder())
    name = str(spec.kind)  # type: ignore[attr-defined]
    inputs = check_inputs(spec)
    folder = RunFolder(spec.run, chained_digest(identity(loaded.spec), list(inputs.values())))
    if _has_nothing_to_do(spec, folder):
        return
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    from cluster.environment import environment
    from cluster.ray_log import ray_log, stderr_in
    from cluster.session import ray_session

    digests = {"spec": loaded.digest, "run": folder.digest, "inputs": inputs, "split": split_digest(spec)}
    facts = environment(CODE) | {"digests": digests}
    with only_job(folder.place) as confirm:
        if _has_nothing_to_do(spec, folder):  # another job has just done it
            return
        with folder.claimed(loaded.spec.model_dump(mode="json"), facts, confirm):
            log = ray_log(spec.run)
            print(f"[{name}] what Ray says is in {log}", flush=True)
            with stderr_in(log), ray_session(CODE, local=local):
                _WORK.get(name, _train)(spec, facts)
        if isinstance(spec, EvaluateSpec):
            _discard_answers(spec)
    print(f"[{name}] done: {spec.run}", flush=True)


def _has_nothing_to_do(spec: Job, folder: RunFolder) -> bool:
    """Whether the run is done, and say so; an ingest that is done looks for new and changed recordings."""
    looks_for_more = isinstance(spec, IngestSpec) and (spec.twin is None or not locate(spec.store).exists("zarr.json"))
    if folder.is_done() and not looks_for_more:
        print(f"[{spec.kind}] already done: {spec.run}", flush=True)  # type: ignore[attr-defined]
        return True
    return False


def identity(spec: BaseModel) -> str:
    """Digest of what a job computes: its spec without where it is written, on how many workers, in what pieces."""
    from e2llm_core.training.config import NOT_LEARNED

    content = spec.model_dump(mode="json", exclude={"run": True, "resources": True, "train": NOT_LEARNED})
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _ingest(spec: IngestSpec, facts: dict[str, Any]) -> None:
    from cluster.batch.ingest import ingest, make_twin
    from cluster.session import require_resources
    from jobs.ingest import plan_of

    require_resources(spec.resources)
    if spec.twin is not None:
        make_twin(spec.source.root, spec.twin)
    ingest(plan_of(spec), spec.resources, spec.run)


def _train(spec: Any, facts: dict[str, Any]) -> None:
    from cluster.train.training import train

    train(spec, spec.run, spec.resources)


def _evaluate(spec: EvaluateSpec, facts: dict[str, Any]) -> None:
    from cluster.batch.evaluation import evaluate

    print(f"[evaluate] report: {evaluate(spec, spec.run, spec.resources, facts)}", flush=True)


def _discard_answers(spec: EvaluateSpec) -> None:
    from e2llm_core.evaluation.answers import discard_answers

    discard_answers(spec.run)


def _score(spec: ScoreSpec, facts: dict[str, Any]) -> None:
    from cluster.batch.scoring import score

    print(f"[score] rows: {score(spec, spec.run, spec.resources)}", flush=True)


def _features(spec: FeaturesSpec, facts: dict[str, Any]) -> None:
    from cluster.batch.features import compute_features

    print(f"[features] {compute_features(spec, spec.run, spec.resources)}", flush=True)


_WORK: dict[str, Callable[[Any, dict[str, Any]], None]] = {
    "ingest": _ingest,
    "evaluate": _evaluate,
    "score": _score,
    "features": _features,
}
