"""Partitioned loading against the memory that it may take."""

from pathlib import Path

import pytest
import torch
from transformers import Qwen3Config, Qwen3ForCausalLM

from tests.integration.test_loading import SMALL, launch, save

pytestmark = [pytest.mark.integration, pytest.mark.slow]
MIB = 1 << 20


def test_no_rank_holds_more_than_its_share(tmp_path: Path) -> None:
    """126 million parameters, stored in bfloat16 (252 MB, several files), loaded as float32 (504 MB).

    The bound is the own half, the largest tensor and 40 MiB for the allocator. Seen: 241 MiB for a half of 240 MiB;
    transformers' way takes 571 MiB on rank 0 and 710 MiB on rank 1.
    """
    config = Qwen3Config(
        vocab_size=8192,
        hidden_size=768,
        intermediate_size=3072,
        num_hidden_layers=12,
        num_attention_heads=12,
        num_key_value_heads=12,
        head_dim=64,
    )
    torch.manual_seed(0)
    folder = save(Qwen3ForCausalLM(config).to(torch.bfloat16), tmp_path / "large", "40MB")
    small = save(Qwen3ForCausalLM(Qwen3Config(**SMALL)), tmp_path / "small", "20KB")
    assert len(list((tmp_path / "large").glob("*.safetensors"))) > 5
    ranks = launch(tmp_path / "job.json", {"do": "memory", "folder": folder, "small": small})
    for rank in ranks:
        bound = rank["own"] + rank["largest"] + 40 * MIB
        assert rank["own"] * 0.9 < rank["ours"] <= bound, "measured amiss, or too much was held"
    assert ranks[0]["theirs"] > bound
