"""What one step of the loop asks of the device and of other ranks."""

from collections import Counter
from types import SimpleNamespace

import pytest
import torch
from torch.overrides import TorchFunctionMode

from e2llm_core.training.checkpoint import TrainerState
from e2llm_core.training.config import TrainConfig
from e2llm_core.training.metrics import MetricsLog, read_metrics
from e2llm_core.training.stage import Batch, Losses, LossTerm
from e2llm_core.training.trainer import Trainer
from e2llm_core.training.world import World
from storage.errors import InputError

WAITING = {"tolist", "item", "__float__", "__bool__", "__int__", "cpu", "numpy", "nonzero", "__index__"}
"""Of a tensor: what makes the host wait for the device."""


class Waits(TorchFunctionMode):
    """Counts what would wait for a GPU."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: Counter[str] = Counter()

    def __torch_function__(self, function, types, args=(), kwargs=None):
        name = getattr(function, "__name__", "")
        if name in WAITING:
            self.seen[name] += 1
        return function(*args, **(kwargs or {}))


class CountingWorld(World):
    """Counts collective calls of the training thread, and of the one that prepares."""

    sums = 0
    beside = 0

    def sum(self, values, computed=None):
        type(self).sums += 1
        return super().sum(values, computed)

    def sum_beside(self, values):
        type(self).beside += 1
        return super().sum_beside(values)


class Stage:
    """Losses of a tensor: `total` of each micro-batch, half of it a part of its own."""

    generates = False

    def gradient_cache(self, model, batches):
        return batches

    def losses(self, model, batch):
        total = batch.tensors["x"].sum()
        return Losses(total, {"half": LossTerm(total / 2, batch.num_targets)})

    def flops(self, batch):
        return None

    def batches(self, ids, first, config, world):
        return [Batch({"x": torch.ones(3)}, 2.0, 2, 6), Batch({"x": torch.ones(3)}, 1.0, 1, 3)]


class Engine:
    is_saving = False

    def __init__(self) -> None:
        self.is_finite, self.norms = True, 0

    def forward_model(self):
        return None

    def learning_rates(self):
        return {"heads": 1e-3}

    def backward(self, total, num_targets, last):
        self.num_targets = num_targets

    def step(self):
        return self.is_finite

    def gradient_norm(self):
        self.norms += 1
        return 2.0


@pytest.fixture
def trainer(tmp_path):
    """A trainer whose model is a stand-in."""
    CountingWorld.sums = CountingWorld.beside = 0
    found = object.__new__(Trainer)
    found.stage, found.engine, found.world = Stage(), Engine(), CountingWorld()
    found.config = TrainConfig(max_steps=100, log_every=10, validate_every=100, checkpoint_every=100, global_batch=3)
    found.order = SimpleNamespace(batch=lambda step, size: torch.arange(size).numpy())
    found.meter = SimpleNamespace(begin=lambda: None, end=lambda *given: None, row=dict)
    found.finished = []
    found.checkpoints = SimpleNamespace(is_written=lambda engine: True, finish=lambda engine: found.finished.append(1))
    found.workspace = SimpleNamespace(name="run")
    found._stop = lambda: False
    return found


def test_a_step_that_is_not_logged_waits_for_the_device_once(trainer):
    ready = trainer._prepare(1)
    assert (CountingWorld.sums, CountingWorld.beside) == (0, 1)
    with Waits() as waits:
        metrics = trainer._train_step(2, ready, 0.0)
    assert sum(waits.seen.values()) == 1, dict(waits.seen)
    assert (CountingWorld.sums, CountingWorld.beside) == (1, 1)
    assert (metrics["loss"], metrics["half"]) == (2.0, 1.0)
    assert trainer.engine.num_targets == metrics["units"] == 3.0
    assert (metrics["samples"], metrics["tokens"]) == (3.0, 9.0)
    assert trainer.engine.norms == 0


def test_a_stage_that_generates_is_counted_afterwards(trainer):
    """Its rollouts are made without gradients by the model in evaluation mode; there is one more exchange."""
    model = trainer.engine.model = torch.nn.Linear(1, 1)
    seen = []

    def rollout(given, batches):
        seen.append((given is model, given.training, torch.is_grad_enabled(), [batch.num_targets for batch in batches]))
        return [Batch({"x": torch.ones(4)}, 4.0, 1, 8) for _ in range(3)]

    trainer.stage.generates, trainer.stage.rollout = True, rollout
    metrics = trainer._train_step(1, trainer._prepare(1), 0.0)
    assert seen == [(True, False, False, [2.0, 1.0])]
    assert model.training
    assert (CountingWorld.sums, CountingWorld.beside) == (2, 1)
    assert trainer.engine.num_targets == metrics["units"] == 12.0
    assert (metrics["samples"], metrics["tokens"], metrics["loss"]) == (3.0, 24.0, 1.0)


def test_only_a_logged_step_asks_for_the_norm(trainer, tmp_path):
    trainer.state = TrainerState(8, 1)
    log = MetricsLog(tmp_path, "stage1", 100, 0, trainer.world)
    ready = trainer._prepare(1)
    for step in (9, 10, 11):
        trainer._step(step, ready, 0.0, log)
    log.close()
    assert [row["gradient_norm"] for row in read_metrics(tmp_path / "metrics.jsonl")] == [2.0]
    assert trainer.engine.norms == 1


def test_stopping_and_what_was_written_travel_with_the_losses(trainer):
    ready = trainer._prepare(1)
    trainer.checkpoints.is_written = lambda engine: False
    trainer._train_step(1, ready, 0.0)
    assert not trainer._stops
    assert not trainer.finished
    trainer._stop, trainer.checkpoints.is_written = lambda: True, lambda engine: True
    trainer._train_step(2, ready, 0.0)
    assert trainer._stops
    assert trainer.finished
    assert CountingWorld.sums == 2


@pytest.mark.parametrize("broken", ["loss", "gradients"])
def test_what_is_not_finite_ends_the_run_at_its_step(trainer, broken):
    ready = trainer._prepare(1)
    if broken == "loss":
        ready.batches[1].tensors["x"][0] = float("nan")
    trainer.engine.is_finite = broken != "gradients"
    with pytest.raises(InputError, match="step 7"):
        trainer._train_step(7, ready, 0.0)


def test_what_a_rank_that_left_would_have_sent_is_not_missed(trainer):
    def prepared(error):
        yield "batches"
        raise error

    trainer._last = 100
    trainer._drain(5, prepared(RuntimeError("Connection closed by peer")))
    trainer._drain(5, prepared(InputError("store", "cannot be read", "Look")))
    assert trainer._last <= 7
    with pytest.raises(KeyError):
        trainer._drain(5, prepared(KeyError("a mistake of ours")))
