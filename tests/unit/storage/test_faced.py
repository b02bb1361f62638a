"""FACED: published facts, and the reader against pickles in the authors' layout."""

import pickle
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from storage.datasets.faced import CHANNELS, CLIP_LABELS, FILE_CHANNELS
from storage.errors import InputError
from storage.ingest import ingest_recording
from storage.labels import FACED
from storage.readers import FacedSource
from storage.signal import SignalConfig
from storage.signal.channels import canonical_channel
from storage.store import create_store

ORDER = [*range(17, 29), *range(13, 17), *range(12, 0, -1)]


@pytest.fixture(scope="module")
def signals() -> np.ndarray:
    """28 clips of 20 µV."""
    return np.random.default_rng(0).normal(0, 20, (28, 32, 7500))


@pytest.fixture
def root(signals: np.ndarray, tmp_path: Path) -> Path:
    folder = tmp_path / "FACED" / "Processed_data"
    folder.mkdir(parents=True)
    (folder / "sub007.pkl").write_bytes(pickle.dumps(signals))
    return tmp_path / "FACED"


def remember(root: Path, order: list[int], folder: str = "Data") -> Path:
    """Write the order of presentation as the authors do: structures with the clip in the third field."""
    fields = [("score", object), ("rt", object), ("vid", object)]
    rows = np.array([[(np.zeros((1, 12)), 1.5, float(clip))] for clip in order], dtype=fields)
    path = root / folder / "sub007" / "After_remarks.mat"
    path.parent.mkdir(parents=True)
    savemat(path, {"After_remark": rows})
    return path


def test_published_facts() -> None:
    assert Counter(CLIP_LABELS) == {label: 4 if label == "neutral" else 3 for label in FACED.names}
    assert [CLIP_LABELS[clip - 1] for clip in (1, 12, 13, 16, 17, 28)] == [
        *("anger", "sadness", "neutral", "neutral", "amusement", "tenderness")
    ]
    assert len(CLIP_LABELS) == 28
    assert len(FILE_CHANNELS) == len(set(FILE_CHANNELS)) == 32
    assert [canonical_channel(name) for name in FILE_CHANNELS] == [*CHANNELS, None, None]


def test_clips_come_in_the_order_shown(root: Path, signals: np.ndarray) -> None:
    remarks = remember(root, ORDER)
    source = FacedSource(root=root)
    (ref,) = source.list_recordings()
    assert (ref.recording_id, ref.subject, ref.session) == ("sub-007", "007", "1")
    assert source.files_of(ref) == (ref.path, remarks)
    recording = source.read(ref)
    assert recording.channels == CHANNELS
    assert [span.clip for span in recording.trials] == ORDER
    assert [span.position for span in recording.trials] == list(range(1, 29))
    assert [span.label for span in recording.trials] == [CLIP_LABELS[clip - 1] for clip in ORDER]
    for span in recording.trials:
        assert np.array_equal(recording.pieces[span.piece], signals[span.clip - 1, :30])
    assert recording.provenance["positions"] == "order of presentation"
    assert recording.provenance["dropped_channels"] == ["A2", "A1"]


def test_without_the_order_a_clips_number_is_its_position(root: Path) -> None:
    source = FacedSource(root=root)
    (ref,) = source.list_recordings()
    recording = source.read(ref)
    assert [(span.clip, span.position) for span in recording.trials] == [(k, k) for k in range(1, 29)]
    assert "order of presentation unknown" in str(recording.provenance["positions"])
    assert source.files_of(ref) == (ref.path,)


def test_ingest(root: Path, tmp_path: Path) -> None:
    source = FacedSource(root=root)
    (ref,) = source.list_recordings()
    store = create_store(tmp_path / "st", dataset="FACED", label_set=source.label_set)
    config = SignalConfig(sfreq_hz=100)
    assert ingest_recording(store, source, ref, config)
    assert not ingest_recording(store, source, ref, config)
    remember(root, ORDER, folder="After_remarks")
    assert ingest_recording(store, source, ref, config), "the order has come to be known"
    info = store.find("sub-007")
    assert info is not None
    assert [trial.clip for trial in info.trials] == ORDER
    assert [trial.start for trial in info.trials] == [3000 * k for k in range(28)]
    assert info.n_times == 28 * 3000


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        (
            lambda array: array.transpose(1, 0, 2),
            r"holds float64 \(32, 28, 7500\), expected an array of \(28, 32, 7500\)",
        ),
        (lambda array: {"data": array[:2]}, "holds dict, expected"),
        (lambda array: array.astype(complex), "holds complex128"),
        (lambda array: array * 1e-6, "about 1,000,000 times too small for EEG"),
        (Path, "holds pathlib"),
    ],
)
def test_other_contents_are_named(spoil, problem: str, root: Path, signals: np.ndarray) -> None:
    source = FacedSource(root=root)
    (ref,) = source.list_recordings()
    ref.path.write_bytes(pickle.dumps(Path("a") if spoil is Path else spoil(signals)))
    with pytest.raises(InputError, match=problem) as caught:
        source.read(ref)
    assert "\n" not in str(caught.value)


def test_missing_and_cut_files_are_named(root: Path) -> None:
    source = FacedSource(root=root)
    (ref,) = source.list_recordings()
    ref.path.write_bytes(ref.path.read_bytes()[:1_000_000])
    with pytest.raises(InputError, match=r"sub007\.pkl: is not a complete pickle"):
        source.read(ref)
    ref.path.rename(ref.path.with_name("seven.pkl"))
    with pytest.raises(InputError, match="no such file"):
        source.read(ref)
    with pytest.raises(InputError, match=r"is not named sub000\.pkl"):
        source.list_recordings()
    with pytest.raises(InputError, match="no Processed_data"):
        FacedSource(root=root / "nowhere").list_recordings()


@pytest.mark.parametrize("order", [ORDER[:27], [*ORDER[:27], 17], [0, *ORDER[1:]]])
def test_an_order_that_is_none_is_refused(order: list[int], root: Path) -> None:
    remember(root, order)
    source = FacedSource(root=root)
    with pytest.raises(InputError, match=r"After_remarks\.mat: lists \d+ clips that are not 1 to 28 once each"):
        source.read(source.list_recordings()[0])


def test_a_broken_order_is_refused(root: Path) -> None:
    remember(root, ORDER).write_bytes(b"MATLAB 5.0 no more")
    source = FacedSource(root=root)
    with pytest.raises(InputError, match=r"After_remarks\.mat: holds no order of clips"):
        source.read(source.list_recordings()[0])
