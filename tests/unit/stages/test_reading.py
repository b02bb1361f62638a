"""Stages 2 and 3 with an addressed projector: what it reads is regressed beside the answers, and handed on."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from e2llm_core.model.config import ProjectorConfig
from e2llm_core.model.modeling_e2llm import E2LLMForConditionalGeneration
from e2llm_core.stages.config import LanguageTrainConfig
from e2llm_core.stages.language import label_means
from e2llm_core.stages.stage2.stage import Stage2
from e2llm_core.stages.stage3.plan import LoraSettings
from e2llm_core.stages.stage3.stage import Stage3
from e2llm_core.tasks.facts import ClaimChoice, words_of
from e2llm_core.tasks.registry import READINGS
from e2llm_core.training.sharding import MicroBatch

EVERY = tuple(READINGS)


@pytest.fixture(scope="module")
def make(data, tower_folder, llm_folder):
    def made(readings=EVERY, kind="addressed", **train):
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


def test_two_segments_of_a_difference_are_of_one_session(make):
    stage = make(("differences",))
    trials, windows = stage.training.windows.trials, stage.training.windows
    for number in range(len(stage.training)):
        first, second = stage.draw(stage.training, number, np.random.default_rng(number)).windows
        rows = windows.locate([first, second])[0]
        assert first == number
        assert trials["subject"].iloc[rows[0]] == trials["subject"].iloc[rows[1]]


def test_the_prefix_starts_from_the_words_of_the_quantities(make):
    stage = make()
    model, _ = stage.build()
    assert model.config.projector["quantities"] == list(stage.scaler.names)
    words = stage.processor.tokenizer.encode(f" {words_of(stage.training.quantities[3])}", add_special_tokens=False)
    weight = model.llm.get_input_embeddings().weight
    torch.testing.assert_close(model.projector.addresses[3], weight[words].mean(dim=0))


def test_samples_count_one_and_their_windows_share_it(make):
    stage = make()
    stage.build()
    windows = len(stage.training)
    batch = batch_of(stage, [0, 1, EVERY.index("differences") * windows])
    assert batch.num_targets == pytest.approx(3)
    assert batch.tensors["segment_weights"].tolist() == pytest.approx([1, 1, 0.5, 0.5])
    assert batch.tensors["eeg_measures"].shape == (4, len(stage.scaler.names))


@pytest.mark.parametrize("weight", [0.0, 0.5])
def test_the_loss_is_that_of_the_answers_and_of_the_readings(make, weight):
    stage = make(reading_weight=weight)
    torch.manual_seed(0)
    model, _ = stage.build()
    losses = stage.losses(model, batch_of(stage))
    parts = {name: float(part.total.detach()) for name, part in losses.parts.items()}
    assert float(losses.total.detach()) == pytest.approx(parts["nll"] + weight * parts["reading"], rel=1e-5)
    assert parts["reading"] > 0


def test_a_plain_projector_reads_nothing(make):
    stage = make(kind="mlp")
    model, _ = stage.build()
    batch = batch_of(stage)
    assert "eeg_measures" not in batch.tensors
    assert "reading" not in stage.losses(model, batch).parts


def test_readings_come_nearer_to_the_measures(make):
    stage = make(("levels",))
    torch.manual_seed(0)
    model, groups = stage.build()
    optimizer = torch.optim.Adam(groups[0].parameters, lr=1e-2)
    errors = []
    for _ in range(40):
        losses = stage.losses(model, batch_of(stage, range(4)))
        optimizer.zero_grad()
        losses.total.backward()
        optimizer.step()
        errors.append(float(losses.parts["reading"].total.detach()))
    assert errors[-1] < 0.7 * errors[0]


def test_stage3_goes_on_with_what_stage2_reads(make, data, exported, tmp_path):
    first = make()
    _, state = exported(first, tmp_path)
    second = Stage3(data, tmp_path, LoraSettings(r=2, target_modules=("q_proj",)), ("IED",), LanguageTrainConfig())
    model, _ = second.build()
    assert second.reads
    assert second.processor.num_eeg_tokens == 1 + len(first.scaler.names)
    torch.testing.assert_close(model.projector.addresses, state["projector.addresses"])
    assert "reading" in second.losses(model, batch_of(second)).parts
    assert set(load_file(tmp_path / "projector.safetensors")) == {
        name.removeprefix("projector.") for name in state if name.startswith("projector.")
    }
    again = E2LLMForConditionalGeneration.from_pretrained(tmp_path)
    assert again.config.num_eeg_tokens == 1 + len(first.scaler.names)


def test_label_means_sum_to_nothing_and_are_asked_for_only_where_they_count(make, data, monkeypatch):
    stage = make(claims=ClaimChoice(number=3, relevance=1.0))
    means = label_means(data, stage.scaler)
    assert means.shape == (len(data.labels), len(stage.scaler.names))
    np.testing.assert_allclose(means.mean(axis=0), 0, atol=1e-6)
    assert max(len(stage.training.facts(window).claims) for window in range(4)) == 3
    monkeypatch.setattr("e2llm_core.stages.language.label_means", None)
    make()
