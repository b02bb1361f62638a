"""Small stores, and a small twin on disk."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from storage.labels import LabelSet
from storage.store import RecordingInfo, Store, Trial, create_store
from storage.twin import TwinConfig, write_subject, write_tables

LABELS = LabelSet(name="two", names=("rest", "task"))
SMALL_TWIN = TwinConfig(num_subjects=2, clip_seconds=4)

Describe = Callable[..., RecordingInfo]


def describe(
    name: str = "a",
    *,
    lengths: Sequence[int] = (500,),
    channels: Sequence[str] = ("FP1", "FP2", "OZ"),
    subject: str = "s1",
    session: str = "1",
    sfreq_hz: float = 100.0,
) -> RecordingInfo:
    """Describe a recording whose trials follow each other, their labels alternating."""
    stops = np.cumsum(lengths)
    trials = tuple(
        Trial(
            trial=place,
            position=place,
            clip=place,
            start=int(stop - length),
            stop=int(stop),
            label=LABELS.names[place % 2],
        )
        for place, (length, stop) in enumerate(zip(lengths, stops, strict=True), start=1)
    )
    return RecordingInfo(
        recording_id=name,
        subject=subject,
        session=session,
        channels=tuple(channels),
        sfreq_hz=sfreq_hz,
        n_times=int(stops[-1]),
        source_sha256="0" * 64,
        ingest_digest="0" * 64,
        provenance={},
        trials=trials,
    )


def noise(info: RecordingInfo, seed: int = 0) -> np.ndarray:
    """White noise of 20 µV for a recording."""
    return np.random.default_rng(seed).normal(0, 20, (len(info.channels), info.n_times))


@pytest.fixture(scope="session", name="describe")
def describe_fixture() -> Describe:
    return describe


@pytest.fixture(scope="session", name="noise")
def noise_fixture() -> Callable[..., np.ndarray]:
    return noise


@pytest.fixture
def labels() -> LabelSet:
    return LABELS


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """An empty store."""
    return create_store(tmp_path / "store.zarr", dataset="made up", label_set=LABELS)


@pytest.fixture(scope="session")
def twin_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two subjects of the twin with clips of 4 s, in SEED-VII's layout."""
    root = tmp_path_factory.mktemp("twin")
    write_tables(root, SMALL_TWIN)
    for subject in (1, 2):
        write_subject(root, SMALL_TWIN, subject)
    return root
