"""From a validated spec to its work: checks first, then the cluster, then the run's folder is marked done."""

import hashlib
import json
import os

from pydantic import BaseModel

from e2llm_core.plan import check_inputs, split_digest
from jobs.job import Job, absolute
from jobs.load import LoadedSpec
from jobs.paths import CODE, root_folder
from jobs.run_folder import RunFolder, chained_digest
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
    inputs = spec.inputs()
    checked = check_inputs(inputs)
    folder = RunFolder(spec.run, chained_digest(identity(loaded.spec), list(checked.values())))
    if _has_nothing_to_do(spec, folder):
        return
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    from cluster.environment import environment
    from cluster.ray_log import ray_log, stderr_in
    from cluster.session import ray_session

    digests = {"spec": loaded.digest, "run": folder.digest, "inputs": checked, "split": split_digest(inputs)}
    facts = environment(CODE) | {"digests": digests}
    with only_job(folder.place) as confirm:
        if _has_nothing_to_do(spec, folder):  # another job has just done it
            return
        with folder.claimed(loaded.spec.model_dump(mode="json"), facts, confirm):
            log = ray_log(spec.run)
            print(f"[{spec.kind}] what Ray says is in {log}", flush=True)
            with stderr_in(log), ray_session(CODE, local=local):
                spec.work(facts)
        spec.tidy()
    print(f"[{spec.kind}] done: {spec.run}", flush=True)


def _has_nothing_to_do(spec: Job, folder: RunFolder) -> bool:
    """Whether the run is done, and say so."""
    if folder.is_done() and not spec.looks_for_more:
        print(f"[{spec.kind}] already done: {spec.run}", flush=True)
        return True
    return False


def identity(spec: BaseModel) -> str:
    """Digest of what a job computes: its spec without where it is written, on how many workers, in what pieces."""
    from e2llm_core.training.config import NOT_LEARNED

    content = spec.model_dump(mode="json", exclude={"run": True, "resources": True, "train": NOT_LEARNED})
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
