"""Training without Ray: plans on ranks of our own, the same to the last bit as under Ray Train and far cheaper.

Ranks are forked from a process that has imported everything; starting them takes no time to speak of.
"""

import contextlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from multiprocessing import forkserver, get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from torch.distributed import TCPStore
from torch.multiprocessing import ProcessExitedException, ProcessRaisedException, start_processes

REPOSITORY = Path(__file__).resolve().parents[1]
_ENVIRONMENT = {"OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu", "PYTHONPATH": str(REPOSITORY)}


@dataclass(frozen=True)
class Ended:
    """How ranks ended: the first failure, empty when there was none, and what all wrote to the standard error."""

    failure: str
    stderr: str


def train(
    runs: dict[Path, dict[str, Any]],
    workers: int = 2,
    kill_after: int | None = None,
    stop_after: int | None = None,
    fault: str = "",
    threads: int = 1,
) -> Ended:
    """Train plans one after another, each in its run folder, and return how that ended.

    With `kill_after`, the ranks kill themselves once that step of the first plan and its checkpoint are written;
    with `stop_after`, every run is asked to stop after that step; `fault` is one of `tests/faulty`; `threads`
    are those of a rank.
    """
    _import_everything_once()
    with TemporaryDirectory() as folder, _store() as port:
        job = Path(folder) / "job.json"
        plans = {str(run): plan for run, plan in runs.items()}
        job.write_text(
            json.dumps({"plans": plans, "kill_after": kill_after, "stop_after": stop_after, "threads": threads})
        )
        variables = {
            "WORLD_SIZE": str(workers),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
            "TORCHELASTIC_USE_AGENT_STORE": "True",
            "E2LLM_TEST_FAULT": fault,
            "E2LLM_TEST_MARK": f"{folder}/mark",
        }
        failure = _run(workers, str(job), _shared_variables() | variables)
        stderr = "".join(path.read_text(errors="replace") for path in sorted(Path(folder).glob("*.stderr")))
    if kill_after is None and not fault:
        assert not failure, f"{failure}\n{stderr[-4000:]}"
    return Ended(failure, stderr)


def _run(workers: int, *arguments: Any) -> str:
    """Run ranks to their end; return the first failure."""
    from tests.one_rank import main

    context = start_processes(main, arguments, nprocs=workers, join=False, start_method="forkserver")
    try:
        while not context.join(grace_period=5):
            pass
    except (ProcessRaisedException, ProcessExitedException) as error:
        return str(error)
    finally:  # a test that takes too long ends here
        for process in context.processes:
            process.kill()
    return ""


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
