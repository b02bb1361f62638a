"""Formulas against torch's counter, on real forward and backward passes."""

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModelForCausalLM, Qwen2Config, Qwen2MoeConfig, Qwen3Config, Qwen3MoeConfig

from e2llm_core.model.modeling_e2llm import E2LLMForConditionalGeneration
from e2llm_core.tower.tower import EEGSettings, EEGTower
from e2llm_core.training.flops import CompositeFlops, LanguageFlops, causal_pairs, sequence_lengths, tower_flops

SIZES = {
    "vocab_size": 96,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 80,
}
EXPERTS = {"num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 24, "norm_topk_prob": True}
SHARED = {"shared_expert_intermediate_size": 40}
CONFIGS = {
    "qwen2": Qwen2Config(**SIZES),
    "qwen3": Qwen3Config(**SIZES, head_dim=16),
    "qwen3-tied": Qwen3Config(**SIZES, head_dim=8, tie_word_embeddings=True),
    "qwen3-moe": Qwen3MoeConfig(**SIZES, **EXPERTS, head_dim=16),
    "qwen3-moe-mixed": Qwen3MoeConfig(**SIZES, **EXPERTS, head_dim=16, mlp_only_layers=[1]),
    "qwen3-moe-sparse-step": Qwen3MoeConfig(**SIZES, **EXPERTS, head_dim=16, decoder_sparse_step=2),
    "qwen2-moe": Qwen2MoeConfig(**SIZES, **EXPERTS, **SHARED),
}
B, L = 3, 20
PAIRS = B * L * L
"""The counter sees eager attention, which multiplies all pairs and masks half of them."""


def make(name, experts="eager"):
    torch.manual_seed(0)
    llm = AutoModelForCausalLM.from_config(CONFIGS[name], attn_implementation="eager")
    if "moe" in name:
        llm.set_experts_implementation(experts)
    return llm


def counted(llm, supervised=None, backward=True):
    """FLOPs of a pass from embeddings that need a gradient, as those of EEG segments do."""
    embeddings = llm.get_input_embeddings()(torch.arange(B * L).view(B, L)).detach().requires_grad_()
    kept = torch.zeros(B, L, dtype=torch.bool)
    kept[:, : (supervised or B * L) // B] = True
    with FlopCounterMode(display=False) as counter:
        logits = llm(inputs_embeds=embeddings, logits_to_keep=kept, use_cache=False).logits
        if backward:
            logits.sum().backward()
    return counter.get_total_flops()


@pytest.mark.parametrize("name", CONFIGS)
def test_forward(name):
    formula = LanguageFlops.of(CONFIGS[name]).forward(B * L, B * L, PAIRS)
    assert formula == pytest.approx(counted(make(name), backward=False), rel=0.01)


@pytest.mark.parametrize("name", CONFIGS)
def test_step_of_a_full_model(name):
    assert LanguageFlops.of_model(make(name)).step(B * L, 30, PAIRS) == pytest.approx(counted(make(name), 30), rel=0.01)


@pytest.mark.parametrize("name", ["qwen2", "qwen3", "qwen3-moe"])
def test_step_of_a_frozen_model_costs_two_thirds_of_its_products(name):
    llm = make(name).requires_grad_(False)
    flops = LanguageFlops.of_model(llm)
    assert (flops.adapter, flops.trainable) == (0, False)
    assert flops.step(B * L, 30, PAIRS) == pytest.approx(counted(llm, 30), rel=0.01)


@pytest.mark.parametrize("name", ["qwen2", "qwen3"])
def test_step_with_lora(name):
    targets = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    llm = get_peft_model(make(name), LoraConfig(r=4, target_modules=targets))
    flops = LanguageFlops.of_model(llm)
    assert flops.adapter == sum(p.numel() for n, p in llm.named_parameters() if "lora_" in n) > 0
    assert flops.step(B * L, 30, PAIRS) == pytest.approx(counted(llm, 30), rel=0.02)


def test_the_largest_qwen_has_22_billion_active_weights():
    config = Qwen3MoeConfig(
        vocab_size=151_936,
        hidden_size=4096,
        num_hidden_layers=94,
        num_attention_heads=64,
        num_key_value_heads=4,
        head_dim=128,
        intermediate_size=12_288,
        moe_intermediate_size=1536,
        num_experts=128,
        num_experts_per_tok=8,
    )
    flops = LanguageFlops.of(config)
    assert (flops.layers + 2 * flops.head) / 1e9 == pytest.approx(22.2, abs=0.15)


def test_causal_pairs_of_packed_samples():
    assert causal_pairs([1, 2, 4]) == 1 + 3 + 10


IDS = torch.zeros(2, 6, dtype=torch.long)


@pytest.mark.parametrize(
    ("tensors", "lengths"),
    [
        ({}, [6, 6]),
        ({"attention_mask": torch.tensor([[1, 1, 1, 1, 0, 0], [1] * 6])}, [4, 6]),
        ({"position_ids": torch.tensor([[0, 1, 2, 0, 1, 0], [0, 1, 2, 3, 4, 5]])}, [3, 2, 1, 6]),
        ({"attention_mask": torch.ones(2, 6), "weights": torch.tensor([0.0, 1.0])}, [6]),
        ({"position_ids": torch.tensor([[0, 1, 2, 0, 1, 2]] * 2), "weights": torch.tensor([0.0, 1.0])}, [3, 3]),
    ],
)
def test_sequence_lengths(tensors, lengths):
    assert sequence_lengths({"input_ids": IDS, **tensors}) == lengths


@pytest.fixture
def tower():
    return EEGTower.build(
        EEGSettings(channels=("FP1", "FP2", "C3"), window_seconds=2.0),
        encoder={"name": "eegpt", "dim": 32, "depth": 2, "num_heads": 2},
        temporal={"dim": 32, "depth": 2, "num_heads": 2},
    )


@pytest.mark.parametrize("backward", [False, True])
def test_tower(tower, backward):
    eeg = torch.randn(2, 3, 512)
    with FlopCounterMode(display=False) as counter, torch.set_grad_enabled(backward):
        output = tower(eeg)
        if backward:
            output.sum().backward()
    assert 2 * tower_flops(tower, backward) == pytest.approx(counter.get_total_flops(), rel=0.05)


@pytest.mark.parametrize("cached", [False, True])
def test_a_step_of_the_composite(tower, cached):
    ids = {"eeg_token_id": 90, "eeg_start_id": 91, "eeg_end_id": 92}
    model = E2LLMForConditionalGeneration.assemble(tower, make("qwen3"), ids, ["a"])
    model.tower.requires_grad_(False)
    model.llm.requires_grad_(False)
    model.train()
    n = model.config.num_eeg_tokens
    tokens = torch.tensor([[91, *[90] * n, 92, 5, 6, 7]] * 2)
    labels = tokens.clone()
    labels[:, :-2] = -100
    batch = {"input_ids": tokens, "labels": labels}
    batch |= {"eeg_features": torch.randn(2, n, 32)} if cached else {"eeg": torch.randn(2, 3, 512)}
    with FlopCounterMode(display=False) as counter:
        model(**batch).loss.backward()
    flops = CompositeFlops(model)
    padded = flops(batch | {"weights": torch.ones(2)})
    pairs = 2 * tokens.shape[1] ** 2 - causal_pairs([tokens.shape[1]] * 2)
    assert padded + 3 * flops._parts[0].pair * pairs == pytest.approx(counter.get_total_flops(), rel=0.03)
    filler = flops(batch | {"weights": torch.tensor([1.0, 0.0])})
    assert filler == padded / 2
