"""The stand-in language model begins the same wherever it is trained."""

import torch
from transformers.integrations.deepspeed import HfDeepSpeedConfig, unset_hf_deepspeed_config

from e2llm_core.llm.tiny_llm import tiny_llm


def weights() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return tiny_llm(300, 16, 1, 2, 1, 32).state_dict()


def test_zero_3_neither_partitions_it_nor_changes_its_weights():
    plain = weights()
    active = HfDeepSpeedConfig({"zero_optimization": {"stage": 3}})  # alive for as long as it is referred to
    try:
        found = weights()
    finally:
        del active
        unset_hf_deepspeed_config()
    assert found.keys() == plain.keys()
    assert all(torch.equal(found[name], plain[name]) for name in plain)
