"""One process of an engine test: trains the plans named on the command line, as `torchrun` starts it."""

import json
import os
import signal
import sys
from functools import partial
from pathlib import Path

from pydantic import TypeAdapter

from e2llm_core.stages.config import Plan
from e2llm_core.stages.table import build_stage
from e2llm_core.training.engine import stop_distributed
from e2llm_core.training.stage import Batch
from e2llm_core.training.trainer import Trainer
from e2llm_core.training.world import World


class KilledTrainer(Trainer):
    """Kills its own process, as `kill -9` would, once step `last` is behind it and what was being written is complete.

    Checkpoints are written beside the steps: killed any earlier, a run may go on from the one before.
    """

    last: int | None = None

    def _train_step(self, step: int, prepared: list[Batch], loader_wait: float) -> dict[str, float]:
        if self.last is not None and step == self.last + 1:
            self.checkpoints.finish(self.engine)
            self.world.barrier()
            os.kill(os.getpid(), signal.SIGKILL)
        return super()._train_step(step, prepared, loader_wait)


def stops(trainer: Trainer, job: dict) -> bool:
    """Only the last rank is asked to stop; all must follow."""
    return trainer.world.rank == trainer.world.size - 1 and trainer.state.step == job["stop_after"]


def main(arguments: list[str]) -> None:
    world = World.from_environment()
    for name in arguments:
        job = json.loads(Path(name).read_text())
        plan = TypeAdapter(Plan).validate_python(job["plan"])
        trainer = KilledTrainer(build_stage(plan), plan.train, Path(job["run"]), world)
        trainer._stop = partial(stops, trainer, job)
        trainer.last = job["kill_after"]
        outcome = trainer.fit()
        assert outcome == ("stopped" if job["stop_after"] else "finished")
    stop_distributed()


if __name__ == "__main__":
    main(sys.argv[1:])
