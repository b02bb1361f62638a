"""Every architecture of every language model family, from stage 2 to an exported model and its plan."""

import json
import math

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from e2llm_core.inference.predictor import Predictor
from e2llm_core.llm.embedding_rows import mean_row, table_rows
from e2llm_core.llm.families.table import FAMILIES, family_of
from e2llm_core.llm.tiny_llm import tiny_llm, train_tokenizer
from e2llm_core.model.config import ProjectorConfig
from e2llm_core.model.merging import merge_model
from e2llm_core.model.model_io import load_llm
from e2llm_core.model.modeling_e2llm import E2LLMForConditionalGeneration
from e2llm_core.sizes.llm import llm_size
from e2llm_core.stages.config import LanguageTrainConfig
from e2llm_core.stages.stage2.stage import Stage2
from e2llm_core.stages.stage3.plan import LoraSettings
from e2llm_core.stages.stage3.stage import Stage3
from e2llm_core.tasks.registry import LABELLING
from e2llm_core.training.sharding import MicroBatch
from storage.errors import InputError

VOCABULARY = 352
MIXTURE = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
LORA = LoraSettings(r=2, alpha=4, target_modules=("q_proj", "v_proj"))
ARCHITECTURES = [name for family in FAMILIES for name in family.architectures]
CASES = [(name, True, name in FAMILIES[0].architectures) for name in ARCHITECTURES] + [("llama", False, False)]
"""Architecture, whether its head is tied, whether its table has spare rows."""


def folder_of(place, model_type, tie, spare, data):
    """A random model and its tokenizer, which knows no EEG tokens."""
    tokenizer = train_tokenizer(list(data.labels) * 9, VOCABULARY, model_type, eeg_tokens=False)
    extra = MIXTURE if family_of(model_type).architectures[model_type].experts else {}
    rows = len(tokenizer) + 40 if spare else len(tokenizer)
    torch.manual_seed(0)
    llm = tiny_llm(rows, 32, 2, 2, 1, 64, tie, 2048, tokenizer, model_type, **extra)
    llm.save_pretrained(place)
    tokenizer.save_pretrained(place)
    return llm


def trained(stage, steps=3):
    """Model, trained tensors, and the losses of some steps in plain torch."""
    torch.manual_seed(1)
    model, groups = stage.build()
    own = {id(parameter) for group in groups for parameter in group.parameters}
    for parameter in model.parameters():
        parameter.requires_grad_(id(parameter) in own)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    ids, losses = np.arange(6), []
    for _ in range(steps):
        batch = stage.prepare(MicroBatch(ids, ids, np.ones(6, dtype=np.float32)))
        loss = stage.losses(model.train(), batch).total / batch.num_targets
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach()))
    state = {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}
    return model, state, losses


@pytest.mark.parametrize(("model_type", "tie", "spare"), CASES)
def test_an_architecture_goes_through_all_of_it(model_type, tie, spare, data, tower_folder, tmp_path, monkeypatch):
    monkeypatch.setattr("e2llm_core.inference.predictor.MAX_NEW_TOKENS", 8)
    llm = folder_of(tmp_path / "llm", model_type, tie, spare, data)
    train = LanguageTrainConfig()
    stage2 = Stage2(data, tower_folder, str(tmp_path / "llm"), ProjectorConfig(), train)
    model, state, losses = trained(stage2)
    assert losses[-1] < losses[0]
    assert set(state) == {name for name, _ in model.named_parameters() if name.startswith("projector.")}
    rows = model.config.text_config.vocab_size
    assert rows == (llm.config.vocab_size if spare else math.ceil((llm.config.vocab_size + 3) / 64) * 64)
    (tmp_path / "two").mkdir()
    stage2.export(model, state, tmp_path / "two")

    stage3 = Stage3(data, tmp_path / "two", LORA, ("IED", "EPC"), train)
    model, state, losses = trained(stage3)
    assert losses[-1] < losses[0]
    (tmp_path / "three").mkdir()
    stage3.export(model, state, tmp_path / "three")

    question = LABELLING.question(data.labels)
    segments = np.random.default_rng(0).normal(size=(2, 1, len(data.settings.channels), data.settings.n_times))
    merged = merge_model(tmp_path / "three", tmp_path / "merged")
    answers = []
    for place in (tmp_path / "three", merged):
        predictor = Predictor(place)
        answers.append(predictor.likelihood(question, segments.astype(np.float32)))
        assert len(predictor.generate(question, segments.astype(np.float32))) == 2
    np.testing.assert_allclose(answers[0].sum(axis=1), 1, rtol=1e-6)
    np.testing.assert_allclose(answers[0], answers[1], atol=1e-5)

    exported = AutoModelForCausalLM.from_pretrained(merged / "llm")
    assert type(exported) is type(llm)
    assert exported.config.vocab_size == exported.get_input_embeddings().num_embeddings == rows
    assert (exported.lm_head.weight is exported.model.embed_tokens.weight) == tie
    assert "<|eeg_pad|>" in AutoTokenizer.from_pretrained(merged / "llm").get_vocab()
    assert llm_size(str(merged / "llm")).parameters == sum(p.numel() for p in exported.parameters())

    whole = Stage3(data, tmp_path / "two", None, ("IED",), train)
    model, state, _ = trained(whole, steps=1)
    (tmp_path / "whole").mkdir()
    whole.export(model, state, tmp_path / "whole")
    again = E2LLMForConditionalGeneration.from_pretrained(tmp_path / "whole")
    assert all(torch.equal(value, state[name]) for name, value in again.named_parameters() if name in state)


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
            InputError, match=r"config\.json: model_type 'newer_than_transformers' is of no known.*llm/families"
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
