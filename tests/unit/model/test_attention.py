"""The choice of attention, and what reaches FlashAttention 2, which cannot be installed without CUDA."""

import functools
import importlib

import numpy as np
import pytest
import torch
from transformers import Qwen3Config, Qwen3ForCausalLM
from transformers.integrations.flash_attention import flash_attention_forward
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from e2llm_core.llm import attention
from e2llm_core.llm.attention import choose_attention, describe_attention
from e2llm_core.llm.packing import TokenSample, packed_row
from storage.errors import InputError

flash_utils = importlib.import_module("transformers.modeling_flash_attention_utils")
LENGTHS = (7, 1, 5)
"""Samples of a packed row; one of a single token."""


@pytest.mark.parametrize(
    ("gpu", "installed", "dtype", "wanted", "expected"),
    [
        (True, True, torch.bfloat16, "auto", "flash_attention_2"),
        (True, True, "bfloat16", "flash_attention_2", "flash_attention_2"),
        (True, True, "float16", "auto", "flash_attention_2"),
        (True, True, "bfloat16", "sdpa", "sdpa"),
        (True, True, "float32", "auto", "sdpa"),
        (True, True, None, "auto", "sdpa"),
        (True, False, "bfloat16", "auto", "sdpa"),
        (False, True, "bfloat16", "auto", "sdpa"),
    ],
)
def test_flash_attention_is_chosen_where_it_can_run(monkeypatch, gpu, installed, dtype, wanted, expected):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    monkeypatch.setattr(attention, "is_flash_attn_2_available", lambda: installed)
    assert choose_attention(wanted, dtype) == expected


@pytest.mark.parametrize(
    ("gpu", "installed", "dtype", "reason"),
    [
        (False, True, "bfloat16", "there is no GPU"),
        (True, False, "bfloat16", "flash-attn is not installed"),
        (True, True, "float32", r"needs train\.precision=bf16"),
    ],
)
def test_flash_attention_that_cannot_run_is_refused_with_the_reason(monkeypatch, gpu, installed, dtype, reason):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    monkeypatch.setattr(attention, "is_flash_attn_2_available", lambda: installed)
    with pytest.raises(InputError, match=rf"train\.attention: .*{reason}"):
        choose_attention("flash_attention_2", dtype)


def varlen(
    q, k, v, cu_seqlens_q, cu_seqlens_k, max_seqlen_q, max_seqlen_k, dropout_p=0.0, softmax_scale=None, causal=False
):
    """Attention as FlashAttention 2 defines it: samples one after the other, (tokens, heads, width)."""
    outputs = []
    for start, stop in zip(cu_seqlens_q[:-1].tolist(), cu_seqlens_q[1:].tolist(), strict=True):
        parts = [x[start:stop].transpose(0, 1)[None] for x in (q, k, v)]
        out = torch.nn.functional.scaled_dot_product_attention(
            *parts, is_causal=causal, scale=softmax_scale, enable_gqa=True
        )
        outputs.append(out[0].transpose(0, 1))
    return torch.cat(outputs)


@pytest.fixture
def calls(monkeypatch) -> list[dict]:
    """Calls of the variable-length kernel, which computes with PyTorch; the fixed-length one must not be reached."""
    seen: list[dict] = []

    @functools.wraps(varlen)
    def record(q, k, v, **kwargs):
        seen.append(kwargs)
        return varlen(q, k, v, **kwargs)

    def wrong(*args, **kwargs):
        pytest.fail("packed rows reached the kernel for rows of one sample, where samples attend to each other")

    monkeypatch.setattr(flash_utils, "_lazy_imports", lambda *_, **__: (wrong, record, None, None, None))
    monkeypatch.setattr(flash_utils, "_loaded_implementation", None)
    return seen


@pytest.fixture
def flash_llm(monkeypatch) -> Qwen3ForCausalLM:
    config = Qwen3Config(
        vocab_size=97,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
    )
    torch.manual_seed(0)
    llm = Qwen3ForCausalLM(config).eval()
    monkeypatch.setitem(ALL_ATTENTION_FUNCTIONS._global_mapping, "flash_attention_2", flash_attention_forward)
    return llm


def as_flash(llm):
    llm.config._attn_implementation_internal = "flash_attention_2"
    return llm


@pytest.mark.parametrize("told_by", ["boundaries", "positions"])
def test_a_packed_row_reaches_the_variable_length_kernel_sample_by_sample(calls, flash_llm, told_by):
    """As training packs it, and with the positions alone."""
    ids = np.random.default_rng(0).integers(0, 97, sum(LENGTHS))
    samples = [TokenSample(part, np.ones(len(part), np.float32)) for part in np.split(ids, np.cumsum(LENGTHS)[:-1])]
    row = packed_row(samples)
    names = {"boundaries": ("cu_seq_lens_q", "cu_seq_lens_k", "max_length_q", "max_length_k"), "positions": ()}[told_by]
    given = {name: row[name] for name in ("input_ids", "position_ids", *names)}
    with torch.no_grad():
        separate = [flash_llm(torch.from_numpy(sample.ids)[None], use_cache=False).logits for sample in samples]
        assert calls == []
        packed = as_flash(flash_llm)(**given, attention_mask=None, use_cache=False).logits
    assert len(calls) == 2, "one call per layer"
    for call in calls:
        assert call["cu_seqlens_q"].tolist() == call["cu_seqlens_k"].tolist() == [0, 7, 8, 13]
        assert call["cu_seqlens_q"].dtype == torch.int32
        assert int(call["max_seqlen_q"]) == int(call["max_seqlen_k"]) == 7
        assert call["causal"] is True
    torch.testing.assert_close(packed, torch.cat(separate, dim=1), atol=1e-5, rtol=1e-5)


def test_the_choice_is_told_with_its_reason(flash_llm, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    flash_llm.config._attn_implementation_internal = "sdpa"
    assert describe_attention(flash_llm, "bfloat16") == "sdpa (there is no GPU)"
    assert describe_attention(as_flash(flash_llm), "bfloat16") == "flash_attention_2"
