"""Parameters on a disk: slow to try, as DeepSpeed's operators are compiled first."""

import pytest
import torch
from deepspeed.ops.op_builder import AsyncIOBuilder
from transformers import Qwen3Config, Qwen3ForCausalLM

from tests.integration.test_loading import SMALL, launch, save

pytestmark = [pytest.mark.integration, pytest.mark.slow]


def test_parameters_on_nvme_train_as_on_the_device(tmp_path):
    """Needs libaio; compiling took three minutes on two cores."""
    if not AsyncIOBuilder().is_compatible(verbose=False):
        pytest.skip("libaio is not installed")
    torch.manual_seed(0)
    large = SMALL | {"vocab_size": 2003, "hidden_size": 512, "intermediate_size": 1024}
    folder = save(Qwen3ForCausalLM(Qwen3Config(**large, head_dim=64)), tmp_path / "llm", "4MB")
    nvme = {"offload": "nvme", "nvme_path": str(tmp_path / "swap")}
    cases = {"device": (folder, "float32", {}), "nvme": (folder, "float32", nvme)}
    for rank in launch(tmp_path / "job.json", {"do": "equal", "cases": cases}):
        assert rank["nvme"]["different"] == []
        assert rank["nvme"]["logits"] == 0.0
        assert any("nvme" in place for place in rank["nvme"]["places"])
        assert not any("nvme" in place for place in rank["device"]["places"])
        assert rank["nvme"]["losses"] == pytest.approx(rank["device"]["losses"], abs=1e-5)
