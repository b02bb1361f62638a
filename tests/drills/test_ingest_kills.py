"""Ingest killed with -9 at 20 random moments, as a plain process and as a Ray job; logs go to runs/drills."""

import contextlib
import itertools
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import mne
import numpy as np
import psutil
import pytest
import yaml

from cluster.batch.ingest import IngestPlan
from cluster.start import local
from cluster.start.local import ClusterInfo
from storage.ingest import ingest_recording
from storage.labels import LabelSet
from storage.layout import LayoutConfig
from storage.places.lock import only_ingest
from storage.readers import FilesSource
from storage.signal import SignalConfig
from storage.store import Store, create_store, open_store
from tests import ingest_loop
from tests.kills import ROOT, References, kill_at_random_moments, start

pytestmark = [pytest.mark.integration, pytest.mark.slow]
KILLS, OLD_HZ, NEW_HZ = int(os.environ.get("DRILL_FAULTS", 20)), 100.0, 80.0
AT_WORK_SECONDS = 3.0
PATTERN = r"(?P<subject>s\d)_(?P<label>rest|task)\.fif"
LABELS = LabelSet(name="two", names=("rest", "task"))


def write_log(name: str, lines: list[str]) -> None:
    folder = ROOT / "runs/drills"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.log").write_text("\n".join(lines) + "\n")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("source")
    ingest_loop.write_sources(root, count=6, seconds=400)
    return root


@pytest.mark.parametrize("replaces", [False, True])
def test_a_plain_process(replaces: bool, source: Path, tmp_path: Path) -> None:
    references = References(
        {rate: ingest_loop.ingest(source, str(tmp_path / f"{rate}"), rate) for rate in (OLD_HZ, NEW_HZ)}
    )
    place, rates = tmp_path / "store", itertools.cycle([NEW_HZ, OLD_HZ] if replaces else [OLD_HZ])
    wanted = next(rates)
    if replaces:
        ingest_loop.ingest(source, str(place), OLD_HZ)

    def begin() -> subprocess.Popen[str]:
        nonlocal wanted
        if place.exists() and open_store(place).root.exists("index/recordings.parquet"):
            if {info.sfreq_hz for info in open_store(place).recordings.values()} == {wanted}:
                references.check_finished(place, wanted)
                wanted = next(rates)
            if not replaces:
                shutil.rmtree(place)
        return start(source, str(place), wanted, by_permit=True)

    check: Callable[[], object] = lambda: dict(references.check(str(place), complete=replaces))  # noqa: E731
    log = kill_at_random_moments(begin, check, KILLS, seed=11, recordings=6)
    assert start(source, str(place), wanted).wait() == 0
    references.check_finished(place, wanted)
    write_log("ingest-replaced-killed" if replaces else "ingest-killed", [*log, "at the end: as undisturbed"])


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClusterInfo]:
    state = tmp_path_factory.mktemp("state") / "cluster"
    try:
        yield local.up(state, num_cpus=2, root=ROOT)
    finally:
        local.down(state)


def write_recordings(root: Path) -> IngestPlan:
    root.mkdir()
    info = mne.create_info(list(ingest_loop.CHANNELS), 100.0, "eeg")
    for number in range(6):
        noise = np.random.default_rng(number).normal(0, 2e-5, (len(ingest_loop.CHANNELS), 60_000))
        path = root / f"s{number}_{'rest' if number % 2 else 'task'}.fif"
        mne.io.RawArray(noise, info, verbose="error").save(path, verbose="error")
    source = FilesSource(root=root, pattern=PATTERN, labels=LABELS)
    return IngestPlan(str(root), "made up", source, SignalConfig(sfreq_hz=OLD_HZ), LayoutConfig())


def undisturbed(plan: IngestPlan, place: Path, sfreq_hz: float) -> Store:
    store = create_store(place, dataset=plan.dataset, label_set=LABELS)
    for ref in plan.source.list_recordings():
        ingest_recording(store, plan.source, ref, SignalConfig(sfreq_hz=sfreq_hz), plan.layout)
    store.write_index()
    return store


def ingest_workers(cluster: ClusterInfo) -> list[psutil.Process]:
    found = []
    for process in local.processes(cluster):
        try:
            if "ray::_ingest_one" in " ".join(process.cmdline()):
                found.append(process)
        except psutil.Error:
            continue
    return found


def test_a_ray_job(cluster: ClusterInfo, tmp_path: Path) -> None:
    """Its driver is killed, or its workers, or both; the store is replaced back and forth all the while."""
    plan, place, rng = write_recordings(tmp_path / "recordings"), tmp_path / "store", random.Random(12)
    references = References({rate: undisturbed(plan, tmp_path / f"{rate}", rate) for rate in (OLD_HZ, NEW_HZ)})
    spec = tmp_path / "ingest.yaml"
    source = {"format": "files", "root": "recordings", "pattern": PATTERN, "labels": LABELS.model_dump(mode="json")}
    content = {"kind": "ingest", "dataset": "made up", "store": "store", "source": source, "resources": {"workers": 2}}
    spec.write_text(yaml.safe_dump({**content, "run": "run"}))

    def job(sfreq_hz: float) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "jobs", str(spec), f"signal.sfreq_hz={sfreq_hz}", f"run=run-{sfreq_hz}"]
        environment = {**os.environ, **cluster.env(), "E2LLM_ROOT": str(tmp_path)}
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        while "recordings into" not in (line := process.stdout.readline()):
            assert line, "the job ended before it began"
        return process

    log, wanted, killed = list[str](), OLD_HZ, 0
    assert job(OLD_HZ).wait() == 0
    references.check_finished(place, OLD_HZ)
    check: Callable[[], dict[float, int]] = lambda: dict(references.check(str(place), complete=True))  # noqa: E731
    while killed < KILLS:
        if check() == {wanted: 6}:
            wanted = NEW_HZ if wanted == OLD_HZ else OLD_HZ
        moment, whom = rng.uniform(0, AT_WORK_SECONDS), rng.choice(["driver", "worker", "both"])
        process = job(wanted)
        while process.poll() is None and not ingest_workers(cluster):
            time.sleep(0.02)
        time.sleep(moment)
        workers = ingest_workers(cluster)
        if whom != "driver":
            for worker in workers:
                with contextlib.suppress(psutil.NoSuchProcess):
                    worker.kill()
        if whom != "worker":
            process.kill()
        process.wait()
        with only_ingest(open_store(place).root):  # which waits for workers that the driver left behind
            state = check()
        hit = process.returncode != 0 or bool(workers and whom != "driver")
        killed += hit
        log.append(f"{whom} {'killed' if hit else 'had ended'} after {moment:.2f} s, {len(workers)} at work: {state}")
    assert job(wanted).wait() == 0
    references.check_finished(place, wanted)
    write_log("ingest-ray-killed", [*log, "at the end: as undisturbed"])
