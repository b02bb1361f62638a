"""The features job on a real Ray: killed with -9 in the middle, refused by a damaged block, and finished each time."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from cluster.features import compute_features
from cluster.plans import FeaturesPlan
from cluster.session import Resources, ray_session
from e2llm_core.encoders.initialisation import fourier_start
from e2llm_core.tower import EEGSettings, EEGTower, load_tower, save_tower
from storage.errors import InputError
from storage.features import COMPLETE, FEATURES, VALUES, Features
from storage.labels import LabelSet
from storage.store import RecordingInfo, Trial, create_store, open_store
from storage.windows import WindowConfig, Windows

pytestmark = [pytest.mark.integration, pytest.mark.slow]
ROOT = Path(__file__).resolve().parents[2]
JOB = Path(__file__).with_name("features_job.py")
CHANNELS = ("FP1", "FP2", "C3", "C4", "O1", "O2")
NUM_TRIALS, CLIP = 40, 1024
NUM_BLOCKS = 2 * NUM_TRIALS * 4


@pytest.fixture(scope="module")
def plan(tmp_path_factory) -> FeaturesPlan:
    folder = tmp_path_factory.mktemp("inputs")
    labels = LabelSet(name="two", names=("rest", "task"))
    store = create_store(folder / "store.zarr", dataset="synthetic", label_set=labels)
    trials = tuple(
        Trial(trial=n + 1, position=n + 1, clip=n + 1, start=n * CLIP, stop=(n + 1) * CLIP, label=None)
        for n in range(NUM_TRIALS)
    )
    for subject in ("s0", "s1"):
        info = RecordingInfo(
            recording_id=subject,
            subject=subject,
            session="1",
            channels=CHANNELS,
            sfreq_hz=256.0,
            n_times=NUM_TRIALS * CLIP,
            source_sha256="0" * 64,
            ingest_digest="1" * 64,
            provenance={},
            trials=trials,
        )
        signal_uv = np.random.default_rng(0).normal(0, 20, (len(CHANNELS), NUM_TRIALS * CLIP))
        store.write_recording(info, signal_uv)
    store.write_index()
    torch.manual_seed(0)
    encoder = {"name": "eegpt", "dim": 16, "depth": 1, "num_heads": 2}
    eeg = EEGSettings(CHANNELS, window_seconds=1.0)
    tower = EEGTower.build(eeg, encoder=encoder, temporal={"dim": 16, "depth": 1, "num_heads": 2})
    fourier_start(tower.encoder)
    save_tower(tower, folder / "tower")
    windows = WindowConfig(window_seconds=1.0, stride_seconds=1.0)
    return FeaturesPlan(store=str(folder / "store.zarr"), windows=windows, model=folder / "tower", variants=2, block=1)


def start(plan: FeaturesPlan, run: Path) -> subprocess.Popen[str]:
    run.mkdir(exist_ok=True)
    (run / "plan.json").write_text(plan.model_dump_json())
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(JOB), str(run / "plan.json"), str(run)]
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def shards(run: Path) -> dict[Path, int]:
    """Blocks that are there, with the time they were written at."""
    return {path: path.stat().st_mtime_ns for path in (run / FEATURES / VALUES).glob("c/*/0/0/0")}


def test_a_killed_job_goes_on_and_so_does_one_with_a_damaged_block(plan, tmp_path, capfd):
    job = start(plan, tmp_path)
    deadline = time.monotonic() + 240
    while len(shards(tmp_path)) < 5:
        assert job.poll() is None, job.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.005)
    os.kill(job.pid, signal.SIGKILL)
    job.wait()
    time.sleep(3)  # its workers end with it
    before = shards(tmp_path)
    assert 5 <= len(before) < NUM_BLOCKS
    with pytest.raises(InputError, match="not complete"):
        Features.open(tmp_path / FEATURES)

    (shard,) = Path(plan.store).glob("recordings/s1/signal-*/c/0/0")
    whole = shard.read_bytes()
    shard.write_bytes(whole[:100] + bytes([whole[100] ^ 1]) + whole[101:])
    with ray_session(ROOT, local=True):
        with pytest.raises(InputError, match="s1"):
            compute_features(plan, tmp_path, Resources(workers=1))
        assert len(before) < len(shards(tmp_path)) < NUM_BLOCKS
        assert not (tmp_path / FEATURES / COMPLETE).exists()
        shard.write_bytes(whole)
        compute_features(plan, tmp_path, Resources(workers=1))
    assert f"of {NUM_BLOCKS} blocks are there" in capfd.readouterr().out
    after = shards(tmp_path)
    assert before.items() <= after.items()
    assert len(after) == NUM_BLOCKS

    windows, ids = Windows(open_store(plan.store), plan.windows), np.array([0, 7, NUM_BLOCKS // 2, NUM_BLOCKS - 1])
    with torch.no_grad():
        expected = load_tower(plan.model)(torch.from_numpy(windows.read(ids))).numpy()
    np.testing.assert_allclose(Features.open(tmp_path / FEATURES).read(ids), expected, atol=1e-5)
