import shutil
from pathlib import Path

import mne
import numpy as np
import pytest
from pydantic import ValidationError

from storage.errors import InputError
from storage.ingest import ingest_digest, ingest_recording
from storage.labels import LabelSet
from storage.places.folder import Folder
from storage.readers import FilesSource, SeedVIISource
from storage.signal import SignalConfig
from storage.signal.prepare import resample
from storage.store import Store, create_store, open_store
from storage.windows import WindowConfig, Windows

CONFIG = SignalConfig(sfreq_hz=100)


def recording(folder: Path, name: str, *, seconds: int = 4, seed: int = 0, names: str = "T3 Cz Oz") -> Path:
    """A FIF file with personal data in its header."""
    info = mne.create_info([*names.split(), "ECG ECG"], 200.0, "eeg")
    volts = np.random.default_rng(seed).normal(0, 2e-5, (len(info.ch_names), 200 * seconds))
    raw = mne.io.RawArray(volts, info, verbose="error")
    raw.info["subject_info"] = {"last_name": "Roe", "first_name": "Jane", "his_id": "HX-4711", "sex": 2}
    folder.mkdir(exist_ok=True)
    raw.save(folder / name, overwrite=True, verbose="error", fmt="double")
    return folder / name


def source(folder: Path, **options: object) -> FilesSource:
    given_options = {
        "pattern": r"(?P<subject>\w+)_(?P<label>[ab])_raw\.fif",
        "labels": LabelSet(name="two", names=("rest", "task")),
        "label_of": {"a": "task", "b": "rest"},
    }
    return FilesSource(root=folder, **(given_options | options))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for subject in ("s1", "s2"):
        for seed, label in enumerate("ab"):
            recording(tmp_path / "raw", f"{subject}_{label}_raw.fif", seed=seed)
    return tmp_path / "raw"


@pytest.fixture
def target(tmp_path: Path) -> Store:
    return create_store(tmp_path / "st", dataset="d", label_set=LabelSet(name="two", names=("rest", "task")))


def ingest_all(store: Store, source: FilesSource, config: SignalConfig = CONFIG) -> list[bool]:
    return [ingest_recording(store, source, ref, config) for ref in source.list_recordings()]


def test_files_become_recordings(folder: Path, target: Store) -> None:
    assert ingest_all(target, source(folder)) == [True] * 4
    info = target.recordings["sub-s1_ses-1_run-1"]
    assert (info.channels, info.sfreq_hz, info.n_times) == (("T7", "CZ", "OZ"), 100.0, 400)
    assert info.provenance["dropped_channels"] == ["ECG ECG"]
    assert info.provenance["source_sfreq_hz"] == 200.0


def test_position_is_the_order_of_recording_and_not_the_label(folder: Path, target: Store) -> None:
    ingest_all(target, source(folder))
    table = target.trials.set_index("recording_id")
    assert table.loc["sub-s2_ses-1_run-1", ["position", "trial", "label"]].tolist() == [1, 1, "task"]
    assert table.loc["sub-s2_ses-1_run-2", ["position", "trial", "label"]].tolist() == [10_001, 10_001, "rest"]
    assert not target.trials.duplicated(["subject", "session", "trial"]).any()


def store_folder(store: Store) -> Path:
    assert isinstance(store.root, Folder)
    return store.root.path


def test_ingest_is_idempotent(folder: Path, target: Store) -> None:
    ingest_all(target, source(folder))
    files = {path: path.stat().st_mtime_ns for path in store_folder(target).rglob("*") if path.is_file()}
    assert ingest_all(open_store(target.root), source(folder)) == [False] * 4
    assert {path: path.stat().st_mtime_ns for path in store_folder(target).rglob("*") if path.is_file()} == files


@pytest.mark.parametrize("change", ["signal", "rate", "labels", "crop"])
def test_what_changed_is_ingested_again(change: str, folder: Path, target: Store) -> None:
    ingest_all(target, source(folder))
    config, again = CONFIG, source(folder)
    expected = [True] * 4
    if change == "signal":
        recording(folder, "s2_a_raw.fif", seed=9)
        expected = [False, False, True, False]
    elif change == "rate":
        config = SignalConfig(sfreq_hz=128)
    elif change == "labels":
        again = source(folder, label_of={"a": "rest", "b": "task"})
    else:
        again = source(folder, crop_seconds={"rest": (1.0, 3.0)})
    assert ingest_all(target, again, config) == expected
    assert ingest_all(target, again, config) == [False] * 4
    if change == "crop":
        assert [target.recordings[name].n_times for name in ("sub-s1_ses-1_run-1", "sub-s1_ses-1_run-2")] == [400, 200]


def test_a_moved_source_is_the_same_source(folder: Path, target: Store, tmp_path: Path) -> None:
    ingest_all(target, source(folder))
    moved = shutil.move(folder, tmp_path / "elsewhere")
    assert ingest_all(target, source(Path(moved))) == [False] * 4


def test_changed_continuous_labels_are_ingested_again(twin_root: Path, tmp_path: Path) -> None:
    for part in ("EEG_preprocessed", "continuous_labels"):
        (tmp_path / part).mkdir()
        shutil.copy(twin_root / part / "1.mat", tmp_path / part / "1.mat")
    shutil.copy(twin_root / "emotion_label_and_stimuli_order.xlsx", tmp_path)
    seed_vii = SeedVIISource(root=tmp_path)
    ref = seed_vii.list_recordings()[0]
    before = ingest_digest(seed_vii, ref, CONFIG)
    shutil.copy(twin_root / "continuous_labels" / "2.mat", tmp_path / "continuous_labels" / "1.mat")
    assert ingest_digest(seed_vii, ref, CONFIG) != before


def test_the_twin_goes_in_as_seed_vii(twin_root: Path, tmp_path: Path) -> None:
    seed_vii = SeedVIISource(root=twin_root)
    store = create_store(tmp_path / "s", dataset="twin", label_set=seed_vii.label_set)
    ref = seed_vii.list_recordings()[2]
    assert ingest_recording(store, seed_vii, ref, SignalConfig())
    assert (store.trials["stop"] - store.trials["start"]).tolist() == [1024] * 20
    assert store.trials["clip"].tolist() == list(range(41, 61))
    assert all(len(trial.intensity or ()) == 1 for trial in store.recordings[ref.recording_id].trials)
    raw = seed_vii.read(ref).pieces[7]
    got = Windows(store, WindowConfig()).read([7])[0]
    assert np.abs(got - resample(raw, 200.0, 256.0)).max() <= 0.05 + 1e-3


def test_nothing_personal_reaches_the_store(folder: Path, target: Store) -> None:
    ingest_all(target, source(folder))
    files = [path for path in store_folder(target).rglob("*") if path.is_file()]
    assert files
    for path in files:
        for word in (b"Roe", b"Jane", b"HX-4711"):
            assert word not in path.read_bytes()


def test_a_killed_ingest_goes_on(folder: Path, target: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    refs = source(folder).list_recordings()
    ingest_recording(target, source(folder), refs[0], CONFIG)

    def killed(*args: object, **named: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("storage.store.write_signal", killed)
        with pytest.raises(KeyboardInterrupt):
            ingest_recording(target, source(folder), refs[1], CONFIG)
    assert list(open_store(target.root).recordings) == ["sub-s1_ses-1_run-1"]
    assert ingest_all(target, source(folder)) == [False, True, True, True]


@pytest.mark.parametrize("lost_at", [1, 2])
def test_a_store_that_is_another_ones_by_then_is_left_as_it_is(lost_at: int, folder: Path, target: Store) -> None:
    """Asked before anything is removed, and before the description is written."""
    refs, calls = source(folder).list_recordings(), []
    ingest_recording(target, source(folder), refs[0], CONFIG)
    before = target.find(refs[0].recording_id)

    def confirm() -> None:
        calls.append(None)
        if len(calls) == lost_at:
            raise InputError("store", "another has it", "Nothing to do.")

    with pytest.raises(InputError, match="another has it"):
        ingest_recording(target, source(folder), refs[0], SignalConfig(sfreq_hz=50), confirm=confirm)
    assert before is not None
    assert target.find(refs[0].recording_id) == before
    assert target.root.exists(f"{target.signal_key(before)}/zarr.json")


def test_file_refusals(folder: Path, target: Store, tmp_path: Path) -> None:
    files = source(folder)
    refs = files.list_recordings()
    with pytest.raises(InputError, match=r"no file matches 'x(.*)'. Correct `source.root`"):
        source(folder, pattern="x(?P<subject>.)").list_recordings()
    with pytest.raises(InputError, match=r"label 'b' is not in .*Correct `source.label_of`"):
        source(folder, label_of={"a": "task"}).read(refs[1])
    with pytest.raises(InputError, match=r"ends before 9\.0 s.*crop_seconds` of task"):
        source(folder, crop_seconds={"task": (0.0, 9.0)}).read(refs[0])
    recording(folder / "again", "s1_a_raw.fif")
    with pytest.raises(InputError, match=r"has the same name as .*s1_a_raw\.fif"):
        files.list_recordings()
    shutil.rmtree(folder / "again")
    refs[0].path.write_bytes(b"not a recording")
    with pytest.raises(InputError, match="MNE cannot read it"):
        ingest_recording(target, files, refs[0], CONFIG)
    refs[0].path.unlink()
    with pytest.raises(InputError, match="no such file"):
        ingest_recording(target, files, refs[0], CONFIG)
    assert not target.recordings


def test_the_name_of_a_file_does_not_name_its_recording(tmp_path: Path) -> None:
    recording(tmp_path / "raw", "s1 Jane Roe_raw.fif")
    (ref,) = source(tmp_path / "raw", pattern=r"(?P<subject>s1) .*_raw\.fif").list_recordings()
    assert ref.recording_id == "sub-s1_ses-1_run-1"


def test_volts_mistaken_for_microvolts_are_noticed(tmp_path: Path) -> None:
    path = recording(tmp_path, "s1_a_raw.fif")
    raw = mne.io.read_raw(path, preload=True, verbose="error")
    raw.apply_function(lambda signal: signal * 1e6, picks="all")
    raw.save(path, overwrite=True, verbose="error")
    with pytest.raises(
        InputError, match=r"a typical channel varies by \S+e\+07 µV within a second, about 1,000,000 times too large"
    ):
        source(tmp_path).read(source(tmp_path).list_recordings()[0])


@pytest.mark.parametrize(
    "options",
    [
        {"pattern": "(?P<label>a)"},
        {"pattern": "(?P<subject>"},
        {"label_of": {"a": "joy"}},
        {"crop_seconds": {"joy": (0, 1)}},
        {"crop_seconds": {"rest": (3, 1)}},
        {"crop_seconds": {"rest": (-1, 1)}},
        {"roots": "x"},
    ],
)
def test_bad_file_sources(options: dict, tmp_path: Path) -> None:
    with pytest.raises(ValidationError):
        source(tmp_path, **options)
