"""SEED-VII's published facts, and the reader against the twin's files."""

import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import openpyxl
import pytest
from scipy.io import loadmat, savemat

from storage.datasets.seed_vii import (
    CLIP_LABELS,
    NUM_SESSIONS,
    TRIALS_PER_SESSION,
    clip_of,
    fold_of,
    num_continuous_labels,
    session_of,
)
from storage.errors import InputError
from storage.labels import SEED_VII
from storage.readers import SeedVIISource

OFFICIAL_IDS = "4302552034430255203452136631255213663125460155106446015510640216446120021644612 0".replace(" ", "")


def test_the_clip_order_is_the_published_one() -> None:
    assert "".join(str(SEED_VII.id_of(label)) for label in CLIP_LABELS) == OFFICIAL_IDS
    assert Counter(CLIP_LABELS) == {name: 8 if name == "neutral" else 12 for name in SEED_VII.names}


def test_every_session_elicits_five_of_seven_emotions() -> None:
    missing = [
        set(SEED_VII.names) - {CLIP_LABELS[clip - 1] for clip in range(1, 81) if session_of(clip) == session}
        for session in (1, 2, 3, 4)
    ]
    assert missing == [
        {"fear", "surprise"},
        {"happy", "disgust"},
        {"sad", "neutral"},
        {"neutral", "anger"},
    ]


def test_official_folds_are_balanced() -> None:
    for fold in (1, 2, 3, 4):
        clips = [clip for clip in range(1, 81) if fold_of(clip) == fold]
        counts = Counter(CLIP_LABELS[clip - 1] for clip in clips)
        assert counts == {name: 2 if name == "neutral" else 3 for name in SEED_VII.names}
        assert set(Counter(map(session_of, clips)).values()) == {5}


def test_clip_numbers() -> None:
    places = [
        (session, position) for session in range(1, NUM_SESSIONS + 1) for position in range(1, TRIALS_PER_SESSION + 1)
    ]
    assert [clip_of(*place) for place in places] == list(range(1, 81))
    assert all(session_of(clip_of(*place)) == place[0] for place in places)
    assert [num_continuous_labels(seconds * 200) for seconds in (3, 4, 7, 8, 120)] == [0, 1, 1, 2, 30]


@pytest.fixture
def copy(twin_root: Path, tmp_path: Path) -> Path:
    """A copy of the twin's first subject that a test may spoil."""
    for name in ("EEG_preprocessed/1.mat", "continuous_labels/1.mat", "emotion_label_and_stimuli_order.xlsx"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(twin_root / name, tmp_path / name)
    return tmp_path


def test_recordings_are_sessions(twin_root: Path) -> None:
    refs = SeedVIISource(root=twin_root).list_recordings()
    assert [ref.recording_id for ref in refs][:5] == [*(f"sub-01_ses-{k}" for k in (1, 2, 3, 4)), "sub-02_ses-1"]
    assert {(ref.subject, ref.session) for ref in refs} == {(s, k) for s in ("01", "02") for k in "1234"}


def test_a_session_is_read_clip_by_clip(twin_root: Path) -> None:
    source = SeedVIISource(root=twin_root)
    ref = source.list_recordings()[6]
    recording = source.read(ref)
    signals = loadmat(twin_root / "EEG_preprocessed" / "2.mat")
    levels = loadmat(twin_root / "continuous_labels" / "2.mat")
    assert [segment.clip for segment in recording.trials] == list(range(41, 61))
    for position, segment in enumerate(recording.trials, start=1):
        assert segment.position == segment.trial == position
        assert segment.label == CLIP_LABELS[segment.clip - 1]
        assert np.array_equal(recording.pieces[segment.piece], signals[str(segment.clip)])
        assert segment.intensity == tuple(levels[str(segment.clip)][0])
    assert source.files_of(ref) == (ref.path, twin_root / "continuous_labels" / "2.mat")


def test_continuous_labels_may_be_absent(copy: Path) -> None:
    shutil.rmtree(copy / "continuous_labels")
    source = SeedVIISource(root=copy)
    ref = source.list_recordings()[0]
    assert source.read(ref).trials[0].intensity is None
    assert source.files_of(ref) == (ref.path,)


def test_a_workbook_that_differs_is_named_by_its_clip(copy: Path) -> None:
    path = copy / "emotion_label_and_stimuli_order.xlsx"
    book = openpyxl.load_workbook(path)
    book.worksheets[0].cell(row=2, column=13).value = "Happy"
    book.save(path)
    with pytest.raises(InputError, match=r"clip 12 is 'Happy', but was published as 'neutral'\. Use the original"):
        SeedVIISource(root=copy).list_recordings()


def test_missing_or_broken_files_are_named(copy: Path) -> None:
    source = SeedVIISource(root=copy)
    ref = source.list_recordings()[1]
    workbook = copy / "emotion_label_and_stimuli_order.xlsx"
    book = openpyxl.load_workbook(workbook)
    book.worksheets[0].delete_rows(8)
    book.save(workbook)
    with pytest.raises(InputError, match="60 emotion words, expected 80"):
        source.list_recordings()
    workbook.write_bytes(b"PK no workbook")
    with pytest.raises(InputError, match="not an Excel workbook"):
        source.list_recordings()
    workbook.unlink()
    with pytest.raises(InputError, match="workbook is missing"):
        source.list_recordings()
    ref.path.with_name("notes.mat").touch()
    with pytest.raises(InputError, match=r"notes\.mat: is not named after a subject's number"):
        source.list_recordings()
    ref.path.write_bytes(ref.path.read_bytes()[: 20 * 10**6])
    with pytest.raises(InputError, match=r"1\.mat: (has no clip|is not a complete MAT v5 file)"):
        SeedVIISource(root=copy).read(source_ref(copy, 4))
    with pytest.raises(InputError, match="no EEG_preprocessed"):
        SeedVIISource(root=copy / "nowhere").list_recordings()


def source_ref(root: Path, session: int):
    from storage.readers import RecordingRef

    return RecordingRef("r", "01", str(session), root / "EEG_preprocessed" / "1.mat")


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        (lambda clips: clips.pop("7"), "no clip 7"),
        (lambda clips: clips.update({"7": clips["7"][:61]}), r"clip 7: shape \(61, 800\), expected \(62, T\)"),
        (lambda clips: clips.update({"7": "EEG"}), "clip 7: holds <U3, not numbers"),
    ],
)
def test_bad_clips_are_named(spoil, problem: str, tmp_path: Path) -> None:
    path = tmp_path / "EEG_preprocessed" / "1.mat"
    path.parent.mkdir()
    clips: dict[str, object] = {str(clip): np.zeros((62, 800)) for clip in range(1, 21)}
    spoil(clips)
    savemat(path, clips)
    with pytest.raises(InputError, match=problem):
        SeedVIISource(root=tmp_path).read(source_ref(tmp_path, 1))
