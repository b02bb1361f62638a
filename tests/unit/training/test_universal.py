from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from e2llm_core.training.config import TrainConfig
from e2llm_core.training.engine import Engine
from e2llm_core.training.universal import group_settings, repair_groups, universal_form
from e2llm_core.training.world import World
from storage.errors import InputError


def engine_with_two_groups(rates: tuple[float, ...] = (5e-4, 2e-4)) -> SimpleNamespace:
    """What is left of two groups, or more, after DeepSpeed loaded a universal checkpoint."""
    shared = torch.tensor(6.0)
    groups = [{"params": [], "lr": 1e-3, "name": "projector", "weight_decay": 0.1} for _ in rates]
    inner = SimpleNamespace(state={name: {"step": shared} for name in ("first", "second", "third", "fourth")})
    scheduler = SimpleNamespace(get_last_lr=lambda: list(rates))
    return SimpleNamespace(optimizer=SimpleNamespace(param_groups=groups, optimizer=inner), lr_scheduler=scheduler)


def test_every_group_gets_its_own_settings_and_the_scheduled_rate():
    engine = engine_with_two_groups()
    before = group_settings(engine)
    before[1] |= {"name": "lora", "weight_decay": 0.0}
    repair_groups(engine, before)
    first, second = engine.optimizer.param_groups
    assert (first["name"], first["weight_decay"], first["lr"]) == ("projector", 0.1, 5e-4)
    assert (second["name"], second["weight_decay"], second["lr"]) == ("lora", 0.0, 2e-4)


def test_names_that_are_two_groups_each_keep_their_decay_and_rate():
    engine = engine_with_two_groups((5e-4, 5e-4, 2e-4, 2e-4))
    before = group_settings(engine)
    wanted = [("projector", 0.1, 5e-4), ("projector", 0.0, 5e-4), ("llm", 0.1, 2e-4), ("llm", 0.0, 2e-4)]
    for group, (name, decay, _) in zip(before, wanted, strict=True):
        group |= {"name": name, "weight_decay": decay}
    repair_groups(engine, before)
    found = [(group["name"], group["weight_decay"], group["lr"]) for group in engine.optimizer.param_groups]
    assert found == wanted


def test_step_counters_are_separate():
    engine = engine_with_two_groups()
    repair_groups(engine, group_settings(engine))
    states = engine.optimizer.optimizer.state
    states["first"]["step"] += 1
    assert (float(states["first"]["step"]), float(states["second"]["step"])) == (7.0, 6.0)


def test_a_checkpoint_that_cannot_be_converted_says_why_and_stays(tmp_path: Path):
    folder = tmp_path / "step-000001"
    (folder / "zero").mkdir(parents=True)
    with pytest.raises(RuntimeError, match="could not convert"), universal_form(folder, "zero", World(), converts=True):
        pass
    assert folder.exists()


@pytest.mark.parametrize("stage", [0, 1, 2])
def test_other_stages_of_zero_are_refused(tmp_path: Path, stage: int):
    engine = object.__new__(Engine)
    engine._config = TrainConfig(zero_stage=stage)
    with pytest.raises(InputError, match=f"train.zero_stage is {stage}"):
        engine.load_resharded(tmp_path, converts=True)


def test_counters_that_disagree_are_not_trusted():
    engine = engine_with_two_groups()
    engine.optimizer.optimizer.state["second"]["step"] = torch.tensor(9.0)
    with pytest.raises(RuntimeError, match="counters differ"):
        repair_groups(engine, group_settings(engine))
