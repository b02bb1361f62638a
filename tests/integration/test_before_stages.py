"""The jobs before stages 2 and 3 on a real Ray: features, refused first over a damaged block, and a corpus to read."""

from pathlib import Path

import numpy as np
import pytest
import torch

from cluster.batch.corpus import CorpusPlan, write_corpus
from cluster.batch.features import compute_features
from cluster.batch.plans import FeaturesPlan
from cluster.resources import Resources
from e2llm_core.claims.measures import QuantityScaler, SignalMeasures
from e2llm_core.encoders.eegpt.start import fourier_start
from e2llm_core.stages.probe import Origin, Probe, save_probe
from e2llm_core.stages.stage3.plan import Stage3Plan
from e2llm_core.tower.tower import EEGSettings, EEGTower, load_tower
from e2llm_core.training.metrics import read_metrics
from storage.blocks import COMPLETE
from storage.corpus import DATASHEET, Corpus
from storage.errors import InputError
from storage.features import FEATURES, VALUES, Features
from storage.store import open_store
from storage.windows import WindowConfig, Windows
from tests import ranks
from tests.tiny_llm import save_tiny_llm
from tests.training_faults import TRAIN, make_store

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.usefixtures("private_ray")]
CHANNELS = ("FP1", "FP2", "C3", "C4", "O1", "O2")
NUM_TRIALS, CLIP = 20, 1024
NUM_BLOCKS = 4 * NUM_TRIALS * 4
WINDOWS = WindowConfig(window_seconds=1.0, stride_seconds=1.0)


@pytest.fixture(scope="module")
def plan(tmp_path_factory) -> FeaturesPlan:
    folder = tmp_path_factory.mktemp("inputs")
    make_store(folder / "store.zarr", channels=CHANNELS, trials=NUM_TRIALS, clip=CLIP)
    torch.manual_seed(0)
    encoder = {"name": "eegpt", "dim": 16, "depth": 1, "num_heads": 2}
    eeg = EEGSettings(CHANNELS, window_seconds=1.0)
    tower = EEGTower.build(eeg, encoder=encoder, temporal={"dim": 16, "depth": 1, "num_heads": 2})
    fourier_start(tower.encoder)
    quantities = SignalMeasures(CHANNELS, 256.0, 256).names
    head = {"weight": torch.zeros(2, tower.dim), "bias": torch.zeros(2)}
    probe = Probe(head, ("rest", "task"), QuantityScaler(quantities, *np.ones((3, len(quantities)))))
    origin = Origin(store_digest=open_store(folder / "store.zarr").digest, windows=WINDOWS, sides=())
    (folder / "tower").mkdir()
    save_probe(folder / "tower", tower, tower.state_dict(), probe, origin)
    return FeaturesPlan(store=str(folder / "store.zarr"), windows=WINDOWS, model=folder / "tower", block=1)


def shards(run: Path) -> dict[Path, int]:
    """Blocks that are there, with the time they were written at."""
    return {path: path.stat().st_mtime_ns for path in (run / FEATURES / VALUES).glob("c/*/0/0")}


@pytest.fixture(scope="module")
def run(plan, tmp_path_factory) -> Path:
    """A job that met a damaged block, and was started again when that was repaired."""
    run = tmp_path_factory.mktemp("features")
    (shard,) = Path(plan.store).glob("recordings/sub-3/signal-*/c/0/0")
    whole = shard.read_bytes()
    shard.write_bytes(whole[:100] + bytes([whole[100] ^ 1]) + whole[101:])
    with pytest.raises(InputError, match="sub-3"):
        compute_features(plan, run, Resources(workers=1))
    before = shards(run)
    assert 0 < len(before) < NUM_BLOCKS
    assert not (run / FEATURES / COMPLETE).exists()
    with pytest.raises(InputError, match="not complete"):
        Features.open(run / FEATURES)

    shard.write_bytes(whole)
    compute_features(plan, run, Resources(workers=1))
    after = shards(run)
    assert before.items() <= after.items(), "what is there is not computed again"
    assert len(after) == NUM_BLOCKS
    return run


def test_the_features_are_the_towers(plan, run):
    windows, ids = Windows(open_store(plan.store), plan.windows), np.array([0, 7, NUM_BLOCKS // 2, NUM_BLOCKS - 1])
    with torch.no_grad():
        expected = load_tower(plan.model)(torch.from_numpy(windows.read(ids))).numpy()
    np.testing.assert_allclose(Features.open(run / FEATURES).read(ids), expected, atol=1e-5)


def test_stages_2_and_3_train_on_features_and_a_corpus(plan, run, tmp_path):
    tower, llm = Path(plan.model), save_tiny_llm(tmp_path / "llm", ("rest", "task"))
    split = {"train": 2, "validation": 1, "test": 1}
    features, windows = str(run / FEATURES), WINDOWS.model_dump(mode="json")
    data = {"store": plan.store, "windows": windows, "split": split, "features": features}
    train = {**TRAIN, "max_steps": 2, "validate_every": 2}
    lora = {"lora": {"r": 2, "alpha": 4, "target_modules": ["q_proj"]}}
    stage2, stage3, again = tmp_path / "stage2", tmp_path / "stage3", tmp_path / "again"
    start = {"start": str(stage2 / "model")}
    plans = {
        stage2: {"data": data, "model": {"tower": str(tower), "llm": str(llm)}, "train": train},
        stage3: {"data": data, "model": start, "tasks": ["IED"], "train": train | lora},
    }
    ranks.train(plans, workers=1)
    of_stage3 = Stage3Plan.model_validate(plans[stage3])
    corpus = write_corpus(CorpusPlan(of_stage3, None, {}, 3), tmp_path / "dialogues", Resources(workers=2))
    ranks.train({again: plans[stage3] | {"data": data | {"corpus": corpus}}}, workers=1)

    handed_on = (tower / "tower.safetensors").read_bytes()
    for stage in (stage2, stage3, again):
        rows = read_metrics(stage / "metrics.jsonl")
        assert [row["split"] for row in rows] == ["train"] * 2 + ["validation"]
        assert (stage / "model/tower.safetensors").read_bytes() == handed_on
    drawn, read = ([row["loss"] for row in read_metrics(path / "metrics.jsonl")[:2]] for path in (stage3, again))
    assert drawn == read
    weights = "model/adapter/adapter_model.safetensors"
    assert (stage3 / weights).read_bytes() == (again / weights).read_bytes()
    assert Corpus.open(corpus).manifest.num_rows == train["max_steps"] * train["global_batch"]
    assert "| windows of other sides | 0 |" in Path(corpus, DATASHEET).read_text()
