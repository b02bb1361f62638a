"""One process of an engine test: trains the plans named on the command line, as `torchrun` starts it."""

import json
import os
import signal
import sys
from pathlib import Path

from pydantic import TypeAdapter

from e2llm_core.stages.config import Plan
from e2llm_core.stages.table import build_stage
from e2llm_core.training.engine import stop_distributed
from e2llm_core.training.trainer import Trainer
from e2llm_core.training.world import World


def main(arguments: list[str]) -> None:
    world = World.from_environment()
    for name in arguments:
        job = json.loads(Path(name).read_text())
        plan = TypeAdapter(Plan).validate_python(job["plan"])

        def stop(metrics: dict[str, float], last: int | None = job["kill_after"]) -> None:
            if metrics["step"] == last:
                os.kill(os.getpid(), signal.SIGKILL)

        Trainer(build_stage(plan), plan.train, Path(job["run"]), world, stop).fit()
    stop_distributed()


if __name__ == "__main__":
    main(sys.argv[1:])
