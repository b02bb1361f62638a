from types import SimpleNamespace

import pytest
import torch

from e2llm_core.training.config import TrainConfig
from e2llm_core.training.engine import Engine, deepspeed_config
from e2llm_core.training.world import World
from storage.errors import InputError


@pytest.mark.parametrize("size", [1, 3])
def test_deepspeed_divides_by_no_accumulation_of_its_own(size):
    """Losses are normalised by the step's units; the engine says itself where a step ends."""
    settings = deepspeed_config(TrainConfig(global_batch=50, micro_batch=4), World(size=size))
    assert settings["gradient_accumulation_steps"] == 1
    assert settings["train_batch_size"] == settings["train_micro_batch_size_per_gpu"] * size


@pytest.mark.parametrize(
    ("changes", "key", "value"),
    [
        ({}, ("zero_optimization", "stage"), 3),
        ({"zero_stage": 1}, ("zero_optimization", "stage"), 1),
        ({}, ("bf16", "enabled"), False),
        ({"precision": "bf16"}, ("bf16", "enabled"), True),
        ({"precision": "bf16"}, ("data_types", "grad_accum_dtype"), "fp32"),
        ({"gradient_clip": 0.3}, ("gradient_clipping",), 0.3),
        ({"learning_rate": 0.02}, ("optimizer", "params", "lr"), 0.02),
        ({"weight_decay": 0.5}, ("optimizer", "params", "weight_decay"), 0.5),
        ({}, ("optimizer", "params", "torch_adam"), True),
        ({"offload": "cpu"}, ("optimizer", "params", "fused"), True),
        ({"offload": "cpu"}, ("zero_optimization", "offload_optimizer", "device"), "cpu"),
        ({"offload": "cpu"}, ("zero_optimization", "offload_param", "device"), "cpu"),
        ({"offload": "nvme", "nvme_path": "/n"}, ("zero_optimization", "offload_optimizer", "device"), "cpu"),
        ({"offload": "nvme", "nvme_path": "/n"}, ("zero_optimization", "offload_param", "nvme_path"), "/n"),
        ({"offload": "nvme", "nvme_path": "/n"}, ("zero_optimization", "offload_param", "device"), "nvme"),
        ({"offload": "cpu"}, ("zero_optimization", "offload_param", "pin_memory"), False),
    ],
)
def test_settings_reach_deepspeed(changes, key, value):
    found = deepspeed_config(TrainConfig(**changes), World())
    for part in key:
        found = found[part]
    assert found == value


def test_without_offload_nothing_is_offloaded():
    assert set(deepspeed_config(TrainConfig(), World())["zero_optimization"]) == {"stage"}


def test_parameters_stay_where_zero_3_does_not_part_them():
    found = deepspeed_config(TrainConfig(zero_stage=1, offload="cpu"), World())["zero_optimization"]
    assert set(found) == {"stage", "offload_optimizer"}


def test_bf16_needs_zero_to_add_gradients_up_in_float32():
    with pytest.raises(ValueError, match="precision bf16 needs zero_stage 1 or more"):
        TrainConfig(precision="bf16", zero_stage=0)


class BF16_Optimizer(SimpleNamespace):
    """Stand-in for DeepSpeed's optimizer of ZeRO-1 in bf16."""


class DeepSpeedZeroOptimizer(SimpleNamespace):
    """Stand-in for its optimizer with offload."""


@pytest.mark.parametrize(
    ("written", "decay", "told"),
    [
        ("BF16_Optimizer", 0.1, None),
        ("DeepSpeedZeroOptimizer", 0.1, r"another train\.optimizer or train\.offload .*\. Set them back"),
        ("BF16_Optimizer", 0.0, "other parameter groups"),
        ("DeepSpeedZeroOptimizer", 0.0, "other parameter groups"),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_refused_with_the_true_reason(tmp_path, written, decay, told):
    engine = object.__new__(Engine)
    engine._engine = SimpleNamespace(optimizer=BF16_Optimizer(param_groups=[{"name": "llm", "weight_decay": 0.1}]))
    torch.save({"optimizer": written, "groups": [["llm", decay]]}, tmp_path / "groups.pt")
    if told is None:
        engine._require_layout(tmp_path)
        return
    with pytest.raises(InputError, match=told):
        engine._require_layout(tmp_path)
