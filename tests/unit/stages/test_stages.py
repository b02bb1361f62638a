import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from e2llm_core.claims.measures import SignalMeasures
from e2llm_core.model.modeling_e2llm import E2LLMForConditionalGeneration
from e2llm_core.stages.config import LanguageTrainConfig
from e2llm_core.stages.data import ranks_share
from e2llm_core.stages.measured import MeasuredWindows
from e2llm_core.stages.probe import load_origin, load_probe
from e2llm_core.stages.stage1.objectives.config import Stage1Losses
from e2llm_core.stages.stage1.stage import Stage1
from e2llm_core.stages.tiny_llm.plan import TinyLLMConfig
from e2llm_core.stages.tiny_llm.stage import ScoredText, TextPretraining
from e2llm_core.tasks.facts import SegmentFacts
from e2llm_core.training.sharding import MicroBatch
from e2llm_core.training.stage import Batch, Losses
from e2llm_core.training.world import World

CONTRAST = "e2llm_core.stages.stage1.objectives.contrastive.contrast_over_step"
HEADS = {"contrastive": "contrast_head", "measures": "measure_head", "patch_powers": "patch_head"}


def trained(stage) -> dict[str, set[str]]:
    """Names of the parameters in each group of a stage."""
    model, groups = stage.build()
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return {group.name: {names[id(parameter)] for parameter in group.parameters} for group in groups}


def everything(stage) -> set[str]:
    return {name for name, _ in stage.build()[0].named_parameters()}


def loss(stage, model, ids=(0, 1, 2)) -> float:
    micro = MicroBatch(np.array(ids), np.array(ids), np.ones(len(ids), dtype=np.float32))
    batch = stage.prepare(micro)
    with torch.no_grad():
        return float(stage.losses(model.eval(), batch).total / batch.num_targets)


def test_stage1_trains_everything_in_two_groups(make_stage1):
    groups = trained(make_stage1())
    assert set(groups) == {"encoder", "heads"}
    assert not groups["encoder"] & groups["heads"]
    assert groups["encoder"] | groups["heads"] == everything(make_stage1())
    assert all(name.startswith("tower.encoder.") for name in groups["encoder"])


def test_stage2_trains_the_projector_alone(make_stage2):
    groups = trained(make_stage2())
    assert set(groups) == {"projector"}
    assert groups["projector"] == {name for name in everything(make_stage2()) if name.startswith("projector.")}


def test_stage3_trains_projector_and_adapters(make_stage3):
    groups = trained(make_stage3())
    assert set(groups) == {"projector", "lora"}
    assert all(".lora_A." in name or ".lora_B." in name for name in groups["lora"])
    assert len(groups["lora"]) == 2 * 2 * 2  # layers, projections, A and B
    assert all(name.startswith("projector.") for name in groups["projector"])


def test_stage3_without_lora_trains_the_whole_language_model(make_stage3):
    stage = make_stage3(lora=None)
    groups = trained(stage)
    assert set(groups) == {"projector", "llm"}
    assert groups["llm"] == {name for name in everything(stage) if name.startswith("llm.")}
    assert not any("lora" in name for name in groups["llm"])


@pytest.mark.parametrize(
    "losses",
    [
        {},
        {"contrastive": 0.0},
        {"measures": 0.0},
        {"patch_powers": 0.0},
        {"contrastive": 0.0, "measures": 0.0, "patch_powers": 0.0},
        {"label_smoothing": 0.0, "contrastive": 1.0},
    ],
)
def test_stage1_has_finite_gradients_everywhere_it_is_told_to_learn(make_stage1, losses):
    stage = make_stage1(**losses)
    torch.manual_seed(0)
    model, _ = stage.build()
    batch = stage.prepare(MicroBatch(np.arange(6), np.arange(6), np.array([1, 1, 1, 1, 1, 0], dtype=np.float32)))
    found = stage.losses(model, batch)
    scale = {"contrastive": 0.1, "measures": 0.5, "patch_powers": 0.5, **losses, "classification": 1.0}
    assert set(found.parts) == {name for name in ("classification", *HEADS) if scale[name]}
    expected = sum(scale[name] * part.total for name, part in found.parts.items())
    torch.testing.assert_close(found.total, expected)
    found.total.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
    for term, head in HEADS.items():
        weight = dict(model.named_parameters()).get(f"{head}.weight")
        assert (weight is not None) == (scale[term] > 0), term
        assert weight is None or weight.grad.any(), term


def forbidden(*_, **__):
    raise AssertionError("this belongs to a term that is switched off")


def test_stage1_does_nothing_for_a_term_that_is_switched_off(make_stage1, monkeypatch, exported, tmp_path):
    """No measured window is read, no target made, no vector compared, at one micro-batch and at several."""
    with monkeypatch.context() as patch:
        patch.setattr(CONTRAST, forbidden)
        patch.setattr(MeasuredWindows, "__call__", forbidden)
        patch.setattr(SignalMeasures, "patch_powers", forbidden)
        stage = make_stage1(contrastive=0.0, measures=0.0, patch_powers=0.0)
        patch.setattr(stage.fitted.measured.windows, "read", forbidden)
        model, _ = stage.build()
        micros = [MicroBatch(np.arange(3) + n, np.arange(3), np.ones(3, np.float32)) for n in (0, 3)]
        batches = [stage.prepare(micro) for micro in micros]
        assert all(set(batch.tensors) == {"eeg", "labels", "weights"} for batch in batches)
        assert stage.gradient_cache(model, batches) == batches
        assert set(stage.losses(model, batches[0]).parts) == {"classification"}
        with torch.no_grad():
            assert stage.validate(model.eval(), World()).keys() >= {"score", "gap"}
    exported(stage, tmp_path)
    handed, whole = load_probe(tmp_path)[1].scaler, make_stage1().scaler
    np.testing.assert_array_equal(handed.std, whole.std)


@pytest.mark.parametrize("term", ["contrastive", "measures", "patch_powers"])
def test_one_term_of_stage1_is_switched_off_by_itself(make_stage1, term, monkeypatch):
    work = {
        "contrastive": (CONTRAST, None),
        "measures": (MeasuredWindows, "__call__"),
        "patch_powers": (SignalMeasures, "patch_powers"),
    }
    place, name = work[term]
    monkeypatch.setattr(*([place] if name is None else [place, name]), forbidden)
    stage = make_stage1(**{term: 0.0})
    model, _ = stage.build()
    batch = stage.prepare(MicroBatch(np.arange(3), np.arange(3), np.ones(3, np.float32)))
    (seen,) = stage.gradient_cache(model, [batch])
    assert set(stage.losses(model, seen).parts) == {"classification", *HEADS} - {term}


@pytest.mark.parametrize("fitted", [2048, 100])
def test_patch_powers_are_standardised_over_all_subjects(unlike_subjects, tower_config, monkeypatch, fitted):
    monkeypatch.setattr("e2llm_core.stages.stage1.objectives.patch_powers._FITTED", fitted)
    config = Stage1Losses(augment=False)
    stages = [Stage1(unlike_subjects, tower_config, config, seed) for seed in (0, 1)]
    ids = np.arange(len(stages[0].windows))
    assert len(ids) == 240
    given = [stage.prepare(MicroBatch(ids, ids, np.ones(240, np.float32))).tensors["patch_powers"] for stage in stages]
    assert torch.equal(*given)
    assert given[0].dtype == torch.float32
    near = 0.01 if fitted > 240 else 0.15
    assert given[0].mean(dim=(0, 1)).abs().max() < near
    assert (given[0].std(dim=(0, 1)) - 1).abs().max() < near


def test_stage1_hands_on_tower_head_and_spread(make_stage1, exported, tmp_path):
    stage = make_stage1()
    model, _ = exported(stage, tmp_path)
    tower, probe = load_probe(tmp_path)
    eeg = stage.windows.read([0, 1])
    with torch.no_grad():
        logits = model(torch.from_numpy(eeg))["classification"]
    np.testing.assert_allclose(probe.probabilities(tower, eeg), logits.softmax(-1).numpy(), atol=1e-6)
    assert probe.labels == ("sad", "happy", "neutral")
    np.testing.assert_array_equal(probe.scaler.std, stage.scaler.std)


def test_stage2_hands_on_what_it_trained(make_stage2, exported, tmp_path, tower_folder, llm_folder):
    stage = make_stage2()
    model, _ = exported(stage, tmp_path / "model")
    loaded = E2LLMForConditionalGeneration.from_pretrained(tmp_path / "model")
    assert loss(stage, loaded) == pytest.approx(loss(stage, model), abs=1e-5)
    handed = load_file(tmp_path / "model/tower.safetensors")
    source = load_file(tower_folder / "tower.safetensors")
    assert all(torch.equal(handed[name], source[name]) for name in source)
    assert not (tmp_path / "model/llm").exists()
    probes = [load_probe(folder)[1] for folder in (tmp_path / "model", tower_folder)]
    assert probes[0].labels == probes[1].labels
    np.testing.assert_array_equal(probes[0].scaler.std, probes[1].scaler.std)
    assert {name for side in load_origin(tower_folder).sides for name in side.subjects} == {"s0", "s2"}
    assert {name for side in load_origin(tmp_path / "model").sides for name in side.subjects} == {"s0", "s1", "s2"}
    named = json.loads((tmp_path / "model/config.json").read_text())["llm_source"]["name"]
    assert (tmp_path / "model" / named).resolve() == llm_folder.resolve()


@pytest.mark.parametrize("whole", [False, True], ids=["lora", "whole"])
def test_stage3_hands_on_what_it_trained(make_stage3, exported, tmp_path, whole):
    stage = make_stage3(lora=None) if whole else make_stage3()
    model, _ = exported(stage, tmp_path / "model")
    loaded = E2LLMForConditionalGeneration.from_pretrained(tmp_path / "model")
    assert loss(stage, loaded) == pytest.approx(loss(stage, model), abs=1e-5)
    before = E2LLMForConditionalGeneration.from_pretrained(stage.start)
    ids = torch.arange(20)[None]
    with torch.no_grad():
        assert (loaded.llm(ids).logits - before.llm(ids).logits).abs().max() > 1e-3
    assert (tmp_path / "model/llm").exists() == whole
    assert (tmp_path / "model/adapter").exists() != whole


def test_stage3_exports_again_elsewhere(make_stage3, exported, tmp_path):
    """The best weights so far are written many times; the language model is named relative to each folder."""
    stage = make_stage3()
    model, state = exported(stage, tmp_path / "first")
    again = tmp_path / "far" / "away" / "model"
    stage.export(model, state, again)
    loaded = E2LLMForConditionalGeneration.from_pretrained(again)
    assert loss(stage, loaded) == pytest.approx(loss(stage, model), abs=1e-5)


def test_tiny_llm_hands_on_a_plain_qwen(exported, tmp_path):
    config = TinyLLMConfig(
        vocab_size=400, hidden_size=16, layers=1, heads=2, kv_heads=1, intermediate=32, corpus_size=100
    )
    stage = TextPretraining(config, ("sad", "happy"), 0)
    model, _ = exported(stage, tmp_path)
    loaded = ScoredText(AutoModelForCausalLM.from_pretrained(tmp_path))
    assert loss(stage, loaded) == pytest.approx(loss(stage, model), abs=1e-5)
    text = "Alpha power over the occipital region is above the session average."
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    assert tokenizer(text).input_ids == stage.tokenizer(text).input_ids
    assert {name for group in stage.build()[1] for name in [group.name]} == {"llm"}


@pytest.mark.parametrize("size", [1, 2, 3, 5, 8, 64, 65])
@pytest.mark.parametrize("workers", [1, 2, 3, 4])
@pytest.mark.parametrize("batch", [1, 3, 64])
def test_every_item_is_computed_by_one_rank(size, workers, batch):
    shares = [list(ranks_share(size, batch, World(rank, workers))) for rank in range(workers)]
    owned = sorted(int(item) for share in shares for ids, own in share for item in ids[:own])
    assert owned == list(range(size))
    assert len({tuple(len(ids) for ids, _ in share) for share in shares}) == 1


def test_validation_of_two_ranks_adds_up_to_that_of_one(make_stage2, make_stage1, monkeypatch):
    """Also where a rank has no item of its own."""
    for stage in (make_stage1(), make_stage2()):
        torch.manual_seed(0)
        model = stage.build()[0].eval()
        monkeypatch.setattr("e2llm_core.stages.language._VALIDATION_SAMPLES", 3)
        with torch.no_grad():
            alone = stage.validate(model, World())
            sums = validated_by(stage, model, workers=4)
        assert sums == pytest.approx(alone)


class ManyWindows:
    """`size` windows that are those of a small side again and again."""

    def __init__(self, source, size: int) -> None:
        trials = source.windows.trials
        counts = np.bincount(np.arange(size) % len(trials), minlength=len(trials))
        self.windows = SimpleNamespace(trials=trials, ends=np.cumsum(counts))
        self._source, self._size, self.labels = source, size, source.labels

    def __len__(self) -> int:
        return self._size

    def sampler(self, task):
        if task.num_segments == 1:
            return self._source.sampler(task)
        return lambda window, rng: tuple(rng.integers(self._size, size=2).tolist())

    def label(self, window: int) -> str:
        return self._source.label(window % len(self._source))

    def facts(self, window: int) -> SegmentFacts:
        return self._source.facts(window % len(self._source))


@pytest.mark.parametrize("size", [5, 255, 509, 2033])
def test_validation_of_stage3_shows_its_tasks_in_equal_shares(make_stage3, size, monkeypatch):
    """Whatever the number of windows: they are spread over all, the same on any number of ranks, within the bounds."""
    stage = make_stage3(train=LanguageTrainConfig(micro_batch=5, micro_tokens=500))
    source = ManyWindows(stage.validation, size)
    stage.validation = source
    rows: list[list] = []

    def row(source, samples):
        rows.append(samples)
        return Batch({}, sum(sample.tokens.num_targets for sample in samples))

    monkeypatch.setattr(stage, "row", row)
    monkeypatch.setattr(stage, "losses", lambda model, batch: Losses(torch.tensor(2.0 * batch.num_targets), {}))
    shown = []
    for workers in (1, 3):
        rows.clear()
        found = [stage.validate(None, World())] if workers == 1 else [validated_by(stage, None, workers)]
        assert found == [{"nll": pytest.approx(2.0), "score": pytest.approx(-2.0)}]
        for samples in rows:
            assert len(samples) <= 5
            assert len(samples) == 1 or sum(len(sample.tokens) for sample in samples) <= 500
        shown.append(sorted((s.tokens.task, s.windows) for samples in rows for s in samples if s.tokens.num_targets))
    assert shown[0] == shown[1]
    tasks = np.bincount([task for task, _ in shown[0]])
    assert tasks.sum() == min(128, size)
    assert np.ptp(tasks) <= 1
    windows = [window for task, (window, *_) in shown[0] if task == 0]
    assert len(set(windows)) == len(windows)
    if size > 128:
        assert np.bincount(np.array(windows) * 4 // size, minlength=4).min() >= 6, "of each quarter"


def test_validation_of_stage3_is_balanced_as_training_is(make_stage3):
    stage = make_stage3(train=LanguageTrainConfig(balance="class"))
    source = stage.validation
    windows = stage._validated(source)[: 3 * (min(128, len(source)) // 3)] % len(source)
    assert len(set(np.bincount(source.windows.trials["label_id"].to_numpy()[source.windows.locate(windows)[0]]))) == 1


def validated_by(stage, model, workers: int) -> dict[str, float]:
    """Validate as the last of several ranks, whose sums are taken over all of them, one after another."""
    sent: list[list[list[float]]] = []

    class Rank(World):
        def sum(self, values):
            sent[self.rank].append(list(values))
            earlier = [sent[rank][len(sent[self.rank]) - 1] for rank in range(self.rank + 1)]
            return np.sum(earlier, axis=0).tolist()

    for rank in range(workers):
        sent.append([])
        found = stage.validate(model, Rank(rank, workers))
    return found
