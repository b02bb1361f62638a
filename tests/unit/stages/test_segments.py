"""Cached features in the place of the tower: the same loss, the same windows, and refusals of everything else."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from cluster.batch.features import FeatureWriter, manifest_of
from cluster.batch.plans import FeaturesPlan
from e2llm_core.model.config import ProjectorConfig
from e2llm_core.model.modeling_e2llm import E2LLMForConditionalGeneration
from e2llm_core.stages.config import CachedDataConfig, LanguageTrainConfig, build_stage
from e2llm_core.stages.data import EEGData
from e2llm_core.stages.features import tower_digest
from e2llm_core.stages.measured import MeasuredWindows
from e2llm_core.stages.segments import FeatureSegments, WindowSegments
from e2llm_core.stages.stage2.plan import Stage2Plan
from e2llm_core.stages.stage2.stage import Stage2
from e2llm_core.stages.stage3.plan import LoraSettings
from e2llm_core.stages.stage3.stage import Stage3
from e2llm_core.tasks.facts import ClaimChoice
from e2llm_core.training.sharding import MicroBatch
from e2llm_core.training.world import World
from storage.blocks import COMPLETE
from storage.errors import InputError
from storage.features import Features
from storage.splits import Side
from storage.windows import Windows


def compute(folder: Path, data: EEGData, tower: Path, **fields) -> Path:
    """What the job does, in this process."""
    plan = FeaturesPlan(store=data.config.store, windows=data.config.windows, model=tower, **{"block": 7} | fields)
    features = Features.create(folder, manifest_of(plan))
    features.prepare()
    writer = FeatureWriter(plan, folder, features.manifest)
    assert set(writer({"block": np.array(features.missing())})["problem"]) == {""}
    features.complete()
    return folder


def cached(data: EEGData, folder: Path | None, **windows) -> CachedDataConfig:
    config = data.config.windows.model_copy(update=windows)
    return CachedDataConfig(store=data.config.store, windows=config, split=data.config.split, features=folder)


@pytest.fixture(scope="module")
def plain(data, tower_folder, tmp_path_factory) -> Path:
    return compute(tmp_path_factory.mktemp("plain"), data, tower_folder)


@pytest.fixture(scope="module")
def other_blocks(data, tower_folder, tmp_path_factory) -> Path:
    return compute(tmp_path_factory.mktemp("other_blocks"), data, tower_folder, block=3)


NO_RELEVANCE = LanguageTrainConfig(claims=ClaimChoice(relevance=0))
"""Nothing is measured before it is needed."""


def nll(stage, model) -> float:
    batch = stage.row(stage.training, stage.tokenize(np.arange(6), np.arange(6)))
    with torch.no_grad():
        return float(stage.losses(model.eval(), batch).total / batch.num_targets)


def both(stage: str, data, cached_data, tower_folder, llm_folder, stage2_folder):
    lora = LoraSettings(r=2, alpha=4, target_modules=("q_proj", "v_proj"))
    for source in (data, cached_data):
        torch.manual_seed(0)
        if stage == "stage2":
            made = Stage2(source, tower_folder, str(llm_folder), ProjectorConfig(kind="mlp"), NO_RELEVANCE)
        else:
            made = Stage3(source, stage2_folder, lora, ("IED", "EPC"), NO_RELEVANCE)
        yield made, made.build()[0]


@pytest.mark.parametrize("name", ["stage2", "stage3"])
def test_the_loss_is_that_of_the_tower(name, data, plain, tower_folder, llm_folder, stage2_folder):
    tower = tower_folder if name == "stage2" else stage2_folder
    source = EEGData.open(cached(data, plain), tower)
    (stage, model), (fast, light) = both(name, data, source, tower_folder, llm_folder, stage2_folder)
    assert nll(fast, light) == pytest.approx(nll(stage, model), abs=1e-6)
    ids = np.arange(8)
    with torch.no_grad():
        shown = [torch.from_numpy(one.training.segments.read(ids)) for one in (stage, fast)]
        expected, found = model.encode_eeg(shown[0]), light.project(shown[1])
    # An untrained model's loss hardly depends on its EEG: what reaches it must differ less than windows do.
    assert float((found - expected).abs().max()) < 1e-3 * float(
        (expected[0] - expected[1:]).abs().amax(dim=(1, 2)).min()
    )
    assert not any(name.startswith("tower") for name, _ in light.named_parameters())


@pytest.fixture
def no_signal(monkeypatch) -> None:
    """From here on, whoever reads EEG fails."""

    def read(*_):
        raise AssertionError("raw EEG was read")

    monkeypatch.setattr("storage.reading.SignalReader.read", read)


@pytest.mark.parametrize("name", ["stage2", "stage3"])
def test_training_on_features_reads_no_eeg(name, data, plain, tower_folder, llm_folder, stage2_folder, no_signal):
    tower = tower_folder if name == "stage2" else stage2_folder
    source = EEGData.open(cached(data, plain), tower)
    _, (stage, model) = both(name, data, source, tower_folder, llm_folder, stage2_folder)
    batch = stage.prepare(MicroBatch(np.arange(6), np.arange(6), np.ones(6, dtype=np.float32)))
    stage.losses(model.train(), batch).total.backward()
    with torch.no_grad():
        assert np.isfinite(stage.validate(model.eval(), World())["nll"])


def test_claims_of_cached_measures_are_those_of_the_signal(data, plain, other_blocks):
    """Session averages included, on a side that is a part of the store, and whatever the blocks were."""
    windows = data.measured(data.split.train)
    ids = np.arange(len(windows))
    expected = MeasuredWindows(windows)(ids)
    for folder in (plain, other_blocks):
        np.testing.assert_array_equal(MeasuredWindows(windows, Features.open(folder))(ids), expected)


@pytest.mark.parametrize(
    ("normalisation", "adaptation"),
    [
        ("none", "none"),
        ("window-zscore", "none"),
        ("session-whitening", "causal"),
        ("none", "causal"),
        ("session-zscore", "transductive-unlabelled"),
    ],
)
def test_features_hold_what_the_rule_has_measured(data, tower_folder, tmp_path, normalisation, adaptation):
    plain = data.config.windows.model_copy(update={"normalisation": normalisation, "adaptation": adaptation})
    other = EEGData(data.config.model_copy(update={"windows": plain}), data.store)
    folder = compute(tmp_path / "f", other, tower_folder)
    measured = other.measured(data.split.test)
    ids = np.arange(len(measured))
    found = MeasuredWindows(measured, Features.open(folder))(ids)
    np.testing.assert_array_equal(found, MeasuredWindows(other.measured(data.split.test))(ids))
    if adaptation == "transductive-unlabelled":
        np.testing.assert_array_equal(found, MeasuredWindows(data.measured(data.split.test))(ids))


def test_features_with_other_measures_are_refused(data, plain):
    manifest = Features.open(plain).manifest
    other = manifest.model_copy(update={"quantities": manifest.quantities[1:]})
    with pytest.raises(InputError, match=r"data\.features: .* hold other signal measures"):
        MeasuredWindows(data.measured(data.split.train), Features(plain, other))


def test_gradients_are_those_of_the_tower(data, plain, tower_folder, llm_folder, stage2_folder):
    source = EEGData.open(cached(data, plain), tower_folder)
    found = []
    for stage, model in both("stage2", data, source, tower_folder, llm_folder, stage2_folder):
        shown = stage.tokenize(np.arange(4), np.arange(4))
        stage.losses(model.train(), stage.row(stage.training, shown)).total.backward()
        found.append([parameter.grad for parameter in model.projector.parameters()])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


def test_a_micro_batch_carries_features(data, plain, tower_folder, llm_folder):
    stage = Stage2(
        EEGData.open(cached(data, plain), tower_folder),
        tower_folder,
        str(llm_folder),
        ProjectorConfig(),
        LanguageTrainConfig(),
    )
    model, _ = stage.build()
    batch = stage.prepare(MicroBatch(np.arange(3), np.arange(3), np.array([1, 1, 0], dtype=np.float32)))
    assert "eeg" not in batch.tensors
    assert batch.tensors["eeg_features"].shape == (3, model.tower.num_tokens, model.tower.dim)
    with pytest.raises(ValueError, match="built without its tower"):
        model.encode_eeg(torch.zeros(1, 6, 256))


def test_export_carries_the_tower_along(data, plain, tower_folder, llm_folder, exported, tmp_path):
    source = EEGData.open(cached(data, plain), tower_folder)
    stage = Stage2(source, tower_folder, str(llm_folder), ProjectorConfig(), LanguageTrainConfig())
    exported(stage, tmp_path / "model")
    handed, given = load_file(tmp_path / "model/tower.safetensors"), load_file(tower_folder / "tower.safetensors")
    assert all(torch.equal(handed[name], given[name]) for name in given)
    assert tower_digest(tmp_path / "model") == tower_digest(tower_folder)
    E2LLMForConditionalGeneration.from_pretrained(tmp_path / "model").encode_eeg(torch.zeros(1, 6, 256))


def test_without_features_windows_are_read(data, tower_folder):
    source = EEGData.open(cached(data, None), tower_folder)
    segments = source.segments(source.split.validation)
    assert isinstance(segments, WindowSegments)
    windows = source.windows(source.split.validation)
    ids = np.array([1, 3])
    np.testing.assert_array_equal(segments.read(ids), windows.read(ids))


@settings(max_examples=30, deadline=None)
@given(
    subjects=st.sets(st.sampled_from(["s0", "s1", "s2", "s3"]), min_size=1),
    stride=st.sampled_from([0.25, 0.6, 1.0]),
    length=st.sampled_from([1.0, 1.5]),
    where=st.floats(0, 0.999),
)
def test_a_window_of_a_side_is_the_same_window_of_the_store(data, subjects, stride, length, where):
    config = data.config.windows.model_copy(update={"stride_seconds": stride, "window_seconds": length})
    every = Windows(data.store, config)
    side = Windows(data.store, config, Side(subjects=tuple(sorted(subjects))).rows(data.store.trials))
    segments = FeatureSegments(None, every, side)  # type: ignore[arg-type]
    ids = np.array([0, int(where * len(side)), len(side) - 1])
    columns = ["recording_id", "trial", "start", "stop"]
    expected, found = side.describe(ids)[columns], every.describe(segments.rows(ids))[columns]
    assert expected.equals(found)


def changed_tower(folder: Path, to: Path) -> Path:
    to.mkdir()
    tensors = load_file(folder / "tower.safetensors")
    next(iter(tensors.values())).view(-1)[0] += 1
    save_file(tensors, to / "tower.safetensors")
    (to / "tower.json").write_text((folder / "tower.json").read_text())
    return to


def test_a_tower_is_known_by_its_content(tower_folder, tmp_path):
    copy = tmp_path / "copy"
    copy.mkdir()
    tensors = load_file(tower_folder / "tower.safetensors")
    save_file(dict(reversed(tensors.items())), copy / "tower.safetensors", metadata={"made": "elsewhere"})
    config = json.loads((tower_folder / "tower.json").read_text())
    (copy / "tower.json").write_text(json.dumps(dict(reversed(config.items()))))
    assert tower_digest(copy) == tower_digest(tower_folder)
    assert tower_digest(changed_tower(tower_folder, tmp_path / "other")) != tower_digest(tower_folder)
    config["temporal"]["dropout"] = 0.5
    (copy / "tower.json").write_text(json.dumps(config))
    assert tower_digest(copy) != tower_digest(tower_folder)
    (copy / "tower.json").unlink()
    with pytest.raises(InputError, match=r"no tower\.json here"):
        tower_digest(copy)


def test_features_of_something_else_are_refused(data, plain, tower_folder, tmp_path):
    refusals = {
        "another tower": (cached(data, plain), changed_tower(tower_folder, tmp_path / "other")),
        r"stride_seconds 1\.0, not 0\.5": (cached(data, plain, stride_seconds=0.5), tower_folder),
        "normalisation session-whitening, not none": (
            cached(data, plain, normalisation="none", adaptation="none"),
            tower_folder,
        ),
        "no features here": (cached(data, tmp_path / "absent"), tower_folder),
    }
    for problem, (config, tower) in refusals.items():
        with pytest.raises(InputError, match=problem) as refused:
            EEGData.open(config, tower)
        assert str(refused.value).startswith("data.features: ")
        assert "\n" not in str(refused.value)


def test_incomplete_features_are_refused_by_the_stage(data, tower_folder, llm_folder, tmp_path):
    folder = compute(tmp_path / "f", data, tower_folder)
    model = {"tower": tower_folder, "llm": str(llm_folder)}
    plan = Stage2Plan(data=cached(data, folder), model=model)
    assert build_stage(plan).training.segments.key == "eeg_features"
    (folder / COMPLETE).unlink()
    with pytest.raises(InputError, match="not complete"):
        build_stage(plan)


def test_a_window_that_cannot_be_read_does_not_stop_the_others(data, tower_folder, tmp_path, monkeypatch):
    plan = FeaturesPlan(store=data.config.store, windows=data.config.windows, model=tower_folder, block=16)
    features = Features.create(tmp_path, manifest_of(plan))
    features.prepare()
    writer = FeatureWriter(plan, tmp_path, features.manifest)
    read = writer._windows.read

    def damaged(numbers):
        if numbers[0] == 16:
            raise InputError("sub-1", "is damaged", "Ingest it again.")
        return read(numbers)

    monkeypatch.setattr(writer._windows, "read", damaged)
    outcome = writer({"block": np.array([0, 1, 2])})
    assert outcome["problem"] == ["", "is damaged", ""]
    assert features.missing() == [1]
