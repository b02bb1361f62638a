"""A tiny random model of one architecture, from stage 2 to an exported model and its size."""

import math

import numpy as np
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from e2llm_core.inference.predictor import Predictor
from e2llm_core.llm.families.table import family_of
from e2llm_core.llm.tiny_llm import tiny_llm, train_tokenizer
from e2llm_core.model.config import ProjectorConfig
from e2llm_core.model.merging import merge_model
from e2llm_core.model.modeling_e2llm import E2LLMForConditionalGeneration
from e2llm_core.sizes.llm import llm_size
from e2llm_core.stages.config import LanguageTrainConfig
from e2llm_core.stages.stage2.stage import Stage2
from e2llm_core.stages.stage3.plan import LoraSettings
from e2llm_core.stages.stage3.stage import Stage3
from e2llm_core.tasks.registry import LABELLING
from e2llm_core.training.sharding import MicroBatch

VOCABULARY = 352
MIXTURE = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
LORA = LoraSettings(r=2, alpha=4, target_modules=("q_proj", "v_proj"))


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


def assert_goes_through_all_of_it(model_type, tie, spare, data, tower_folder, place):
    """Stages 2 and 3, merge, answers, export and size."""
    llm = folder_of(place / "llm", model_type, tie, spare, data)
    train = LanguageTrainConfig()
    stage2 = Stage2(data, tower_folder, str(place / "llm"), ProjectorConfig(), train)
    model, state, losses = trained(stage2)
    assert losses[-1] < losses[0]
    assert set(state) == {name for name, _ in model.named_parameters() if name.startswith("projector.")}
    rows = model.config.text_config.vocab_size
    assert rows == (llm.config.vocab_size if spare else math.ceil((llm.config.vocab_size + 3) / 64) * 64)
    (place / "two").mkdir()
    stage2.export(model, state, place / "two")

    stage3 = Stage3(data, place / "two", LORA, ("IED", "EPC"), train)
    model, state, losses = trained(stage3)
    assert losses[-1] < losses[0]
    (place / "three").mkdir()
    stage3.export(model, state, place / "three")

    question = LABELLING.question(data.labels)
    segments = np.random.default_rng(0).normal(size=(2, 1, len(data.settings.channels), data.settings.n_times))
    merged = merge_model(place / "three", place / "merged")
    answers = []
    for folder in (place / "three", merged):
        predictor = Predictor(folder)
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

    whole = Stage3(data, place / "two", None, ("IED",), train)
    model, state, _ = trained(whole, steps=1)
    (place / "whole").mkdir()
    whole.export(model, state, place / "whole")
    again = E2LLMForConditionalGeneration.from_pretrained(place / "whole")
    assert all(torch.equal(value, state[name]) for name, value in again.named_parameters() if name in state)
