"""Partitioned loading against plain `from_pretrained`, tensor by tensor; the memory that it takes is a drill's."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
    Qwen3MoeConfig,
    Qwen3MoeForCausalLM,
)

from e2llm_core.llm.weight_files import INDEX, SINGLE
from tests import ranks

pytestmark = [pytest.mark.integration, pytest.mark.slow]

SMALL = {
    "vocab_size": 131,
    "hidden_size": 32,
    "intermediate_size": 56,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
"""131 embedding rows and the odd widths below do not divide by the ranks: the last partitions are padded."""
MIXTURE = {"num_experts": 5, "num_experts_per_tok": 2, "moe_intermediate_size": 24, "head_dim": 8}
LOST = "model.layers.1.mlp.experts.2.up_proj.weight"


def launch(job: Path, content: dict, workers: int = 2) -> list[dict]:
    """Run the worker on every rank; return what each wrote."""
    job.write_text(json.dumps(content))
    ended = ranks.run("tests.integration.loading_worker:main", str(job), workers)
    assert not ended.failure, f"{ended.failure}\n{ended.stderr[:4000]}"
    return [json.loads(job.with_suffix(f".{rank}.out").read_text()) for rank in range(workers)]


def save(model: torch.nn.Module, folder: Path, shard: str) -> str:
    """Write a checkpoint as the hub has it, with a generation setting of its own."""
    model.generation_config.eos_token_id = 7
    model.save_pretrained(folder, max_shard_size=shard)
    return str(folder)


def without(tensor: str, whole: Path, folder: Path) -> str:
    """Copy a checkpoint but for one tensor."""
    shutil.copytree(whole, folder)
    index = json.loads((folder / INDEX).read_text())
    file = folder / index["weight_map"].pop(tensor)
    (folder / INDEX).write_text(json.dumps(index))
    save_file({name: value for name, value in load_file(file).items() if name != tensor}, file)
    return str(folder)


@pytest.fixture(scope="module")
def loaded(tmp_path_factory) -> list[dict]:
    folder = tmp_path_factory.mktemp("loading")
    torch.manual_seed(0)
    qwen2, qwen3, mixture = Qwen2Config(**SMALL), Qwen3Config(**SMALL, head_dim=10), Qwen3MoeConfig(**SMALL, **MIXTURE)
    tied = Qwen3Config(**SMALL, head_dim=8, tie_word_embeddings=True)
    llama, one_table = LlamaConfig(**SMALL), LlamaConfig(**SMALL, tie_word_embeddings=True)
    cases = {
        "qwen2.5": (save(Qwen2ForCausalLM(qwen2), folder / "qwen2", "20KB"), "float32", {}, 0),
        "qwen3": (save(Qwen3ForCausalLM(qwen3), folder / "qwen3", "20KB"), "float32", {}, 0),
        "one file": (save(Qwen3ForCausalLM(qwen3), folder / "one", "1GB"), "bfloat16", {}, 0),
        "tied": (save(Qwen3ForCausalLM(tied), folder / "tied", "20KB"), "float32", {}, 0),
        "mixture": (save(Qwen3MoeForCausalLM(mixture), folder / "mixture", "20KB"), "float32", {}, 0),
        "mixture, cast": (str(folder / "mixture"), "bfloat16", {}, 0),
        "enlarged": (save(LlamaForCausalLM(llama), folder / "llama", "20KB"), "float32", {}, 192),
        "enlarged, tied, cast": (save(LlamaForCausalLM(one_table), folder / "smol", "1GB"), "bfloat16", {}, 192),
    }
    job = {"do": "equal", "cases": cases, "refused": without(LOST, folder / "mixture", folder / "cut")}
    return [cases, *launch(folder / "job.json", job)]


def test_the_checkpoints_have_the_published_layout(loaded):
    cases = {name: Path(folder) for name, (folder, *_) in loaded[0].items()}
    names = json.loads((cases["mixture"] / INDEX).read_text())["weight_map"]
    assert "model.layers.1.mlp.experts.4.gate_proj.weight" in names
    assert len(set(names.values())) > 5
    assert (cases["one file"] / SINGLE).is_file()
    assert "lm_head.weight" not in json.loads((cases["tied"] / INDEX).read_text())["weight_map"]
    assert "model.layers.0.self_attn.q_proj.bias" in json.loads((cases["qwen2.5"] / INDEX).read_text())["weight_map"]
    shards = cases["mixture"].glob("*.safetensors")
    assert all(tensor.ndim < 3 for file in shards for tensor in load_file(file).values())


@pytest.mark.parametrize(
    "name", ["qwen2.5", "qwen3", "one file", "tied", "mixture", "mixture, cast", "enlarged", "enlarged, tied, cast"]
)
def test_partitioned_loading_gives_what_from_pretrained_gives(loaded, name):
    cases, *ranks = loaded
    for seen in (rank[name] for rank in ranks):
        assert seen["different"] == []
        assert seen["partitioned"]
        assert seen["logits"] == 0.0
        assert seen["tied"] == ("tied" in name)
        assert seen["generation"] == 7
        assert seen["name"] == cases[name][0]
        assert seen["losses"][1] < seen["losses"][0], "a training step must help"
        assert seen["leaves"] == (2 if name.startswith("mixture") else 0)


def test_a_checkpoint_that_is_not_whole_is_refused_on_every_rank(loaded):
    for rank in loaded[1:]:
        assert f"cut/{INDEX}: missing [{LOST}]." in rank["refused"]
