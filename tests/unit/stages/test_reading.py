"""Stages 2 and 3 with a worded projector: what it reads is fitted to the measures, said in words, and handed on."""

from dataclasses import fields, replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from e2llm_core.claims.table import CLAIM_KINDS
from e2llm_core.model.config import ProjectorConfig
from e2llm_core.model.modeling_e2llm import E2LLMForConditionalGeneration
from e2llm_core.model.projector import FittedReading, pooled
from e2llm_core.stages.config import LanguageTrainConfig
from e2llm_core.stages.language import label_means
from e2llm_core.stages.stage2.reading import fitted_reading
from e2llm_core.stages.stage2.stage import Stage2
from e2llm_core.stages.stage3.plan import LoraSettings
from e2llm_core.stages.stage3.stage import Stage3
from e2llm_core.tasks.facts import ClaimChoice
from e2llm_core.tasks.registry import READINGS
from e2llm_core.training.sharding import MicroBatch

EVERY = tuple(READINGS)


@pytest.fixture(scope="module")
def make(data, tower_folder, llm_folder):
    def made(readings=EVERY, kind="worded", **train):
        config = LanguageTrainConfig(counts="answers", **train)
        return Stage2(data, tower_folder, str(llm_folder), ProjectorConfig(kind=kind), config, readings)

    return made


def batch_of(stage, ids=(0, 1, 2, 3)):
    return stage.prepare(MicroBatch(np.array(ids), np.array(ids), np.ones(len(ids), dtype=np.float32)))


def test_every_window_is_asked_every_form(make):
    stage = make()
    windows = len(stage.training)
    assert stage.size == windows * len(EVERY)
    asked = {
        stage.draw(stage.training, number, np.random.default_rng(number)).dialogue.task
        for number in range(0, stage.size, windows)
    }
    assert asked == set(EVERY)
    assert stage.tasks == EVERY


def test_the_prefix_starts_from_the_words_of_the_quantities(make):
    stage = make()
    model, _ = stage.build()
    assert model.config.projector["quantities"] == list(stage.scaler.names)
    quantity, tokenizer = stage.training.quantities[3], stage.processor.tokenizer
    said = f" {CLAIM_KINDS[quantity.kind].note_address(quantity)}"
    words = tokenizer.encode(said, add_special_tokens=False)
    weight = model.llm.get_input_embeddings().weight
    torch.testing.assert_close(model.projector.addresses[3, -len(words) :], weight[words])
    high = tokenizer.encode(f" {CLAIM_KINDS[quantity.kind].note_words[0]}", add_special_tokens=False)
    torch.testing.assert_close(model.projector.directions[3, 0], weight[high].mean(dim=0))


def test_the_ordinal_stands_before_the_name(make):
    stage = make()
    model, _ = stage.build()
    place = model.projector.ordinal_place.argmax(dim=1).tolist()
    names = [f" {CLAIM_KINDS[quantity.kind].note_address(quantity)}" for quantity in stage.training.quantities]
    lengths = [len(stage.processor.tokenizer.encode(name, add_special_tokens=False)) for name in names]
    assert place == [max(lengths) - length + 1 for length in lengths]


@pytest.mark.parametrize("cached", [False, True])
def test_what_is_read_comes_near_to_the_measures(make, cached):
    stage = make(claims=ClaimChoice(reliability=0))
    model, _ = stage.build()
    source, ids = stage.training, np.arange(len(stage.training))
    tokens = model.tower(torch.from_numpy(source.segments.read(ids)))
    if cached:
        source.segments = SimpleNamespace(key="eeg_features", read=lambda ids: tokens.numpy()[ids])
    weight, bias = fitted_reading(model.tower, source, seed=0)
    read, measured = pooled(tokens) @ weight.T + bias, torch.from_numpy(source.deviations(ids))
    mean = measured.mean(dim=0)
    assert (read - measured).pow(2).mean() < 0.9 * (mean - measured).pow(2).mean()
    torch.testing.assert_close(model.projector.reading(tokens), read, rtol=1e-3, atol=1e-3)


def test_what_is_claimed_is_told_and_holds_in_the_order_in_which_it_is_told(make):
    stage = make(claims=ClaimChoice(smallest=0.3, reliability=0))
    model, _ = stage.build()
    source, reading, made = stage.training, model.projector.reading, 0
    for window in range(len(source)):
        tokens = model.tower(torch.from_numpy(source.segments.read(np.array([window]))))
        read = reading(tokens)
        places = reading.told(tokens, read)[0].tolist()
        fact, measured = source.facts(window), source.deviations([window])[0]
        told = [(source.quantities[place], bool(read[0, place] > 0)) for place in places]
        holds = [
            one
            for one, place in zip(told, places, strict=True)
            if abs(measured[place]) >= 0.3 and (measured[place] > 0) == one[1]
        ]
        assert [(claim.quantity, claim.above) for claim in fact.outstanding] == holds
        assert fact.claims == fact.outstanding[:3]
        made += len(holds)
        assert len(holds) <= len(told)
    assert 0 < made < len(source) * reading.strongest, "some of what is told does not hold"


def test_what_is_not_reliable_is_not_read(make):
    stage = make(claims=ClaimChoice(reliability=0.5))
    reliability = np.linspace(0.4, 0.6, len(stage.scaler.names)).astype(np.float32)
    reliability[0] = np.nan
    stage.scaler = replace(stage.scaler, reliability=reliability)
    model, _ = stage.build()
    read = model.projector.reading.weight.abs().sum(dim=1) > 0
    assert read.tolist() == (reliability >= 0.5).tolist()


def test_nothing_that_is_measured_is_an_input(make):
    stage = make()
    stage.build()
    assert set(batch_of(stage).tensors) == {
        "cu_seq_lens_k", "cu_seq_lens_q", "eeg", "eeg_places", "input_ids", "labels", "max_length_k", "max_length_q",
        "position_ids", "supervised", "task_targets", "tasks", "weights",
    }  # fmt: skip


def test_stage3_goes_on_with_what_stage2_reads(make, data, exported, tmp_path):
    first = make(claims=ClaimChoice(reliability=0))
    _, state = exported(first, tmp_path)
    second = Stage3(data, tmp_path, LoraSettings(r=2, target_modules=("q_proj",)), ("IED",), LanguageTrainConfig())
    model, _ = second.build()
    assert second.processor.num_eeg_tokens == first.processor.num_eeg_tokens == model.config.num_eeg_tokens
    torch.testing.assert_close(model.projector.addresses, state["projector.addresses"])
    fixed = {f"reading.{field.name}" for field in fields(FittedReading)}
    assert set(load_file(tmp_path / "projector.safetensors")) == {"ordinal_place"} | fixed | {
        name.removeprefix("projector.") for name in state if name.startswith("projector.")
    }
    assert model.projector.reading.weight.abs().sum() > 0
    again = E2LLMForConditionalGeneration.from_pretrained(tmp_path)
    assert again.config.num_eeg_tokens == model.config.num_eeg_tokens


def test_label_means_sum_to_nothing_and_are_asked_for_only_where_they_count(make, data, monkeypatch):
    stage = make(claims=ClaimChoice(number=3, relevance=1.0, smallest=0, reliability=0))
    means = label_means(data, stage.scaler)
    assert means.shape == (len(data.labels), len(stage.scaler.names))
    np.testing.assert_allclose(means.mean(axis=0), 0, atol=1e-6)
    assert max(len(stage.training.facts(window).claims) for window in range(4)) == 3
    monkeypatch.setattr("e2llm_core.stages.language.label_means", None)
    make(claims=ClaimChoice(relevance=0))
