"""Training without Ray: plans on ranks of our own, the same to the last bit as under Ray Train and far cheaper.

Ranks are forked from a process that has imported everything; starting them takes no time to speak of.
"""

import contextlib
import json
import os
import signal
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from multiprocessing import forkserver, get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType
from typing import Any

import pytest
from torch.distributed import TCPStore
from torch.multiprocessing import ProcessExitedException, ProcessRaisedException, start_processes

from storage.places.location import locate

REPOSITORY = Path(__file__).resolve().parents[1]
_ENVIRONMENT = {"OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu", "PYTHONPATH": str(REPOSITORY)}


@dataclass(frozen=True)
class Ended:
    """How ranks ended: the first failure, empty when there was none, and what all wrote to the standard error."""

    failure: str
    stderr: str


def train(
    runs: dict[Path, dict[str, Any]] | dict[str, dict[str, Any]],
    workers: int = 2,
    kill_after: int | None = None,
    stop_after: int | None = None,
    hang_seconds: float | None = None,
    fault: str = "",
    may_fail: bool = False,
    threads: int = 1,
) -> Ended:
    """Train plans one after another, each in its run folder or URL, and return how that ended.

    With `kill_after`, the ranks kill themselves once that step of the first plan and its checkpoint are written;
    with `stop_after`, every run is asked to stop after that step; with `hang_seconds`, a step that takes longer ends
    its process; `fault` is one of `tests/faulty`, with which ranks may fail; `threads` are those of a rank.
    """
    with TemporaryDirectory() as folder:
        job = Path(folder) / "job.json"
        plans = {str(run): plan for run, plan in runs.items()}
        options = {"kill_after": kill_after, "stop_after": stop_after, "hang_seconds": hang_seconds, "threads": threads}
        job.write_text(json.dumps({"plans": plans, **options}))
        faults = {"E2LLM_TEST_FAULT": fault, "E2LLM_TEST_MARK": f"{folder}/mark"}
        ended = run("tests.one_rank:train", str(job), workers, faults)
    if kill_after is None and not fault and not may_fail:
        assert not ended.failure, f"{ended.failure}\n{ended.stderr[-4000:]}"
    return ended


@contextlib.contextmanager
def instead_of_ray(workers: int = 1, stop_after: int | None = None) -> Iterator[None]:
    """While the block runs, training jobs of this process train on ranks, and all else of them is as it is.

    With `stop_after` a SIGTERM comes in that step.
    """

    def attempt(plan: Any, run: str | Path, resources: Any, *_: object) -> str:
        train({str(run): plan.model_dump(mode="json")}, workers, stop_after=stop_after)
        if stop_after is None:
            return "finished"
        signal.raise_signal(signal.SIGTERM)
        while locate(run).read("stop") != b"stop":
            time.sleep(0.02)
        return "stopped"

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cluster.session.ray_session", lambda *arguments, **settings: contextlib.nullcontext())
        patch.setattr("cluster.train.training.require_resources", lambda resources: None)
        patch.setattr("cluster.train.training._attempt", attempt)
        yield


def run(function: str, argument: str, workers: int = 2, variables: Mapping[str, str] = MappingProxyType({})) -> Ended:
    """Call a function, given as `module:name`, on every rank, with an argument and more variables."""
    from tests.one_rank import main

    _import_everything_once()
    with TemporaryDirectory() as folder, _store() as port:
        found = {
            "WORLD_SIZE": str(workers),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
            "TORCHELASTIC_USE_AGENT_STORE": "True",
        }
        arguments = (f"{folder}/rank", _shared_variables() | found | dict(variables), function, argument)
        context = start_processes(main, arguments, nprocs=workers, join=False, start_method="forkserver")
        failure = ""
        try:
            while not context.join(grace_period=5):
                pass
        except (ProcessRaisedException, ProcessExitedException) as error:
            failure = str(error)
        finally:  # a test that takes too long ends here
            for process in context.processes:
                process.kill()
        stderr = "".join(path.read_text(errors="replace") for path in sorted(Path(folder).glob("*.stderr")))
    return Ended(failure, stderr)


@cache
def _import_everything_once() -> None:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in _ENVIRONMENT.items():
            patch.setenv(name, value)
        get_context("forkserver").set_forkserver_preload(["tests.one_rank"])
        forkserver.ensure_running()


def _shared_variables() -> dict[str, str]:
    """Where an object store is, and the project's own settings, as they are now."""
    from tests.one_rank import INHERITED

    return {name: value for name, value in os.environ.items() if name.startswith(INHERITED)}


@contextlib.contextmanager
def _store() -> Iterator[int]:
    """Open what ranks find each other through, as `torchrun` does; yields its port."""
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    yield int(store.port)
