"""What decays, and that no group gets lost."""

import pytest
import torch
from torch import nn

from e2llm_core.encoders.eegpt.architecture import EEGPT, EEGPTConfig
from e2llm_core.model.projector import build_projector, complete_projector_config
from e2llm_core.tower.temporal import TemporalTransformer
from e2llm_core.training.decay import optimizer_groups, undecayed
from e2llm_core.training.stage import ParameterGroup


def decayed(model: nn.Module) -> set[str]:
    spared = undecayed(model)
    return {name for name, parameter in model.named_parameters() if id(parameter) not in spared}


def test_of_the_tower_only_matrices_decay():
    tower = nn.ModuleDict(
        {"encoder": EEGPT(EEGPTConfig(dim=8, depth=1, num_heads=2)), "temporal": TemporalTransformer(32, 8, 1, 2, 64)}
    )
    names = decayed(tower)
    assert all(name.endswith(".weight") and "norm" not in name for name in names)
    assert {"encoder.blocks.0.attn.qkv.weight", "temporal.input.weight", "temporal.blocks.0.mlp.fc2.weight"} <= names
    spared = {name for name, _ in tower.named_parameters()} - names
    assert {
        "encoder.summary_token",
        "encoder.chan_embed.weight",
        "temporal.cls_token",
        "temporal.time_embed",
        "temporal.norm.weight",
        "encoder.blocks.0.attn.qkv.bias",
    } <= spared


@pytest.mark.parametrize("kind", ["mlp", "resampler"])
def test_of_a_projector_the_gain_and_the_queries_do_not_decay(kind):
    projector = build_projector(complete_projector_config({"kind": kind}, 16, 0.02), 8, 16)
    names = decayed(projector)
    assert all(name.endswith(".weight") and "norm" not in name for name in names)
    assert not names & {"output.log_gain", "queries"}
    assert len(names) >= 2


def test_matrices_of_lora_and_of_experts_decay_and_shared_tables_do_not():
    model = nn.Module()
    model.embed_tokens, model.lm_head = nn.Embedding(10, 4), nn.Linear(4, 10, bias=False)
    model.lm_head.weight = model.embed_tokens.weight
    model.lora_A = nn.ModuleDict({"default": nn.Linear(4, 2, bias=False)})
    model.gate_up_proj = nn.Parameter(torch.zeros(3, 4, 8))
    assert decayed(model) == {"lora_A.default.weight", "gate_up_proj"}


def test_a_partitioned_parameter_is_known_by_its_whole_shape():
    model = nn.Linear(3, 2)
    for parameter in model.parameters():
        parameter.ds_id, parameter.ds_shape = 0, parameter.shape
        parameter.data = torch.zeros(0)
    assert decayed(model) == {"weight"}


def test_a_named_group_becomes_two_of_its_rate_and_an_empty_half_is_left_out():
    model = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 2, bias=False))
    named = [ParameterGroup("encoder", list(model[0].parameters())), ParameterGroup("lora", [model[1].weight])]
    rates = {"encoder": 1e-3, "lora": 1e-4}
    found = optimizer_groups(model, named, rates, 0.05)
    assert [(group["name"], group["lr"], group["weight_decay"]) for group in found] == [
        ("encoder", 1e-3, 0.05),
        ("encoder", 1e-3, 0.0),
        ("lora", 1e-4, 0.05),
    ]
    assert [[id(p) for p in group["params"]] for group in found] == [
        [id(model[0].weight)],
        [id(model[0].bias)],
        [id(model[1].weight)],
    ]


def test_without_decay_nothing_is_parted():
    model = nn.Linear(3, 2)
    (group,) = optimizer_groups(model, [ParameterGroup("heads", list(model.parameters()))], {"heads": 1e-3}, 0.0)
    assert (len(group["params"]), group["weight_decay"]) == (2, 0.0)
