"""One process of a rollout test: trains the stage of docs/extending.md, which writes its own samples."""

import json
from pathlib import Path

from e2llm_core.training.config import TrainConfig
from e2llm_core.training.engine import stop_distributed
from e2llm_core.training.trainer import Trainer
from e2llm_core.training.world import World
from tests.extending import load


def main(job: str) -> None:
    """Train in the folder of the job; stop after a step if it says so."""
    content = json.loads(Path(job).read_text())
    world, stage = World.from_environment(), load("e2llm_core/stages/long_texts/stage.py").LongTexts(words=5)
    config = TrainConfig(
        max_steps=8,
        global_batch=6,
        micro_batch=2,
        learning_rate=0.05,
        log_every=1,
        validate_every=8,
        checkpoint_every=3,
    )
    trainer = Trainer(stage, config, content["run"], world)
    trainer._stop = lambda: trainer.state.step == content["stop_after"]
    trainer.fit()
    stop_distributed()
