"""SEED and SEED-IV: published facts, and the readers against files in the authors' layout."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from storage.datasets.seed import SEED_IV_LABELS, SEED_LABELS, SEED_V_LABELS, SEED_V_STARTS, SEED_V_STOPS
from storage.errors import InputError
from storage.ingest import ingest_recording
from storage.labels import SEED, SEED_IV, SEED_V
from storage.readers import SeedIVSource, SeedSource
from storage.signal import SEED_CHANNELS, SignalConfig
from storage.store import create_store

DATES = ("20131027", "20131030", "20131107")
IV_README = """
session1_label = [1,2,3,0,2,0,0,1,0,1,2,1,1,1,2,3,2,2,3,3,0,3,0,3];
session2_label = [2,1,3,0,0,2,0,2,3,3,2,3,2,0,1,1,2,1,0,3,0,1,3,1];
session3_label = [1,2,2,1,3,3,3,1,1,2,1,0,2,3,3,0,2,3,0,0,2,0,1,0];
"""


def trials(num_trials: int, seed: int = 0, prefix: str = "djc") -> dict[str, object]:
    """Trials of 20 µV, each longer than the one before."""
    rng = np.random.default_rng(seed)
    return {f"{prefix}_eeg{k}": rng.normal(0, 20, (62, 200 + k)) for k in range(1, num_trials + 1)}


@pytest.fixture
def seed_root(tmp_path: Path) -> Path:
    """One subject of SEED, the dates written in another order than they follow."""
    folder = tmp_path / "SEED" / "Preprocessed_EEG"
    folder.mkdir(parents=True)
    for place in (2, 0, 1):
        savemat(folder / f"3_{DATES[place]}.mat", trials(15, seed=place))
    savemat(folder / "label.mat", {"label": np.array([[1, 0, -1, -1, 0, 1, -1, 0, 1, 1, 0, -1, 0, 1, -1]], np.int16)})
    return tmp_path / "SEED"


@pytest.fixture
def seed_iv_root(tmp_path: Path) -> Path:
    """Two subjects of SEED-IV; the second misses a session."""
    root = tmp_path / "SEED-IV"
    for session, subjects in ((1, (1, 10)), (2, (1,)), (3, (1, 10))):
        folder = root / "eeg_raw_data" / str(session)
        folder.mkdir(parents=True)
        for subject in subjects:
            savemat(folder / f"{subject}_2016051{session}.mat", trials(24, seed=session, prefix="cz"))
    (root / "ReadMe.txt").write_text(IV_README)
    return root


def test_published_counts() -> None:
    assert Counter(SEED_LABELS) == dict.fromkeys(SEED.names, 5)
    assert [SEED.names.index(label) - 1 for label in SEED_LABELS] == [1, 0, -1, -1, 0, 1, -1, 0, 1, 1, 0, -1, 0, 1, -1]
    assert [Counter(labels) for labels in SEED_IV_LABELS] == [dict.fromkeys(SEED_IV.names, 6)] * 3
    assert [Counter(labels) for labels in SEED_V_LABELS] == [dict.fromkeys(SEED_V.names, 3)] * 3
    assert "".join(str(SEED_V.id_of(label)) for label in SEED_V_LABELS[2]) == "213044032134120"


def test_published_times_of_seed_v_follow_each_other() -> None:
    for starts, stops in zip(SEED_V_STARTS, SEED_V_STOPS, strict=True):
        assert len(starts) == len(stops) == 15
        ends = [second for pair in zip(starts, stops, strict=True) for second in pair]
        assert ends == sorted(set(ends))
    lengths = [
        sorted(stop - start for start, stop in zip(*pair, strict=True))
        for pair in zip(SEED_V_STARTS, SEED_V_STOPS, strict=True)
    ]
    assert lengths[0] != lengths[1] != lengths[2] != lengths[0]


def test_seed_sessions_are_the_dates_in_order(seed_root: Path) -> None:
    source = SeedSource(root=seed_root)
    refs = source.list_recordings()
    assert [(ref.recording_id, ref.subject, ref.session) for ref in refs] == [
        (f"sub-03_ses-{k}", "03", str(k)) for k in (1, 2, 3)
    ]
    assert [ref.path.stem for ref in refs] == [f"3_{date}" for date in DATES]
    recording = source.read(refs[2])
    expected = trials(15, seed=2)
    assert recording.channels == SEED_CHANNELS
    assert [span.clip for span in recording.trials] == list(range(1, 16))
    assert tuple(span.label for span in recording.trials) == SEED_LABELS
    for span in recording.trials:
        assert np.array_equal(recording.pieces[span.piece], expected[f"djc_eeg{span.clip}"])
        assert (span.start, span.stop) == (0, 200 + span.clip)
    assert not any("djc" in str(value) for value in recording.provenance.values())


def test_seed_iv_numbers_its_clips_through_the_sessions(seed_iv_root: Path) -> None:
    source = SeedIVSource(root=seed_iv_root)
    refs = source.list_recordings()
    assert [ref.recording_id for ref in refs] == [
        *(f"sub-01_ses-{k}" for k in (1, 2, 3)),
        *(f"sub-10_ses-{k}" for k in (1, 3)),
    ]
    recordings = [source.read(ref) for ref in refs[:3]]
    assert [span.clip for recording in recordings for span in recording.trials] == list(range(1, 73))
    assert [tuple(span.label for span in recording.trials) for recording in recordings] == list(SEED_IV_LABELS)
    assert np.array_equal(recordings[2].pieces[23], trials(24, seed=3)["djc_eeg24"])


@pytest.mark.parametrize("kind", ["seed", "seed-iv"])
def test_ingest(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    root = request.getfixturevalue(f"{kind.replace('-', '_')}_root")
    source = SeedSource(root=root) if kind == "seed" else SeedIVSource(root=root)
    store = create_store(tmp_path / "st", dataset=kind, label_set=source.label_set)
    refs = source.list_recordings()
    config = SignalConfig(sfreq_hz=100)
    assert [ingest_recording(store, source, ref, config) for ref in refs] == [True] * len(refs)
    assert not ingest_recording(store, source, refs[0], config)
    info = store.find(refs[2].recording_id)
    assert info is not None
    assert info.channels == SEED_CHANNELS
    assert [trial.label for trial in info.trials] == list(SEED_LABELS if kind == "seed" else SEED_IV_LABELS[2])
    assert [trial.stop - trial.start for trial in info.trials] == [
        -(-(200 + k) // 2) for k in range(1, len(info.trials) + 1)
    ]
    text = info.model_dump_json()
    assert "djc" not in text
    assert "2013" not in text
    assert "2016" not in text


def test_files_that_do_not_fit_are_named(seed_root: Path) -> None:
    folder, source = seed_root / "Preprocessed_EEG", SeedSource(root=seed_root)
    labels = np.array([[1, 0, -1, -1, 0, 1, 1, 0, 1, 1, 0, -1, 0, 1, -1]])
    savemat(folder / "label.mat", {"label": labels})
    with pytest.raises(InputError, match=r"label\.mat: label 7 is 'positive', but was published as 'negative'"):
        source.list_recordings()
    savemat(folder / "label.mat", {"label": labels[:, :14]})
    with pytest.raises(InputError, match="holds 14 labels, 15 were published"):
        source.list_recordings()
    savemat(folder / "label.mat", {"other": labels})
    with pytest.raises(InputError, match="no variable label"):
        source.list_recordings()
    (folder / "label.mat").unlink()
    assert len(source.list_recordings()) == 3
    (folder / "3_20131107.mat").rename(folder / "3 20131107.mat")
    with pytest.raises(InputError, match=r"is not named \{subject\}_\{date\}\.mat"):
        source.list_recordings()
    (folder / "3 20131107.mat").unlink()
    with pytest.raises(InputError, match="subject 3 has 2 files"):
        source.list_recordings()
    with pytest.raises(InputError, match="no Preprocessed_EEG"):
        SeedSource(root=folder).list_recordings()


def test_seed_iv_files_that_do_not_fit_are_named(seed_iv_root: Path) -> None:
    source = SeedIVSource(root=seed_iv_root)
    readme = seed_iv_root / "ReadMe.txt"
    readme.write_text(IV_README.replace("[2,1,3,0", "[2,1,0,0"))
    with pytest.raises(InputError, match=r"session 2 label 3 is 'neutral', but was published as 'happy'"):
        source.list_recordings()
    readme.unlink()
    folder = seed_iv_root / "eeg_raw_data" / "2"
    (folder / "1_20160601.mat").touch()
    with pytest.raises(InputError, match="is a second file of subject 1 in the session"):
        source.list_recordings()
    (folder / "1_20160601.mat").rename(folder / "one.mat")
    with pytest.raises(InputError, match="is not named"):
        source.list_recordings()
    with pytest.raises(InputError, match=r"no eeg_raw_data/\{1,2,3\}"):
        SeedIVSource(root=folder).list_recordings()


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        (lambda file: file.pop("djc_eeg7"), r"has no variable \*_eeg7\. Fetch"),
        (
            lambda file: file.update(djc_eeg16=file["djc_eeg1"]),
            "trial 16 is unexpected or given twice, expected 1 to 15",
        ),
        (lambda file: file.update(abc_eeg2=file["djc_eeg1"]), "trial 2 is unexpected or given twice"),
        (lambda file: file.update(djc_eeg7=file["djc_eeg7"].T), r"clip 7: shape \(207, 62\), expected \(62, T\)"),
        (lambda file: file.update(djc_eeg7=np.zeros((62, 0))), r"clip 7: shape \(62, 0\)"),
        (lambda file: file.update(djc_eeg7="EEG"), r"_20131027\.mat trial 7: holds <U3, not numbers"),
        (lambda file: file.update({k: v * 1e-6 for k, v in file.items()}), "about 1,000,000 times too small for EEG"),
        (
            lambda file: file.update({k: v * 1e-3 for k, v in file.items()}),
            "about 1,000 times too small for EEG",
        ),
    ],
)
def test_bad_trials_are_named(spoil, problem: str, tmp_path: Path) -> None:
    folder = tmp_path / "Preprocessed_EEG"
    folder.mkdir()
    file = trials(15)
    spoil(file)
    for date in DATES:
        savemat(folder / f"1_{date}.mat", file)
    source = SeedSource(root=tmp_path)
    with pytest.raises(InputError, match=problem) as caught:
        source.read(source.list_recordings()[0])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.97, 0.9999])
def test_cut_files_are_refused(share: float, seed_root: Path) -> None:
    source = SeedSource(root=seed_root)
    ref = source.list_recordings()[0]
    ref.path.write_bytes(ref.path.read_bytes()[: int(share * ref.path.stat().st_size)])
    with pytest.raises(
        InputError, match=r"_20131027\.mat: (has no variable|trial .* cannot|is not a complete MAT v5 file)"
    ):
        source.read(ref)
    ref.path.unlink()
    with pytest.raises(InputError, match="no such file"):
        source.read(ref)
