import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, MistralConfig, Qwen2Config, Qwen3Config, Qwen3MoeConfig

from e2llm_core.llm.packed_attention import PACKED_SDPA, attend_packed, packed_sdpa
from e2llm_core.llm.packing import TokenSample, pack, packed_row, sample_of_token
from e2llm_core.llm.supervision import SupervisedHead, score_tokens
from e2llm_core.llm.tiny_llm import tiny_llm
from storage.errors import InputError

LENGTHS = (7, 12, 5, 1)


def drawn(lengths, seed=0, vocabulary=300) -> list[TokenSample]:
    rng = np.random.default_rng(seed)
    samples = []
    for kind, length in enumerate(lengths):
        weights = rng.choice([0, 0.1, 1], length).astype(np.float32)
        weights[0] = 0
        samples.append(TokenSample(rng.integers(0, vocabulary, length), weights, kind))
    return samples


@given(
    lengths=st.lists(st.integers(1, 120), min_size=1, max_size=60),
    max_tokens=st.integers(1, 300),
    max_samples=st.integers(1, 20),
    ranks=st.integers(1, 9),
)
def test_every_sample_is_in_one_row_within_the_bounds(lengths, max_tokens, max_samples, ranks):
    shares = pack(lengths, max_tokens, max_samples, ranks)
    rows = [row for share in shares for row in share]
    assert sorted(sample for row in rows for sample in row) == list(range(len(lengths)))
    assert len(shares) == ranks
    assert len({len(share) for share in shares}) == 1
    for row in rows:
        assert len(row) <= max_samples
        assert row == sorted(row)
        assert len(row) == 1 or sum(lengths[sample] for sample in row) <= max_tokens


def test_rows_of_a_pass_are_of_about_one_length():
    lengths = np.random.default_rng(0).integers(60, 250, 256).tolist()
    shares = pack(lengths, 4096, 256, 8)
    tokens = [[sum(lengths[sample] for sample in row) for row in share] for share in shares]
    assert len(tokens[0]) == 2, "39,680 tokens do not fit into 8 rows of 4,096; they fit into 16"
    assert max(map(max, tokens)) < 1.03 * min(map(min, tokens))


def test_a_long_sample_has_a_row_for_itself():
    (rows,) = pack([500, 10, 20], 100, 8, 1)
    assert sorted(rows) == [[0], [1, 2]]


def test_a_row_restarts_its_positions_and_labels():
    samples = drawn(LENGTHS)
    row = packed_row(samples)
    assert row["cu_seq_lens_q"].tolist() == [0, 7, 19, 24, 25]
    assert row["cu_seq_lens_q"].dtype == torch.int32
    assert row["max_length_q"] == 12
    assert (row["position_ids"][0] == 0).nonzero().flatten().tolist() == [0, 7, 19, 24]
    weights = np.concatenate([sample.weights for sample in samples])
    ids = np.concatenate([sample.ids for sample in samples])
    np.testing.assert_array_equal(row["labels"][0], np.where(weights > 0, ids, -100))
    places = torch.arange(25)
    assert sample_of_token(row["cu_seq_lens_q"], places).tolist() == np.repeat(range(4), LENGTHS).tolist()


@pytest.mark.parametrize("lengths", [LENGTHS, (9,), (1, 1, 1)])
def test_attention_stays_within_samples(lengths):
    generator = torch.Generator().manual_seed(0)
    total = sum(lengths)
    query, key, value = (torch.randn(1, heads, total, 8, generator=generator) for heads in (4, 2, 2))
    starts = torch.tensor(np.concatenate([[0], np.cumsum(lengths)]), dtype=torch.int32)
    given = [tensor.clone().requires_grad_() for tensor in (query, key, value)]
    found, _ = packed_sdpa(
        torch.nn.Identity(), *given, None, scaling=0.3, cu_seq_lens_q=starts, max_length_q=max(lengths)
    )
    plain = [tensor.clone().requires_grad_() for tensor in (query, key, value)]
    sample = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))
    mask = (sample[:, None] == sample[None]).tril()
    expected = torch.nn.functional.scaled_dot_product_attention(
        *plain, attn_mask=mask, scale=0.3, enable_gqa=True
    ).transpose(1, 2)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    slope = torch.randn(found.shape, generator=generator)
    (found * slope).sum().backward()
    (expected * slope).sum().backward()
    for one, other in zip(given, plain, strict=True):
        torch.testing.assert_close(one.grad, other.grad, atol=1e-5, rtol=1e-5)


def test_unpacked_calls_are_refused():
    tensor = torch.zeros(1, 2, 4, 8)
    with pytest.raises(ValueError, match="packed row"):
        packed_sdpa(torch.nn.Identity(), tensor, tensor, tensor, None)


@pytest.mark.parametrize(
    ("asked", "value"),
    [
        ("sliding_window", 4),
        ("softcap", 50.0),
        ("s_aux", torch.zeros(2)),
        ("position_bias", torch.zeros(1, 2, 4, 4)),
        ("output_attentions", True),
        ("is_causal", False),
    ],
)
def test_calls_for_other_attention_are_refused_by_name(asked, value):
    tensor = torch.ones(1, 2, 4, 8)
    row = {"cu_seq_lens_q": torch.tensor([0, 4]), "max_length_q": 4}
    with pytest.raises(ValueError, match=f"does not implement {asked}"):
        packed_sdpa(torch.nn.Identity(), tensor, tensor, tensor, None, **row, **{asked: value})
    harmless = {"sliding_window": None, "softcap": None, "output_attentions": False, "is_causal": True}
    packed_sdpa(torch.nn.Identity(), tensor, tensor, tensor, None, **row, **harmless)


SIZES = {
    "vocab_size": 32,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "intermediate_size": 16,
    "head_dim": 8,
}
EXPERTS = {"num_experts": 2, "num_experts_per_tok": 1, "moe_intermediate_size": 16}


def tiny(config_class, **settings):
    config = config_class(**SIZES, **settings)
    return AutoModelForCausalLM.from_config(config, attn_implementation="sdpa")


@pytest.mark.parametrize(
    ("config_class", "settings", "named"),
    [
        (Qwen3Config, {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 1}, "sliding_window=8"),
        (Qwen2Config, {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 0}, "sliding_window=8"),
        (Qwen3MoeConfig, {"use_sliding_window": True, "sliding_window": 8, **EXPERTS}, "sliding_window=8"),
        (MistralConfig, {"sliding_window": 8}, "sliding_window=8"),
        (Qwen3Config, {"attn_logit_softcapping": 30.0}, "attn_logit_softcapping=30.0"),
        (Qwen3Config, {"layer_types": ["full_attention", "chunked_attention"]}, "layer_types has chunked_attention"),
        (Qwen3Config, {"is_causal": False}, "is_causal=false"),
    ],
)
def test_a_model_with_other_attention_is_refused_at_the_start(config_class, settings, named):
    llm = tiny(config_class, **settings)
    with pytest.raises(InputError, match=rf"config.json: .*{named}.* Set train.attention=flash_attention_2"):
        attend_packed(llm)
    llm.config._attn_implementation = "flash_attention_2"
    attend_packed(llm)


@pytest.mark.parametrize(
    ("config_class", "settings"),
    [
        (Qwen3Config, {"use_sliding_window": False, "sliding_window": 8, "max_window_layers": 0}),
        (Qwen2Config, {"use_sliding_window": False, "sliding_window": 8, "max_window_layers": 0}),
        (Qwen2Config, {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 2}),
        (Qwen3MoeConfig, {"use_sliding_window": False, "sliding_window": 8, **EXPERTS}),
    ],
)
def test_a_window_that_no_layer_uses_is_none(config_class, settings):
    llm = tiny(config_class, **settings)
    attend_packed(llm)
    row = packed_row(drawn(LENGTHS, vocabulary=32))
    for name in ("tasks", "labels", "weights", "supervised"):
        row.pop(name)
    assert llm(**row).logits.isfinite().all()


@pytest.mark.parametrize("checkpointing", [False, True])
def test_a_packed_row_scores_as_its_samples_do_one_by_one(checkpointing):
    torch.manual_seed(0)
    plain = tiny_llm(300, 32, 2, 4, 2, 64)
    packed = tiny_llm(300, 32, 2, 4, 2, 64)
    packed.load_state_dict(plain.state_dict())
    for llm in (plain, packed):
        SupervisedHead.install(llm)
    attend_packed(packed)
    assert packed.config._attn_implementation == PACKED_SDPA
    if checkpointing:
        packed.activation_checkpointing_enable({"use_reentrant": False})
    samples = drawn(LENGTHS)

    row = packed_row(samples)
    row.pop("tasks")
    total, nll = score_tokens(packed.train(), row.pop("labels"), row.pop("weights"), **row)
    total.backward()

    expected, separate = 0.0, []
    for sample in samples:
        alone = packed_row([sample])
        one, values = score_tokens(plain, alone["labels"], alone["weights"], input_ids=alone["input_ids"])
        expected, separate = expected + one, [*separate, values]
    expected.backward()
    torch.testing.assert_close(total, expected)
    torch.testing.assert_close(nll, torch.cat(separate), atol=1e-5, rtol=1e-5)
    for (name, one), other in zip(packed.named_parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, atol=1e-5, rtol=1e-4, msg=name)
