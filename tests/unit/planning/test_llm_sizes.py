"""The planner's parameter arithmetic against transformers' own classes on the meta device, and published totals."""

import json
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model
from transformers import AutoConfig, AutoModelForCausalLM

from e2llm_core.counts import total_numel
from e2llm_core.sizes.llm import LLM_SIZES, LLMSize, llm_size, partition_numel
from storage.errors import InputError

PUBLISHED = {
    "Qwen/Qwen3-0.6B": 596_049_920,
    "Qwen/Qwen3-1.7B": 1_720_574_976,
    "Qwen/Qwen3-4B": 4_022_468_096,
    "Qwen/Qwen3-8B": 8_190_735_360,
    "Qwen/Qwen3-14B": 14_768_307_200,
    "Qwen/Qwen3-32B": 32_762_123_264,
    "Qwen/Qwen3-30B-A3B": 30_532_122_624,
    "Qwen/Qwen3-235B-A22B": 235_093_634_560,
    "Qwen/Qwen2.5-0.5B": 494_032_768,
    "Qwen/Qwen2.5-1.5B": 1_543_714_304,
    "Qwen/Qwen2.5-3B": 3_085_938_688,
    "Qwen/Qwen2.5-7B": 7_615_616_512,
    "Qwen/Qwen2.5-14B": 14_770_033_664,
    "Qwen/Qwen2.5-32B": 32_763_876_352,
    "Qwen/Qwen2.5-72B": 72_706_203_648,
    "HuggingFaceTB/SmolLM2-135M": 134_515_008,
    "HuggingFaceTB/SmolLM2-360M": 361_821_120,
    "HuggingFaceTB/SmolLM2-1.7B": 1_711_376_384,
}
"""Elements of the published safetensors files, as the hub's model pages count them (tied heads once)."""
SMOL = "HuggingFaceTB/SmolLM2-360M"
LORA = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def config_of(size: LLMSize) -> dict:
    config = {
        "model_type": size.model_type,
        "hidden_size": size.hidden,
        "num_hidden_layers": size.layers,
        "num_attention_heads": size.heads,
        "num_key_value_heads": size.kv_heads,
        "head_dim": size.head_dim,
        "intermediate_size": size.intermediate,
        "vocab_size": size.vocab,
        "tie_word_embeddings": size.tied,
    }
    if size.experts:
        config |= {
            "num_experts": size.experts,
            "num_experts_per_tok": size.experts_per_token,
            "moe_intermediate_size": size.moe_intermediate,
        }
    return config


def on_meta(size: LLMSize) -> torch.nn.Module:
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(AutoConfig.for_model(**config_of(size)), trust_remote_code=False)


@pytest.mark.parametrize("name", LLM_SIZES)
def test_arithmetic_is_that_of_transformers(name):
    """Every tensor, so the padding of partitions is right too."""
    size = LLM_SIZES[name]
    found = sorted(parameter.numel() for parameter in on_meta(size).parameters())
    assert sorted(n for tensor in size.tensors() for n in [tensor.numel] * tensor.count) == found
    assert size.parameters == sum(found) == PUBLISHED[name]


@pytest.mark.parametrize("targets", [LORA, ("q_proj", "v_proj"), ("o_proj", "down_proj")])
@pytest.mark.parametrize("name", ["Qwen/Qwen3-0.6B", "Qwen/Qwen2.5-0.5B", "Qwen/Qwen3-30B-A3B", SMOL])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_adapters_are_those_of_peft(name, targets):
    size = LLM_SIZES[name].model_copy(update={"layers": 2})
    model = get_peft_model(on_meta(size), LoraConfig(r=16, target_modules=list(targets), task_type="CAUSAL_LM"))
    found = sorted(p.numel() for n, p in model.named_parameters() if "lora_" in n)
    assert sorted(n for t in size.lora_tensors(16, targets) for n in [t.numel] * t.count) == found


def test_adapters_of_a_known_model():
    """33.0 million parameters at rank 16 on all linear layers of Qwen3-4B."""
    assert total_numel(LLM_SIZES["Qwen/Qwen3-4B"].lora_tensors(16, LORA)) == 33_030_144


def test_mixtures_compute_with_few_of_their_parameters():
    """The names say A3B and A22B."""
    assert LLM_SIZES["Qwen/Qwen3-30B-A3B"].active_parameters == pytest.approx(3.3e9, rel=0.02)
    assert LLM_SIZES["Qwen/Qwen3-235B-A22B"].active_parameters == pytest.approx(22e9, rel=0.02)
    dense = LLM_SIZES["Qwen/Qwen3-8B"]
    assert dense.active_parameters == dense.parameters
    assert dense.linear_parameters < dense.parameters - 2 * dense.head_parameters


@pytest.mark.parametrize("name", ["Qwen/Qwen3-8B", "Qwen/Qwen3-30B-A3B", "Qwen/Qwen2.5-7B", SMOL])
@pytest.mark.parametrize("experts", ["num_experts", "num_local_experts"])
def test_a_folder_is_read(name, experts, tmp_path):
    """The hub's mixtures name their experts in one way, transformers 5 in another."""
    content = json.dumps(config_of(LLM_SIZES[name])).replace('num_experts"', f'{experts}"')
    (tmp_path / "config.json").write_text(content)
    assert llm_size(str(tmp_path)) == LLM_SIZES[name].model_copy(update={"name": str(tmp_path)})


def test_variants_share_a_row():
    assert llm_size("Qwen/Qwen2.5-7B-Instruct") is LLM_SIZES["Qwen/Qwen2.5-7B"]
    assert llm_size("Qwen/Qwen3-4B-Instruct-2507") is LLM_SIZES["Qwen/Qwen3-4B"]


BIASED = json.dumps(config_of(LLM_SIZES[SMOL]) | {"attention_bias": True})


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "is not the configuration"),
        ("{}", "is not the configuration"),
        ("not json", "is not the configuration"),
        ('{"model_type": "gpt2"}', "model_type 'gpt2' belongs to no known"),
        ('{"model_type": "llama"}', "holds no readable configuration of Llama with ChatML"),
        ('{"model_type": "qwen3"}', "holds no readable configuration of Qwen2.5, Qwen3"),
        (BIASED, r".*\(attention_bias is not supported\)"),
    ],
)
def test_other_folders_are_refused(content, problem, tmp_path):
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    with pytest.raises(InputError, match=rf"^model\.llm: .*config\.json: {problem}"):
        llm_size(str(tmp_path))


def test_unknown_names_are_refused_with_the_known_ones():
    with pytest.raises(InputError, match=r"^model\.llm: Qwen/Qwen9-1T: no such folder.*Qwen/Qwen3-8B"):
        llm_size("Qwen/Qwen9-1T")


@given(st.sampled_from(sorted(LLM_SIZES)), st.integers(1, 2048))
def test_partitions_hold_everything_once_but_for_padding(name, world):
    tensors = LLM_SIZES[name].tensors()
    held = partition_numel(tensors, world) * world
    padding = sum(tensor.count for tensor in tensors) * (world - 1)
    assert 0 <= held - total_numel(tensors) <= padding
    assert partition_numel(tensors, 1) == total_numel(tensors)
    assert partition_numel(tensors, world) >= math.ceil(total_numel(tensors) / world)
