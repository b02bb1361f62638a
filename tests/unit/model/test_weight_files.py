"""What checkpoint folders hold, which are refused, and the true Qwen models against their published sizes."""

import json
import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, Qwen2Config, Qwen3Config, Qwen3MoeConfig

from e2llm_core.llm.families.qwen import QWEN
from e2llm_core.llm.weight_files import BLOCK, INDEX, SINGLE, WeightFiles, match
from e2llm_core.llm.zero_loading import _refuse_untied
from storage.errors import InputError

QWEN3 = {"vocab_size": 151_936, "head_dim": 128, "max_position_embeddings": 40_960, "rope_theta": 1e6}


def qwen3(hidden: int, width: int, layers: int, heads: int, tied: bool = False) -> Qwen3Config:
    return Qwen3Config(
        **QWEN3,
        hidden_size=hidden,
        intermediate_size=width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=8,
        tie_word_embeddings=tied,
    )


TRUE = {
    "Qwen3-0.6B": (qwen3(1024, 3072, 28, 16, tied=True), 596_049_920, 28 * 11 + 2),
    "Qwen3-1.7B": (qwen3(2048, 6144, 28, 16, tied=True), 1_720_574_976, 28 * 11 + 2),
    "Qwen3-4B": (qwen3(2560, 9728, 36, 32, tied=True), 4_022_468_096, 36 * 11 + 2),
    "Qwen3-8B": (qwen3(4096, 12288, 36, 32), 8_190_735_360, 36 * 11 + 3),
    "Qwen3-14B": (qwen3(5120, 17408, 40, 40), 14_768_307_200, 40 * 11 + 3),
    "Qwen3-32B": (qwen3(5120, 25600, 64, 64), 32_762_123_264, 64 * 11 + 3),
    "Qwen2.5-72B": (
        Qwen2Config(
            vocab_size=152_064,
            hidden_size=8192,
            intermediate_size=29568,
            num_hidden_layers=80,
            num_attention_heads=64,
            num_key_value_heads=8,
        ),
        72_706_203_648,
        80 * 12 + 3,
    ),
    "Qwen3-235B-A22B": (
        Qwen3MoeConfig(
            **QWEN3,
            hidden_size=4096,
            intermediate_size=12288,
            num_hidden_layers=94,
            num_attention_heads=64,
            num_key_value_heads=4,
            num_experts=128,
            num_experts_per_tok=8,
            moe_intermediate_size=1536,
        ),
        235_093_634_560,
        94 * (9 + 3 * 128) + 3,
    ),
}
"""Configuration; parameters, as the hub counts them; tensors on disk."""


@pytest.mark.parametrize("name", TRUE)
def test_the_true_models_have_their_published_tensors(name):
    config, parameters, tensors = TRUE[name]
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    pieces = [
        piece for key, parameter in model.named_parameters() for piece in QWEN.pieces(key, tuple(parameter.shape))
    ]
    assert sum(piece.numel for piece in pieces) == parameters
    assert len({piece.name for piece in pieces}) == len(pieces) == tensors
    if name == "Qwen3-235B-A22B":
        shapes = {piece.name: piece.shape for piece in pieces}
        assert shapes["model.layers.93.mlp.experts.127.up_proj.weight"] == (1536, 4096)
        assert shapes["model.layers.93.mlp.experts.127.down_proj.weight"] == (4096, 1536)
        assert shapes["model.layers.0.mlp.gate.weight"] == (128, 4096)


def sharded(folder: Path, files: dict[str, dict[str, torch.Tensor]]) -> Path:
    for file, tensors in files.items():
        save_file(tensors, folder / file)
    names = {name: file for file, tensors in files.items() for name in tensors}
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": names}))
    return folder


EXPERTS, ROWS, COLUMNS = 3, 4, 5
MIXTURE = {"up.weight": (2, 3), "mlp.experts.gate_up_proj": (EXPERTS, 2 * ROWS, COLUMNS)}


@pytest.fixture
def tensors() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    parts = {
        f"mlp.experts.{n}.{part}_proj.weight": torch.randn(ROWS, COLUMNS)
        for n in range(EXPERTS)
        for part in ("gate", "up")
    }
    return {"up.weight": torch.randn(2, 3), **parts}


def test_pieces_are_the_fused_experts_in_order(tmp_path, tensors):
    names = list(tensors)
    folder = sharded(
        tmp_path,
        {"a.safetensors": {n: tensors[n] for n in names[:4]}, "b.safetensors": {n: tensors[n] for n in names[4:]}},
    )
    files = WeightFiles(folder)
    pieces = match(MIXTURE, {}, files, QWEN)["mlp.experts.gate_up_proj"]
    flat = torch.empty(sum(piece.numel for piece in pieces))
    for number, piece in enumerate(pieces):
        files.read(piece.name, 0, flat[number * ROWS * COLUMNS :][: piece.numel])
    files.close()
    expected = torch.stack(
        [
            torch.cat([tensors[f"mlp.experts.{n}.gate_proj.weight"], tensors[f"mlp.experts.{n}.up_proj.weight"]])
            for n in range(EXPERTS)
        ]
    )
    torch.testing.assert_close(flat.view(EXPERTS, 2 * ROWS, COLUMNS), expected, rtol=0, atol=0)


def test_experts_that_are_fused_on_disk_are_read_whole(tmp_path, tensors):
    save_file({"up.weight": tensors["up.weight"], "mlp.experts.gate_up_proj": torch.zeros(3, 8, 5)}, tmp_path / SINGLE)
    pieces = match(MIXTURE, {}, WeightFiles(tmp_path), QWEN)["mlp.experts.gate_up_proj"]
    assert [(piece.name, piece.shape) for piece in pieces] == [("mlp.experts.gate_up_proj", (3, 8, 5))]


@pytest.mark.parametrize("shape", [(7,), (5, 3), (2, 3, 4)])
def test_any_stretch_of_a_tensor_can_be_read(tmp_path, shape):
    tensor = torch.arange(math.prod(shape)).view(shape).to(torch.bfloat16)
    save_file({"x": tensor}, tmp_path / SINGLE)
    files = WeightFiles(tmp_path)
    for start in range(tensor.numel()):
        for stop in range(start + 1, tensor.numel() + 1):
            out = torch.full((stop - start,), -1.0)
            files.read("x", start, out)
            assert out.tolist() == list(range(start, stop))


def refusal(folder: Path, parameters: dict[str, tuple[int, ...]], tied: dict[str, str] | None = None) -> str:
    with pytest.raises(InputError) as caught:
        match(parameters, tied or {}, WeightFiles(folder), QWEN)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_all_wrong_tensors_are_named_at_once_with_their_files(tmp_path, tensors):
    folder = sharded(tmp_path, {"a.safetensors": tensors, "b.safetensors": {"extra": torch.zeros(1)}})
    told = refusal(folder, MIXTURE | {"up.weight": (3, 2), "gone": (1,)})
    assert str(folder / INDEX) in told
    assert "missing [gone]" in told
    assert "unexpected [b.safetensors: extra]" in told
    assert "wrong shape [a.safetensors: up.weight (2, 3), not (3, 2)]" in told


def test_one_missing_expert_is_named(tmp_path, tensors):
    del tensors["mlp.experts.1.up_proj.weight"]
    save_file(tensors, tmp_path / SINGLE)
    assert "missing [mlp.experts.1.up_proj.weight]" in refusal(tmp_path, MIXTURE)


def test_long_lists_are_cut(tmp_path):
    save_file({f"x{n}": torch.zeros(1) for n in range(9)}, tmp_path / SINGLE)
    assert "and 5 more" in refusal(tmp_path, {})


def test_old_checkpoints_may_hold_rotary_frequencies(tmp_path):
    save_file({"x": torch.zeros(1), "layers.0.rotary_emb.inv_freq": torch.zeros(2)}, tmp_path / SINGLE)
    assert set(match({"x": (1,)}, {}, WeightFiles(tmp_path), QWEN)) == {"x"}


@pytest.mark.parametrize("held", [["embed"], ["head"], ["embed", "head"]])
def test_a_tied_tensor_may_be_stored_under_either_name_or_both(tmp_path, held):
    save_file({name: torch.ones(2, 3) for name in held}, tmp_path / SINGLE)
    files, tied = WeightFiles(tmp_path), {"head": "embed"}
    assert match({"embed": (2, 3)}, tied, files, QWEN)["embed"][0].name == held[0]
    _refuse_untied(tied, files)


def test_tied_tensors_that_differ_are_refused(tmp_path):
    """The difference lies behind the first block that is compared."""
    other = torch.zeros(BLOCK + 3, 1, dtype=torch.bfloat16)
    other[-1] = 1
    save_file({"embed": torch.zeros_like(other), "head": other}, tmp_path / SINGLE)
    with pytest.raises(InputError, match=r"head differs from embed, though config\.json ties them"):
        _refuse_untied({"head": "embed"}, WeightFiles(tmp_path))


def test_folders_without_readable_safetensors_are_refused(tmp_path, tensors):
    with pytest.raises(InputError, match="neither"):
        WeightFiles(tmp_path)
    (tmp_path / SINGLE).write_bytes(b"not safetensors")
    with pytest.raises(InputError, match="cannot be read"):
        WeightFiles(tmp_path)
    (tmp_path / INDEX).write_text("{}")
    with pytest.raises(InputError, match="is not an index"):
        WeightFiles(tmp_path)
    (tmp_path / INDEX).write_text(json.dumps({"weight_map": {"x": "../elsewhere.safetensors"}}))
    with pytest.raises(InputError, match="outside its folder"):
        WeightFiles(tmp_path)
    (tmp_path / INDEX).write_text(json.dumps({"weight_map": {"x": "absent.safetensors"}}))
    with pytest.raises(InputError, match=r"absent.safetensors: cannot be read"):
        WeightFiles(tmp_path)
    sharded(tmp_path, {"a.safetensors": tensors})
    (tmp_path / INDEX).write_text(json.dumps({"weight_map": {"elsewhere": "a.safetensors"}}))
    with pytest.raises(InputError, match=r"lists \[elsewhere\]"):
        WeightFiles(tmp_path)
