"""A store of four synthetic subjects, and the smallest model directory of every stage."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from e2llm_core.encoders.config import TowerConfig
from e2llm_core.encoders.eegpt.config import EEGPTTower
from e2llm_core.llm.tiny_llm import tiny_llm, train_tokenizer
from e2llm_core.model.config import ProjectorConfig
from e2llm_core.stages.config import DataConfig, LanguageTrainConfig
from e2llm_core.stages.data import EEGData
from e2llm_core.stages.stage1.objectives.config import Stage1Losses
from e2llm_core.stages.stage1.stage import Stage1
from e2llm_core.stages.stage2.stage import Stage2
from e2llm_core.stages.stage3.plan import LoraSettings
from e2llm_core.stages.stage3.stage import Stage3
from e2llm_core.tasks.corpus.dialogues import corpus_dialogue
from e2llm_core.tasks.facts import ClaimChoice
from storage.labels import LabelSet
from storage.splits import BySubject
from storage.store import RecordingInfo, Trial, create_store
from storage.windows import WindowConfig
from tests.extending import load

ANY_CLAIM = ClaimChoice(smallest=0, reliability=0)
"""Few windows of noise: no quantity of theirs is reliable."""
LABELS = LabelSet(name="three", names=("sad", "happy", "neutral"))
CHANNELS = ("FP1", "FP2", "C3", "C4", "O1", "O2")
CLIP = 512
TRIALS = 6


def write_subject(store, subject: int, unrest: float = 0.0, channels: tuple[str, ...] = CHANNELS) -> None:
    """White noise of 20 uV; with `unrest` every other trial is so many times as loud as e."""
    trials = tuple(
        Trial(trial=n, position=n, clip=n, start=(n - 1) * CLIP, stop=n * CLIP, label=LABELS.names[n // 2 % 3])
        for n in range(1, TRIALS + 1)
    )
    info = RecordingInfo(
        recording_id=f"sub-{subject}",
        subject=f"s{subject}",
        session="1",
        channels=channels,
        sfreq_hz=256.0,
        n_times=TRIALS * CLIP,
        source_sha256="0" * 64,
        ingest_digest=f"{subject}" * 64,
        provenance={},
        trials=trials,
    )
    loudness = np.repeat(np.exp(unrest * (np.arange(TRIALS) % 2)), CLIP)
    noise = np.random.default_rng(subject).normal(0, 20, (len(CHANNELS), TRIALS * CLIP))
    store.write_recording(info, (noise * loudness)[[CHANNELS.index(name) for name in channels]])


@pytest.fixture(scope="session")
def data(tmp_path_factory) -> EEGData:
    root = tmp_path_factory.mktemp("stages") / "store.zarr"
    store = create_store(root, dataset="synthetic", label_set=LABELS)
    for subject in range(4):
        write_subject(store, subject)
    windows = WindowConfig(
        window_seconds=1.0,
        stride_seconds=1.0,
        normalisation="session-whitening",
        adaptation="transductive-unlabelled",
    )
    split = BySubject(train=("s0", "s1"), validation=("s2",), test=("s3",), reserved=1)
    return EEGData.open(DataConfig(store=str(root), windows=windows, split=split))


@pytest.fixture(scope="session")
def reordered(data, tmp_path_factory) -> EEGData:
    """The same signals and sides; the tested and the validating subject's channels are stored in another order."""
    root = tmp_path_factory.mktemp("reordered") / "store.zarr"
    store = create_store(root, dataset="synthetic", label_set=LABELS)
    for subject in range(4):
        write_subject(store, subject, channels=CHANNELS if subject < 2 else CHANNELS[::-1])
    return EEGData.open(data.config.model_copy(update={"store": str(root)}))


@pytest.fixture(scope="session")
def unlike_subjects(data, tmp_path_factory) -> EEGData:
    """Four training subjects, each less even than the one before, in windows that overlap."""
    root = tmp_path_factory.mktemp("unlike") / "store.zarr"
    store = create_store(root, dataset="synthetic", label_set=LABELS)
    for subject in range(5):
        write_subject(store, subject, unrest=float(subject))
    split = BySubject(train=("s0", "s1", "s2", "s3"), validation=(), test=("s4",), reserved=0)
    windows = data.config.windows.model_copy(update={"stride_seconds": 0.1})
    return EEGData.open(DataConfig(store=str(root), windows=windows, split=split))


@pytest.fixture(scope="session")
def tower_config() -> TowerConfig:
    return EEGPTTower(
        start="fourier", dim=16, depth=1, num_heads=2, temporal_dim=16, temporal_depth=1, temporal_heads=2
    )


@pytest.fixture(scope="session")
def make_stage1(data, tower_config):
    return lambda seed=0, **losses: Stage1(data, tower_config, Stage1Losses(**losses), seed)


@pytest.fixture(scope="session")
def llm_folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "llm" / "model"
    texts = [d.user + d.answer + (d.thinking or "") for d in (corpus_dialogue(n, LABELS.names, 0) for n in range(200))]
    tokenizer = train_tokenizer(texts, 400)
    torch.manual_seed(0)
    tiny_llm(400, 32, 2, 2, 1, 64, tokenizer=tokenizer).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def exported(stage, folder: Path, seed: int = 1) -> tuple[torch.nn.Module, dict[str, torch.Tensor]]:
    """What the trainer does at the end, on weights that moved: names and tensors of what trains."""
    torch.manual_seed(seed)
    model, groups = stage.build()
    trainable = {id(parameter) for group in groups for parameter in group.parameters}
    with torch.no_grad():
        for group in groups:
            for parameter in group.parameters:
                parameter.add_(0.1 * torch.randn_like(parameter))
    state = {name: p.detach().clone() for name, p in model.named_parameters() if id(p) in trainable}
    stage.export(model, state, folder)
    return model.eval(), state


@pytest.fixture(scope="session", name="exported")
def exported_function():
    return exported


@pytest.fixture(scope="session")
def tower_folder(make_stage1, llm_folder) -> Path:
    folder = llm_folder.parents[1] / "stage1" / "model"
    folder.mkdir(parents=True)
    exported(make_stage1(), folder)
    return folder


@pytest.fixture(scope="session")
def make_stage2(data, tower_folder, llm_folder):
    def make(seed=0):
        projector, train = ProjectorConfig(kind="mlp"), LanguageTrainConfig(seed=seed, claims=ANY_CLAIM)
        return Stage2(data, tower_folder, str(llm_folder), projector, train, ("describe",))

    return make


@pytest.fixture(scope="session")
def stage2_folder(make_stage2, llm_folder) -> Path:
    folder = llm_folder.parents[1] / "stage2" / "model"
    folder.mkdir(parents=True)
    exported(make_stage2(), folder)
    return folder


@pytest.fixture(scope="session")
def make_stage3(data, stage2_folder):
    lora = LoraSettings(r=2, alpha=4, target_modules=("q_proj", "v_proj"))

    def make(seed=0, lora=lora, tasks=("IED", "EPC"), train=None):
        return Stage3(data, stage2_folder, lora, tasks, train or LanguageTrainConfig(seed=seed, claims=ANY_CLAIM))

    return make


@pytest.fixture
def add(monkeypatch):
    """Let a new file of the page be imported, for one test."""

    def added(path: str):
        module = load(path)
        monkeypatch.setitem(sys.modules, module.__name__, module)
        return module

    return added
