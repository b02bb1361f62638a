"""The features job, killed with -9 in the middle, goes on with what is there."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cluster.batch.plans import FeaturesPlan
from e2llm_core.tower.tower import EEGSettings, EEGTower, save_tower
from storage.errors import InputError
from storage.features import FEATURES, VALUES, Features
from storage.windows import WindowConfig
from tests.training_faults import ROOT, make_store

pytestmark = [pytest.mark.integration, pytest.mark.slow]
JOB = Path(__file__).with_name("features_job.py")
CHANNELS = ("FP1", "FP2", "C3", "C4", "O1", "O2")
NUM_TRIALS, CLIP = 40, 1024
NUM_BLOCKS = 4 * NUM_TRIALS * 4


@pytest.fixture
def plan(tmp_path: Path) -> FeaturesPlan:
    make_store(tmp_path / "store.zarr", channels=CHANNELS, trials=NUM_TRIALS, clip=CLIP)
    encoder = {"name": "eegpt", "dim": 16, "depth": 1, "num_heads": 2}
    eeg = EEGSettings(CHANNELS, window_seconds=1.0)
    save_tower(
        EEGTower.build(eeg, encoder=encoder, temporal={"dim": 16, "depth": 1, "num_heads": 2}), tmp_path / "tower"
    )
    windows = WindowConfig(window_seconds=1.0, stride_seconds=1.0)
    return FeaturesPlan(store=str(tmp_path / "store.zarr"), windows=windows, model=tmp_path / "tower", block=1)


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
    return {path: path.stat().st_mtime_ns for path in (run / FEATURES / VALUES).glob("c/*/0/0")}


def test_a_killed_job_goes_on(plan: FeaturesPlan, tmp_path: Path) -> None:
    run = tmp_path / "run"
    job = start(plan, run)
    deadline = time.monotonic() + 240
    while len(shards(run)) < 5:
        assert job.poll() is None, job.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.005)
    os.kill(job.pid, signal.SIGKILL)
    job.wait()
    time.sleep(3)  # its workers end with it
    before = shards(run)
    assert 5 <= len(before) < NUM_BLOCKS
    with pytest.raises(InputError, match="not complete"):
        Features.open(run / FEATURES)

    again = start(plan, run)
    said, _ = again.communicate()
    assert again.returncode == 0, said
    assert f"of {NUM_BLOCKS} blocks are there" in said
    after = shards(run)
    assert before.items() <= after.items()
    assert len(after) == NUM_BLOCKS
    assert Features.open(run / FEATURES).manifest.num_windows == NUM_BLOCKS
