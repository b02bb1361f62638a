"""Muon and AdamW as one optimizer: each on its own half, and the same after a restart."""

import copy

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from e2llm_core.training.config import TrainConfig
from e2llm_core.training.decay import optimizer_groups
from e2llm_core.training.muon import MuonAndAdamW
from e2llm_core.training.stage import ParameterGroup

BETAS = (0.9, 0.98)
RATE, DECAY = 0.05, 0.1


def model_of(seed: int = 0) -> nn.Sequential:
    """Two matrices, a table of embeddings, a bias and a gain."""
    torch.manual_seed(seed)
    return nn.Sequential(nn.Embedding(7, 4), nn.Linear(4, 6), nn.LayerNorm(6), nn.Linear(6, 3, bias=False))


def optimizer_of(model: nn.Module, decay: float = DECAY) -> MuonAndAdamW:
    named = [ParameterGroup("llm", list(model.parameters()))]
    return MuonAndAdamW(optimizer_groups(model, named, {"llm": RATE}, decay, matrices_only=True), BETAS)


def take_steps(model: nn.Module, optimizers: list, first: int, last: int) -> None:
    for step in range(first, last):
        tokens = torch.arange(5) + step % 3
        model(tokens).square().sum().backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()


@pytest.mark.parametrize("decay", [DECAY, 0.0])
def test_each_half_moves_as_under_its_own_optimizer(decay):
    both, apart = model_of(), model_of()
    matrices = [apart[1].weight, apart[3].weight]
    rest = [apart[0].weight, apart[1].bias, apart[2].weight, apart[2].bias]
    muon = torch.optim.Muon(matrices, lr=RATE, weight_decay=decay, adjust_lr_fn="match_rms_adamw")
    adamw = torch.optim.AdamW(rest, lr=RATE, betas=BETAS, weight_decay=0.0)
    take_steps(both, [optimizer_of(both, decay)], 0, 4)
    take_steps(apart, [muon, adamw], 0, 4)
    for (name, found), expected in zip(both.named_parameters(), apart.parameters(), strict=True):
        torch.testing.assert_close(found, expected, msg=name)


def test_it_goes_on_from_its_state_at_the_rate_that_a_scheduler_sets():
    through, stopped = model_of(), model_of()
    whole, first = optimizer_of(through), optimizer_of(stopped)
    for model, optimizer in ((through, whole), (stopped, first)):
        take_steps(model, [optimizer], 0, 3)
    second = optimizer_of(stopped)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    for optimizer in (whole, second):
        torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5)
    take_steps(through, [whole], 3, 6)
    take_steps(stopped, [second], 3, 6)
    for found, expected in zip(stopped.parameters(), through.parameters(), strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=0)


def test_updates_have_the_size_of_adams():
    model = nn.Sequential(nn.Linear(64, 64, bias=False))
    before = model[0].weight.detach().clone()
    model(torch.randn(80, 64)).square().sum().backward()
    optimizer_of(model, 0.0).step()
    moved = (model[0].weight.detach() - before).square().mean().sqrt()
    assert 0.1 * RATE < float(moved) < RATE


def test_kernels_of_convolutions_are_adams():
    model = nn.Sequential(nn.Conv1d(2, 3, 5), nn.Linear(4, 4))
    kinds = {id(p): group["spared"] for group in optimizer_of(model).param_groups for p in group["params"]}
    assert kinds[id(model[0].weight)]
    assert not kinds[id(model[1].weight)]


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_shared_matrices_are_refused(stage):
    with pytest.raises(ValidationError, match=f"muon needs zero_stage 0, not {stage}"):
        TrainConfig(optimizer="muon", zero_stage=stage)
