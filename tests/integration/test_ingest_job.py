"""The ingest job on Ray: bad recordings among good ones, dying workers, again and again into one store."""

import os
import signal
import time
from pathlib import Path

import mne
import numpy as np
import pytest
import yaml

from cluster.batch.ingest import REFUSED, IngestPlan, ingest
from cluster.resources import Resources
from jobs.__main__ import main
from storage.damage import verify
from storage.errors import InputError
from storage.labels import LabelSet
from storage.layout import LayoutConfig
from storage.places.lock import only_ingest
from storage.readers import FilesSource
from storage.readers.base import RawRecording, RecordingRef
from storage.signal import SignalConfig
from storage.store import open_store
from tests.ingest_loop import ArraySource, write_sources

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.usefixtures("private_ray")]
PATTERN = r"(?P<subject>s\d)_(?P<label>rest|task)\.(fif|edf)"
LABELS = LabelSet(name="two", names=("rest", "task"))
NUM_GOOD = 4
S1 = "sub-s1_ses-1_run-1"


class TroubledSource(ArraySource):
    """Kills the process that reads r1, fails on r2 with a name in its text, and notes who reads when."""

    def read(self, ref: RecordingRef) -> RawRecording:
        with (self.root / "log").open("a") as log:
            log.write(f"{ref.recording_id} {time.time()} ")
            log.flush()
            if ref.recording_id == "r1":
                log.write("died\n")
                log.flush()
                os.kill(os.getpid(), signal.SIGKILL)
            if ref.recording_id == "r2":
                raise KeyError("Jane Doe, born 1970")
        time.sleep(0.3)
        return super().read(ref)


class WatchedSource(ArraySource):
    """Notes when each recording is read."""

    def read(self, ref: RecordingRef) -> RawRecording:
        began = time.time()
        time.sleep(0.4)
        (self.root / f"{ref.recording_id}.times").write_text(f"{began} {time.time()}")
        return super().read(ref)


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    """Good files, and a web page with the name of one."""
    root = tmp_path / "recordings"
    root.mkdir()
    for number in range(NUM_GOOD):
        write_fif(root / f"s{number}_{'rest' if number % 2 else 'task'}.fif", seed=number)
    (root / "s9_rest.edf").write_text("<html>404</html>")
    return root


def write_fif(path: Path, seed: int) -> None:
    noise = np.random.default_rng(seed).normal(0, 2e-5, (3, 2000))
    info = mne.create_info(["Fp1", "Fp2", "Oz"], 100.0, "eeg")
    mne.io.RawArray(noise, info, verbose="error").save(path, overwrite=True, verbose="error")


def plan_of(root: Path, store: Path | str, **changes: object) -> IngestPlan:
    source = FilesSource(root=root, pattern=PATTERN, labels=LABELS)
    fields = {"dataset": "made up", "signal": SignalConfig(sfreq_hz=100), "layout": LayoutConfig(), "source": source}
    return IngestPlan(store=str(store), **{**fields, **changes})  # type: ignore[arg-type]


def test_a_bad_file_does_not_stop_the_rest(recordings: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    store, run = tmp_path / "store", tmp_path / "run"
    with pytest.raises(InputError, match="1 of 5 recordings refused, the rest is in the store") as met:
        ingest(plan_of(recordings, store), Resources(workers=2), run)
    assert "\n" not in str(met.value)
    (line,) = (run / REFUSED).read_text().splitlines()
    assert "s9_rest.edf" in line
    assert len(open_store(store).recordings) == NUM_GOOD
    said = capsys.readouterr().out
    assert "[ingest] 5/5  eta 0" in said
    assert f"[ingest] refused: {line}" in said
    assert f"[ingest] {NUM_GOOD} written, 0 unchanged, 1 refused" in said

    write_fif(recordings / "s0_task.fif", seed=77)  # changed
    (recordings / "s9_rest.edf").unlink()
    (recordings / "s1_rest.fif").unlink()
    ingest(plan_of(recordings, store), Resources(workers=2), run)
    said = capsys.readouterr().out
    assert "[ingest] 1 written, 2 unchanged, 0 refused" in said
    assert f"1 recordings that the source does not have were left as they are (prune=true removes them): {S1}" in said
    assert not (run / REFUSED).exists()
    assert S1 in open_store(store).recordings

    ingest(plan_of(recordings, store, prune=True), Resources(), run)
    assert f"1 recordings that the source does not have were removed: {S1}" in capsys.readouterr().out
    assert list(open_store(store).recordings) == [f"sub-s{number}_ses-1_run-1" for number in (0, 2, 3)]
    assert (store / "index/recordings.parquet").exists()


def test_workers_that_die_and_fail(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    root, store, run = tmp_path / "source", tmp_path / "store", tmp_path / "run"
    write_sources(root, count=5, seconds=20)
    with pytest.raises(InputError, match="2 of 5 recordings refused"):
        ingest(plan_of(root, store, source=TroubledSource(root=root)), Resources(workers=2), run)
    assert list(open_store(store).recordings) == ["r0", "r3", "r4"]
    assert (root / "log").read_text().count("died") == 3
    refused = (run / REFUSED).read_text()
    assert "r1.npy: its worker died 3 times (WorkerCrashedError)" in refused
    assert "r2.npy: r2 failed unexpectedly (KeyError at test_ingest_job.py:" in refused
    assert "Jane" not in refused + capsys.readouterr().out
    assert {path.name for path in (store / "recordings").iterdir()} == {"zarr.json", "r0", "r3", "r4"}


def test_no_more_workers_than_asked_for(tmp_path: Path) -> None:
    root = tmp_path / "source"
    write_sources(root, count=6, seconds=20)
    plan = plan_of(root, tmp_path / "store", source=WatchedSource(root=root))
    ingest(plan, Resources(workers=2, cpus_per_worker=0.25), tmp_path / "run")
    times = [tuple(map(float, path.read_text().split())) for path in root.glob("*.times")]
    together = [sum(began <= moment < ended for began, ended in times) for moment, _ in times]
    assert len(times) == 6
    assert max(together) <= 2


def test_damaged_recordings_are_repaired(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    root, store = tmp_path / "source", tmp_path / "store"
    write_sources(root, count=3, seconds=20)
    plan = plan_of(root, store, source=ArraySource(root=root))
    ingest(plan, Resources(), tmp_path / "run")
    shard = next((store / "recordings/r1").rglob("c/0/0"))
    shard.write_bytes(shard.read_bytes()[:-1000])
    assert [name for name, found in verify(open_store(store)) if found] == ["r1"]
    capsys.readouterr()
    for said in ("1 written, 2 unchanged", "0 written, 3 unchanged"):
        ingest(plan, Resources(), tmp_path / "run")
        assert said in capsys.readouterr().out
        assert not [name for name, found in verify(open_store(store)) if found]


@pytest.mark.parametrize("place", ["file/store", "s3://key:secret@bucket/x"])
def test_a_bad_place_is_refused_before_any_task(place: str, tmp_path: Path) -> None:
    root = tmp_path / "source"
    write_sources(root, count=2, seconds=20)
    (tmp_path / "file").write_bytes(b"")
    target = place if "://" in place else tmp_path / place
    with pytest.raises(InputError):
        ingest(plan_of(root, target, source=TroubledSource(root=root)), Resources(), tmp_path / "run")
    assert not (root / "log").exists()


def test_a_locked_store_is_refused_before_any_task(tmp_path: Path) -> None:
    root = tmp_path / "source"
    write_sources(root, count=2, seconds=20)
    plan = plan_of(root, tmp_path / "store", source=ArraySource(root=root))
    ingest(plan, Resources(), tmp_path / "run")
    troubled = plan_of(root, tmp_path / "store", source=TroubledSource(root=root))
    with only_ingest(open_store(tmp_path / "store").root), pytest.raises(InputError, match="another ingest"):
        ingest(troubled, Resources(), tmp_path / "run")
    assert not (root / "log").exists()


def test_exit_statuses(recordings: Path, tmp_path: Path, connected, monkeypatch, capsys) -> None:
    spec = tmp_path / "ingest.yaml"
    content = {
        "kind": "ingest",
        "run": "run",
        "dataset": "made up",
        "store": "store",
        "source": {"format": "files", "root": "recordings", "pattern": PATTERN, "labels": LABELS.model_dump()},
        "signal": {"sfreq_hz": 100},
        "resources": {"workers": 2},
    }
    spec.write_text(yaml.safe_dump(content))
    monkeypatch.setenv("E2LLM_ROOT", str(tmp_path))
    with pytest.raises(SystemExit) as ended:
        main([str(spec)])
    assert ended.value.code == 2
    said = capsys.readouterr().err
    (line,) = [line for line in said.splitlines() if line.startswith("error:")]
    assert "1 of 5 recordings refused" in line
    assert "Traceback" not in said
    assert not (tmp_path / "run/DONE.json").exists()
    (recordings / "s9_rest.edf").unlink()
    write_fif(recordings / "s8_rest.fif", seed=8)
    main([str(spec)])
    assert f"[ingest] 1 written, {NUM_GOOD} unchanged, 0 refused" in capsys.readouterr().out
    assert (tmp_path / "run/DONE.json").exists()
