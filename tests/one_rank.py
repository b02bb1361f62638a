"""One rank of :mod:`tests.ranks`; imports all that training needs, once for every rank that is forked from it."""

import json
import os
import signal
import sys
from contextlib import nullcontext
from functools import partial
from importlib import import_module
from pathlib import Path

import deepspeed  # noqa: F401
import sklearn.metrics  # noqa: F401
import torch
import torch._dynamo
import transformers.integrations.deepspeed  # noqa: F401
from pydantic import TypeAdapter

from e2llm_core.model.modeling_e2llm import E2LLMForConditionalGeneration  # noqa: F401
from e2llm_core.stages.config import StagePlan, build_stage
from e2llm_core.stages.table import AnyPlan
from e2llm_core.training.engine import stop_distributed
from e2llm_core.training.faults import Watchdog
from e2llm_core.training.stage import Stage
from e2llm_core.training.trainer import Prepared, Trainer
from e2llm_core.training.world import World
from storage.places.workspace import Workspace

INHERITED = ("AWS_", "E2LLM_")
"""Beginnings of variables that tests change; those of the process that ranks are forked from are the first test's."""


class KilledTrainer(Trainer):
    """Kills its own process, as `kill -9` would, once step `last` is behind it and what was being written is complete.

    Checkpoints are written beside the steps: killed any earlier, a run may go on from the one before.
    """

    last: int | None = None

    def _train_step(self, step: int, ready: Prepared, loader_wait: float) -> dict[str, float]:
        if self.last is not None and step == self.last + 1:
            self.checkpoints.finish(self.engine)
            self.world.barrier()
            os.kill(os.getpid(), signal.SIGKILL)
        return super()._train_step(step, ready, loader_wait)


def stops(trainer: Trainer, stop_after: int | None) -> bool:
    """Only the last rank is asked to stop; all must follow."""
    return trainer.world.rank == trainer.world.size - 1 and trainer.state.step == stop_after


def build(plan: StagePlan) -> Stage:
    """Build a stage, with the fault that was asked for."""
    stage = build_stage(plan)
    if not os.environ["E2LLM_TEST_FAULT"]:
        return stage
    from tests.faulty.sitecustomize import misbehaving

    return misbehaving(stage)


def main(rank: int, stderr: str, variables: dict[str, str], function: str, argument: str) -> None:
    """Be one rank: call a function, given as `module:name`, with an argument."""
    for name in [name for name in os.environ if name.startswith(INHERITED)]:
        del os.environ[name]
    os.environ |= variables | {"RANK": str(rank), "LOCAL_RANK": str(rank)}
    os.dup2(os.open(f"{stderr}.{rank}.stderr", os.O_WRONLY | os.O_CREAT), sys.stderr.fileno())
    module, _, name = function.partition(":")
    getattr(import_module(module), name)(argument)


def train(job: str) -> None:
    """Train the plans of a job, in one process group."""
    content = json.loads(Path(job).read_text())
    torch.set_num_threads(content["threads"])
    world, seconds = World.from_environment(), content["hang_seconds"]
    for run, given in content["plans"].items():
        plan, workspace = TypeAdapter(AnyPlan).validate_python(given), Workspace(run, world.node_rank)
        with Watchdog(workspace.folder, world.rank, seconds) if seconds else nullcontext() as watchdog:
            trainer = KilledTrainer(build(plan), plan.train, workspace, world, watchdog=watchdog)
            trainer._stop = partial(stops, trainer, content["stop_after"])
            trainer.last = content["kill_after"]
            outcome = trainer.fit()
        assert outcome == ("stopped" if content["stop_after"] else "finished")
        if trainer.checkpoints.leads:
            workspace.discard()
    stop_distributed()
