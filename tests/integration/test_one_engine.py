"""DeepSpeed on one rank, in a process of its own: how gradients add up, and which checkpoints are refused."""

import contextlib
import io
import json
import os
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.multiprocessing import start_processes

from e2llm_core.training.config import TrainConfig
from e2llm_core.training.engine import Engine, start_distributed, stop_distributed
from e2llm_core.training.stage import ParameterGroup
from e2llm_core.training.world import World
from storage.errors import InputError
from tests import ranks

pytestmark = [pytest.mark.integration, pytest.mark.slow]

MICRO_BATCHES, SMALL = 64, 2.0**-9
"""One gradient of 1 and many of 2^-9: in bf16, 1 + 2^-9 is 1."""
SHARING = {
    "zero-1": {"zero_stage": 1},
    "zero-2": {"zero_stage": 2},
    "zero-3": {},
    "zero-1-cpu": {"zero_stage": 1, "offload": "cpu"},
    "zero-3-cpu": {"offload": "cpu"},
}


class Weighted(nn.Module):
    """Its gradient is its input."""

    def __init__(self) -> None:
        super().__init__()
        self.proj = nn.Linear(8, 8)

    def forward(self, x_OI: torch.Tensor) -> torch.Tensor:
        return (self.proj.weight * x_OI).sum() + 0.0 * self.proj.bias.sum()


def made(**settings: object) -> Engine:
    config = TrainConfig(**{"max_steps": 4, "weight_decay": 0.1, "learning_rate": 0.01, **settings})
    model = Weighted()
    return Engine(model, [ParameterGroup("heads", list(model.parameters()))], config, World())


def accumulated(engine: Engine) -> float:
    """Mean gradient of a step of many micro-batches, by its norm; all its entries are equal."""
    for number in range(MICRO_BATCHES):
        x = torch.full((8, 8), SMALL if number else 1.0, dtype=torch.bfloat16)
        engine.backward(engine.forward_model()(x), 1.0, last=number == MICRO_BATCHES - 1)
    assert engine.step()
    norm = engine.gradient_norm()
    assert norm is not None
    return norm / 8


def held(engine: Engine) -> list[tuple[int, int]]:
    """Bytes each, and numbers, of all gradients that there are between a backward pass and the step."""
    engine.backward(engine.forward_model()(torch.ones(8, 8, dtype=torch.bfloat16)), 1.0, last=True)
    tensors = [*engine._engine.optimizer.fp32_groups_gradients_flat, *(p.grad for p in engine.model.parameters())]
    return sorted((tensor.element_size(), tensor.numel()) for tensor in tensors)


def measure(name: str, settings: dict, folder: Path, found: dict[str, dict]) -> None:
    """Train a step in one way of sharing memory, and load its checkpoint in this one and others."""
    engine, place = made(precision="bf16", **settings), folder / name
    found["mean"][name] = accumulated(engine)
    found["rates"][name] = list(engine.learning_rates())
    if name == "zero-1":
        found["held"] = held(made(precision="bf16", **settings))
    engine.save(place)
    engine.finish_saving()
    found["same"][name] = said(engine, place)
    found["other"][name] = said(made(precision="bf16", **settings | {"weight_decay": 0.0}), place)
    if settings.get("zero_stage") == 1:
        moved = {"offload": "none" if "offload" in settings else "cpu"}
        found["moved"][name] = said(made(precision="bf16", **settings | moved), place)
    (place / "groups.pt").unlink()
    found["old"][name] = said(engine, place)


def said(engine: Engine, folder: Path) -> str:
    try:
        engine.load(folder)
    except InputError as error:
        return str(error)
    return ""


def muon_steps(place: Path | None) -> list[float]:
    """The matrix after two steps of Muon without ZeRO, of which the second may resume at a place."""
    torch.manual_seed(0)
    engine, x = made(optimizer="muon", zero_stage=0), torch.eye(8)
    for step in range(2):
        if step and place:
            engine.save(place)
            engine.finish_saving()
            engine = made(optimizer="muon", zero_stage=0)
            engine.load(place)
        engine.backward(engine.forward_model()(x + step * torch.ones(8, 8).triu()), 1.0, last=True)
        assert engine.step()
    return engine.gathered_state()["proj.weight"].flatten().tolist()


def main(rank: int, folder: str) -> None:
    """Measure, and write what was found."""
    os.environ["RANK"] = os.environ["LOCAL_RANK"] = "0"
    start_distributed(World())
    found: dict[str, dict] = {"mean": {}, "same": {}, "other": {}, "old": {}, "rates": {}, "printed": {}, "moved": {}}
    for name, settings in SHARING.items():
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            measure(name, settings, Path(folder), found)
        found["printed"][name] = printed.getvalue()
    plain = made(weight_decay=0.0)
    plain.save(Path(folder) / "plain")
    plain.finish_saving()
    (Path(folder) / "plain/groups.pt").unlink()
    found["old"]["plain"] = said(plain, Path(folder) / "plain")
    found["muon"] = {"through": muon_steps(None), "resumed": muon_steps(Path(folder) / "muon")}
    Path(f"{folder}/found.json").write_text(json.dumps(found))
    stop_distributed()


@pytest.fixture(scope="module")
def found(tmp_path_factory) -> dict[str, dict]:
    folder = tmp_path_factory.mktemp("one")
    ranks._import_everything_once()
    start_processes(main, (str(folder),), nprocs=1, start_method="forkserver")
    return json.loads((folder / "found.json").read_text())


@pytest.mark.parametrize("name", SHARING)
def test_under_bf16_gradients_add_up_in_float32(found, name):
    """Within one rounding to bf16; added up in bf16, all but the first would be lost, 11 %."""
    expected = 1 + (MICRO_BATCHES - 1) * SMALL
    assert found["mean"][name] == pytest.approx(expected, rel=2**-8)


@pytest.mark.parametrize("name", SHARING)
def test_a_checkpoint_of_other_groups_is_refused(found, name):
    assert found["same"][name] == ""
    assert found["rates"][name] == ["heads"]
    for kind in ("other", "old"):
        assert "other parameter groups" in found[kind][name]
        assert "another `run:`" in found[kind][name]


def test_an_old_checkpoint_without_decay_goes_on(found):
    assert found["old"]["plain"] == ""


@pytest.mark.parametrize("name", ["zero-1", "zero-1-cpu"])
def test_zero_1_in_bf16_does_not_go_on_under_another_offload_and_says_why(found, name):
    assert "another train.optimizer or train.offload" in found["moved"][name]
    assert "Set them back" in found["moved"][name]


def test_muon_goes_on_where_it_stopped(found):
    assert found["muon"]["resumed"] == found["muon"]["through"]


def test_zero_1_in_bf16_starts_and_resumes_in_silence(found):
    assert found["printed"]["zero-1"] == ""


def test_zero_1_in_bf16_holds_what_the_plan_counts(found):
    """A whole float32 sum and bf16 gradients: 6 bytes a number, of weight and bias."""
    assert found["held"] == [[2, 8], [2, 64], [4, 8], [4, 64]]
