"""One process of a rollout test: trains a toy that writes its own samples, and is paid for their length."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from e2llm_core.training.config import TrainConfig
from e2llm_core.training.engine import stop_distributed
from e2llm_core.training.stage import Batch, Losses, ParameterGroup, Stage
from e2llm_core.training.trainer import Trainer
from e2llm_core.training.world import World

WORDS, LONGEST, END = 5, 12, 0


class Writer(nn.Module):
    """Logits of the next word, by the last one."""

    def __init__(self) -> None:
        super().__init__()
        self.next = nn.Linear(WORDS, WORDS)

    def forward(self, words: torch.Tensor) -> torch.Tensor:
        return self.next(nn.functional.one_hot(words, WORDS).float())


class LongTexts(Stage):
    """A policy gradient: texts end at a word of the model's choice, and longer ones are better."""

    name, generates, size = "long-texts", True, 24

    def build(self):
        model = Writer()
        return model, [ParameterGroup("writer", list(model.parameters()))]

    def prepare(self, micro):
        given = {"positions": torch.from_numpy(micro.positions), "own": torch.from_numpy(micro.weights)}
        return Batch(given, 0.0, int(micro.weights.sum()))

    def rollout(self, model, batches):
        return [self.written(model, batch) for batch in batches]

    def written(self, model: nn.Module, batch: Batch) -> Batch:
        """Write each text with the draws of its position; every rank calls the model equally often."""
        draws = [np.random.default_rng([7, position]) for position in batch.tensors["positions"].tolist()]
        words = torch.ones(len(draws), 1, dtype=torch.long)
        for _ in range(LONGEST):
            chances = model(words[:, -1]).softmax(dim=-1).double().cumsum(dim=-1)
            drawn = torch.tensor([draw.random() for draw in draws])[:, None]
            words = torch.cat([words, (chances < drawn).sum(dim=-1, keepdim=True).clamp(max=WORDS - 1)], dim=1)
        running = (words[:, 1:] == END).cumsum(dim=1) - (words[:, 1:] == END).long() == 0
        counted = running * batch.tensors["own"][:, None]
        number = int(counted.sum())
        return replace(batch, tensors={"words": words, "counted": counted}, num_targets=float(number), tokens=number)

    def losses(self, model, batch):
        words, counted = batch.tensors["words"], batch.tensors["counted"]
        chosen = model(words[:, :-1]).log_softmax(dim=-1).gather(2, words[:, 1:, None])[..., 0]
        reward = counted.sum(dim=1, keepdim=True) / LONGEST - 0.5
        return Losses(-(chosen * reward * counted).sum(), {})

    def validate(self, model, world):
        return {"score": 0.0}

    def export(self, model, state, folder):
        torch.save(state, folder / "state.pt")


def main(job: str) -> None:
    """Train in the folder of the job; stop after a step if it says so."""
    content = json.loads(Path(job).read_text())
    world = World.from_environment()
    config = TrainConfig(
        max_steps=8,
        global_batch=6,
        micro_batch=2,
        learning_rate=0.05,
        log_every=1,
        validate_every=8,
        checkpoint_every=3,
    )
    trainer = Trainer(LongTexts(), config, content["run"], world)
    trainer._stop = lambda: trainer.state.step == content["stop_after"]
    trainer.fit()
    stop_distributed()
