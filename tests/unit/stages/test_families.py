"""Every architecture of every language model family, from stage 2 to an exported model and its plan."""

import json

import pytest
import torch
from safetensors.torch import load_file

from e2llm_core.llm.embedding_rows import mean_row, table_rows
from e2llm_core.llm.families.table import FAMILIES
from e2llm_core.model.config import ProjectorConfig
from e2llm_core.model.model_io import load_llm
from e2llm_core.model.modeling_e2llm import E2LLMForConditionalGeneration
from e2llm_core.sizes.llm import llm_size
from e2llm_core.stages.config import LanguageTrainConfig
from e2llm_core.stages.stage2.stage import Stage2
from storage.errors import InputError
from tests.families import assert_goes_through_all_of_it, folder_of, trained

ARCHITECTURES = [name for family in FAMILIES for name in family.architectures]
CASES = [(name, True, name in FAMILIES[0].architectures) for name in ARCHITECTURES] + [("llama", False, False)]
"""Architecture, whether its head is tied, whether its table has spare rows."""


@pytest.mark.parametrize(("model_type", "tie", "spare"), CASES)
def test_an_architecture_goes_through_all_of_it(model_type, tie, spare, data, tower_folder, tmp_path, monkeypatch):
    monkeypatch.setattr("e2llm_core.inference.predictor.MAX_NEW_TOKENS", 8)
    assert_goes_through_all_of_it(model_type, tie, spare, data, tower_folder, tmp_path)


@pytest.mark.parametrize("tie", [True, False])
def test_added_rows_are_the_mean_and_draw_nothing(tie, data, tmp_path):
    own = folder_of(tmp_path, "llama", tie, False, data).state_dict()
    before = torch.get_rng_state()
    llm = load_llm(tmp_path, rows=len(own["lm_head.weight"]) + 3)
    assert torch.equal(before, torch.get_rng_state())
    assert llm.config.vocab_size == llm.lm_head.out_features == llm.model.embed_tokens.num_embeddings
    assert (llm.lm_head.weight is llm.model.embed_tokens.weight) == tie
    for name in ("lm_head.weight", "model.embed_tokens.weight"):
        grown, was = llm.state_dict()[name], own[name]
        assert torch.equal(grown[: len(was)], was)
        assert len(grown) > len(was) + 2
        torch.testing.assert_close(grown[len(was) :], was.mean(dim=0).expand(len(grown) - len(was), -1))
    assert load_llm(tmp_path, rows=5).config.vocab_size == len(own["lm_head.weight"])


def test_a_mean_is_the_same_in_any_number_of_blocks():
    table = torch.randn(50, 8, dtype=torch.bfloat16)
    torch.testing.assert_close(mean_row(table.split(7)), table.double().mean(dim=0))
    assert [table_rows(400, needed) for needed in (0, 400, 401, 448, 449)] == [400, 400, 448, 448, 512]


def test_an_unknown_family_is_refused_by_name(data, tmp_path):
    folder_of(tmp_path, "llama", True, False, data)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"model_type": "newer_than_transformers"}))
    for refused in (lambda: load_llm(tmp_path), lambda: llm_size(str(tmp_path))):
        with pytest.raises(
            InputError, match=r"config\.json: model_type 'newer_than_transformers' belongs to no known.*llm/families"
        ):
            refused()


def test_a_llama_without_chatml_is_refused(data, tower_folder, tmp_path):
    folder_of(tmp_path, "llama", True, False, data)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        text = (tmp_path / name).read_text()
        (tmp_path / name).write_text(text.replace("<|im_", "<|header_"))
    stage = Stage2(data, tower_folder, str(tmp_path), ProjectorConfig(), LanguageTrainConfig())
    with pytest.raises(ValueError, match=r"lacks \['<\|im_start\|>', '<\|im_end\|>'\]. Use a tokenizer of Llama"):
        stage.build()


def test_stage2_leaves_the_language_model_on_disk_alone(data, tower_folder, tmp_path):
    """Its enlarged table is made anew from the same file, so what the model folder names keeps its digest."""
    folder_of(tmp_path / "llm", "llama", True, False, data)
    file = tmp_path / "llm" / "model.safetensors"
    was = load_file(file)
    stage = Stage2(data, tower_folder, str(tmp_path / "llm"), ProjectorConfig(), LanguageTrainConfig())
    model, state, _ = trained(stage, steps=1)
    (tmp_path / "two").mkdir()
    stage.export(model, state, tmp_path / "two")
    assert all(
        torch.equal(value, was[name]) for name, value in load_file(tmp_path / "llm" / "model.safetensors").items()
    )
    again = E2LLMForConditionalGeneration.from_pretrained(tmp_path / "two", dtype="float32")
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in again.state_dict().items())
