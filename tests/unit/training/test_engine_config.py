import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from e2llm_core.training.config import TrainConfig
from e2llm_core.training.engine import deepspeed_config
from e2llm_core.training.sharding import num_micro_steps, shard
from e2llm_core.training.world import World


@given(global_batch=st.integers(1, 200), micro_batch=st.integers(1, 40), size=st.integers(1, 9))
def test_the_batch_numbers_are_those_of_the_shards(global_batch, micro_batch, size):
    config = TrainConfig(global_batch=global_batch, micro_batch=micro_batch)
    settings = deepspeed_config(config, World(size=size))
    micro, steps = settings["train_micro_batch_size_per_gpu"], settings["gradient_accumulation_steps"]
    parts = shard(np.arange(global_batch), 0, micro_batch, World(size=size))
    assert steps == len(parts) == num_micro_steps(global_batch, micro_batch, size)
    assert {len(part.ids) for part in parts} == {micro}
    assert settings["train_batch_size"] == micro * steps * size >= global_batch


@pytest.mark.parametrize(
    ("changes", "key", "value"),
    [
        ({}, ("zero_optimization", "stage"), 3),
        ({"zero_stage": 1}, ("zero_optimization", "stage"), 1),
        ({}, ("bf16", "enabled"), False),
        ({"precision": "bf16"}, ("bf16", "enabled"), True),
        ({"gradient_clip": 0.3}, ("gradient_clipping",), 0.3),
        ({"learning_rate": 0.02}, ("optimizer", "params", "lr"), 0.02),
        ({"weight_decay": 0.5}, ("optimizer", "params", "weight_decay"), 0.5),
        ({}, ("optimizer", "params", "torch_adam"), True),
        ({"offload": "cpu"}, ("optimizer", "params", "torch_adam"), False),
        ({"offload": "cpu"}, ("zero_optimization", "offload_optimizer", "device"), "cpu"),
    ],
)
def test_settings_reach_deepspeed(changes, key, value):
    found = deepspeed_config(TrainConfig(**changes), World())
    for part in key:
        found = found[part]
    assert found == value


def test_without_offload_nothing_is_offloaded():
    assert set(deepspeed_config(TrainConfig(), World())["zero_optimization"]) == {"stage"}
