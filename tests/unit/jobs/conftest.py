"""A folder in the place of the repository: small stores, small models, and the job entry point."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from storage.labels import LabelSet
from storage.store import RecordingInfo, Store, Trial, create_store

LABELS = LabelSet(name="two", names=("rest", "task"))
SFREQ_HZ = 256.0
CHANNELS = ("FP1", "FP2", "OZ")
SUBJECTS = ("s1", "s2", "s3")

Refused = Callable[..., str]


@pytest.fixture(scope="session")
def make_store() -> Callable[..., Store]:
    return write_store


@pytest.fixture(scope="session")
def make_model() -> Callable[..., Path]:
    return write_model


def write_store(root: Path, *, labels: Sequence[str | None] = ("rest", "task")) -> Store:
    """Write a store of three subjects, whose trials of 4 s have the given labels."""
    store = create_store(root, dataset="made up", label_set=LABELS)
    n_times = int(4 * SFREQ_HZ)
    trials = tuple(
        Trial(trial=place, position=place, clip=place, start=(place - 1) * n_times, stop=place * n_times, label=label)
        for place, label in enumerate(labels, start=1)
    )
    for subject in SUBJECTS:
        info = RecordingInfo(
            recording_id=subject,
            subject=subject,
            session="1",
            channels=CHANNELS,
            sfreq_hz=SFREQ_HZ,
            n_times=trials[-1].stop,
            source_sha256="0" * 64,
            ingest_digest="0" * 64,
            provenance={},
            trials=trials,
        )
        signal = np.random.default_rng(0).normal(0, 20, (len(CHANNELS), info.n_times))
        store.write_recording(info, signal)
    return store


def write_model(folder: Path, *, llm: str | None = None) -> Path:
    """Write a folder that passes for a model directory until its weights are read."""
    folder.mkdir(parents=True)
    (folder / "part.safetensors").write_bytes(b"not read by the checks")
    source = None if llm is None else {"kind": "hub", "name": llm, "revision": None, "digest": "0" * 64}
    eeg = {"channels": CHANNELS, "sfreq_hz": SFREQ_HZ}
    (folder / "config.json").write_text(json.dumps({"llm_source": source, "eeg": eeg}))
    return folder


def contents(root: Path) -> dict[Path, bytes | None]:
    """Return every file with its bytes and every folder, to compare before and after."""
    return {path: path.read_bytes() if path.is_file() else None for path in sorted(root.rglob("*"))}


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folder that relative paths of a spec start from; no job gets as far as Ray."""
    folder = tmp_path / "root"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.delenv("E2LLM_ROOT", raising=False)

    def too_late(*args: object, **kwargs: object) -> None:
        raise AssertionError("Ray was started before the input was refused")

    monkeypatch.setattr("cluster.session.ray_session", too_late)
    return folder


@pytest.fixture
def refused(root: Path, capsys: pytest.CaptureFixture[str]) -> Refused:
    """Run a spec that must be refused; returns the one line, and checks that nothing was changed."""
    from jobs.__main__ import main

    def refused(text: str, *overrides: str) -> str:
        (root / "job.yaml").write_text(text)
        before = contents(root)
        with pytest.raises(SystemExit) as ended:
            main(["job.yaml", *overrides])
        assert ended.value.code == 2
        assert contents(root) == before
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("error: ")
        return line.removeprefix("error: ").replace(str(root), "ROOT")

    return refused
