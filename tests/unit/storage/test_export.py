"""What leaves the store is what is in it, and nothing that names a person, a day or a machine."""

import errno
import json
import re
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import mne
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from jobs.cli import app
from storage.errors import InputError
from storage.export import FORMATS, export_store, to_epochs, to_raw
from storage.export.folder import RECORD
from storage.export.mne_objects import description_of
from storage.ingest import ingest_recording
from storage.labels import LabelSet
from storage.readers.bids import BidsSource
from storage.readers.files import FilesSource
from storage.readers.trials import AnnotationLabels
from storage.signal import SignalConfig
from storage.store import Store, create_store, open_store
from storage.windows import WindowConfig, Windows

LABELS = LabelSet(name="two", names=("rest", "task"))
CHANNELS = ("FP1", "FCZ", "CB1", "OZ")
HALF_STEP_V = 0.05e-6
WINDOWS = WindowConfig(window_seconds=2, stride_seconds=1.5)
SUBJECTS = {"r0": "s1", "r1": "s1", "r2": "s-2"}


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory, describe: Callable, noise: Callable) -> Store:
    """Three recordings: int16, int16 with an offset of 150 mV, float32; each with a break and two trials."""
    store = create_store(tmp_path_factory.mktemp("filled") / "s", dataset="made up", label_set=LABELS)
    for number, (precision, offset_uv) in enumerate([("int16", 0.0), ("int16", 150_000.0), ("float32", 7000.0)]):
        info = describe(f"r{number}", lengths=(500, 300), channels=CHANNELS, subject=SUBJECTS[f"r{number}"])
        info = info.model_copy(update={"precision": precision, "breaks": (500,), "session": str(number)})
        store.write_recording(info, noise(info, number) + offset_uv)
    return store


def stored_uv(store: Store, name: str) -> np.ndarray:
    import zarr

    info = store.recordings[name]
    steps = np.asarray(zarr.open_array(store.root.zarr(store.signal_key(info)), mode="r")[:], dtype=np.float64)
    return steps * np.array(info.scale_uv)[:, None] + np.array(info.offset_uv)[:, None]


@pytest.mark.parametrize("name", ["r0", "r1", "r2"])
def test_a_raw_holds_what_the_store_holds(name: str, filled: Store) -> None:
    raw = to_raw(filled, name)
    assert np.abs(raw.get_data() - stored_uv(filled, name) * 1e-6).max() < 1e-12
    assert raw.ch_names == ["Fp1", "FCz", "CB1", "Oz"]
    assert set(raw.get_channel_types()) == {"eeg"}
    notes = raw.annotations
    assert notes.description.tolist() == ["task", "BAD boundary", "EDGE boundary", "rest"]
    assert notes.onset.tolist() == [0, 5, 5, 5]
    assert notes.duration.tolist() == [5, 0, 0, 3]
    assert [dict(extra) for extra in notes.extras][::3] == [
        {"trial": number, "position": number, "clip": number} for number in (1, 2)
    ]
    assert raw.info["meas_date"] is None
    assert raw.info["subject_info"] is None
    raw.set_montage("colin27_1005", on_missing="ignore")
    assert np.isfinite(raw.get_montage().get_positions()["ch_pos"]["FCz"]).all()


@settings(max_examples=15)
@given(
    scale=st.floats(1e-3, 1e5),
    offset=st.floats(-1e6, 1e6),
    precision=st.sampled_from(["int16", "float32"]),
    codec=st.sampled_from(["lz4", "none"]),
    at_once=st.sampled_from([7, 300, 1000]),
)
def test_any_range_is_given_exactly(
    scale: float, offset: float, precision: str, codec: str, at_once: int, describe: Callable, noise: Callable
) -> None:
    info = describe(lengths=(300,))
    layout = info.layout.model_copy(update={"codec": codec})
    info = info.model_copy(update={"precision": precision, "layout": layout})
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        store = create_store(folder, dataset="d", label_set=LABELS)
        store.write_recording(info, noise(info) * scale + offset)
        patch.setattr("storage.export.mne_objects._READ_AT_ONCE", at_once)
        assert np.abs(to_raw(store, "a").get_data() - stored_uv(store, "a") * 1e-6).max() < 1e-12


def test_filters_and_bads_of_the_provenance_are_told(store: Store, describe: Callable, noise: Callable) -> None:
    told = {
        "a": ({"highpass_hz": 0.1, "lowpass_hz": 100.0, "step_2": "band-pass 0.5-45 Hz (mne)"}, (0.5, 45.0), []),
        "b": ({"lowpass_hz": 1000.0, "step_1": "band-pass -30 Hz (mne)", "bads_flat": ["OZ"]}, (0.0, 30.0), ["Oz"]),
        "c": ({"bads_marked": ["FP1", "OZ"], "bads_left": ["FP1"]}, (0.0, 50.0), ["Fp1"]),
    }
    for name, (provenance, band, bads) in told.items():
        store.write_recording(describe(name).model_copy(update={"provenance": provenance}), noise(describe(name)))
        info = to_raw(store, name).info
        assert (info["highpass"], info["lowpass"]) == band
        assert info["bads"] == bads


def test_labels_that_mne_would_leave_out_are_told_apart() -> None:
    assert [description_of(label) for label in ("happy", "bad mood", "Edge of tears", None)] == [
        "happy",
        "label/bad mood",
        "label/Edge of tears",
        "unlabelled",
    ]


def test_epochs_are_the_windows(filled: Store) -> None:
    windows = Windows(filled, WINDOWS)
    epochs = to_epochs(filled, windows)
    assert np.abs(epochs.get_data() * 1e6 - windows.read(range(len(windows)))).max() < 1e-6
    pd.testing.assert_frame_equal(epochs.metadata.reset_index(drop=True), windows.table, check_dtype=False)
    assert epochs.event_id == {"rest": 1, "task": 2}
    assert (epochs.events[:, 2] == windows.table["label_id"] + 1).all()
    assert len(np.unique(epochs.events[:, 0])) == len(windows)
    whole = to_raw(filled, "r1").get_data()
    alone = to_epochs(filled, Windows(filled, WINDOWS, filled.trials[filled.trials["recording_id"] == "r1"]))
    for sample, data in zip(alone.events[:, 0], alone.get_data(), strict=True):
        assert np.abs(data - whole[:, sample : sample + 200]).max() < 2e-8  # float32 at 150 mV


def test_epochs_of_trials_that_overlap(store: Store, describe: Callable, noise: Callable) -> None:
    info = describe(lengths=(400, 400))
    second = info.trials[1].model_copy(update={"start": 0, "stop": 400, "label": None})
    store.write_recording(info.model_copy(update={"trials": (info.trials[0], second)}), noise(info))
    epochs = to_epochs(store, Windows(store, WINDOWS))
    assert epochs.events[:, 0].tolist() == list(range(4))
    assert epochs.event_id == {"task": 2, "unlabelled": 3}


def test_normalised_windows_are_no_epochs(filled: Store) -> None:
    with pytest.raises(InputError, match="not in volts"):
        to_epochs(filled, Windows(filled, WindowConfig(normalisation="window-zscore")))


def read_back(format: str, out: Path, name: str) -> mne.io.BaseRaw:
    if format == "fif":
        return mne.io.read_raw_fif(out / f"{name}_raw.fif", verbose="error")
    if format == "edf":
        return mne.io.read_raw_edf(out / f"{name}.edf", verbose="error")
    if format == "braindecode":
        return mne.io.read_raw_fif(out / name[1:] / f"{name[1:]}-raw.fif", verbose="error")
    import mne_bids

    path = mne_bids.BIDSPath(
        subject=SUBJECTS[name].replace("-", ""), session=name[1:], task="madeup", run="01", datatype="eeg", root=out
    )
    return mne_bids.read_raw_bids(path, verbose="error")


@pytest.mark.parametrize("format", ["fif", "edf", "bids", "braindecode"])
def test_files_hold_what_the_store_holds(format: str, filled: Store, tmp_path: Path) -> None:
    outcomes = export_store(filled, tmp_path, format)
    assert {outcome.state for outcome in outcomes} == {"written"}
    for name in filled.recordings:
        raw, again = to_raw(filled, name), read_back(format, tmp_path, name)
        assert again.ch_names == raw.ch_names
        assert again.info["sfreq"] == 100
        assert np.abs(again.get_data() - raw.get_data()).max() < HALF_STEP_V
        assert again.annotations.description.tolist() == raw.annotations.description.tolist()
        assert np.abs(again.annotations.onset - raw.annotations.onset).max() < 1e-6
        assert np.abs(again.annotations.duration - raw.annotations.duration).max() < 1e-6


@pytest.mark.parametrize("format", ["fif", "edf", "bids"])
def test_the_project_s_own_readers_take_them_back(format: str, filled: Store, tmp_path: Path) -> None:
    export_store(filled, tmp_path / "out", format, subjects=["s1"])
    found = AnnotationLabels(label_of={"rest": "rest", "task": "task"}, lasts="duration")
    source = (
        BidsSource(root=tmp_path / "out", labels=LABELS, labels_from=found)
        if format == "bids"
        else FilesSource(
            root=tmp_path / "out", pattern=r"r(?P<subject>\d).*\.(fif|edf)", labels=LABELS, labels_from=found
        )
    )
    again = create_store(tmp_path / "again", dataset="again", label_set=LABELS)
    for ref in source.list_recordings():
        ingest_recording(again, source, ref, SignalConfig(sfreq_hz=100))
    assert len(again.recordings) == 2
    for name, back in zip(["r0", "r1"], again.recordings, strict=True):
        info, original = again.recordings[back], filled.recordings[name]
        assert info.channels == CHANNELS
        assert np.abs(stored_uv(again, back) - stored_uv(filled, name)).max() <= 0.1 + 1e-6
        assert [(trial.start, trial.stop, trial.label) for trial in info.trials] == [
            (trial.start, trial.stop, trial.label) for trial in original.trials
        ]


def test_epochs_files(filled: Store, tmp_path: Path) -> None:
    export_store(filled, tmp_path, "epochs", windows=WINDOWS)
    for name in filled.recordings:
        windows = Windows(filled, WINDOWS, filled.trials[filled.trials["recording_id"] == name])
        again = mne.read_epochs(tmp_path / f"{name}-epo.fif", verbose="error")
        truth = windows.read(range(len(windows)))
        assert np.abs(again.get_data() * 1e6 - truth).max() <= np.abs(truth).max() * 2**-23
        assert again.metadata["start"].tolist() == windows.table["start"].tolist()
        assert set(again.metadata["recording_id"]) == {name}


def load_as_braindecode(path: Path) -> list[tuple[pd.Series, mne.BaseEpochs]]:
    """Take the steps of `braindecode.datautil.load_concat_dataset` and `WindowsDataset`, with their file names."""
    loaded = []
    for number in sorted((entry.name for entry in path.iterdir()), key=int):
        folder = path / number
        epochs = mne.read_epochs(folder / f"{number}-epo.fif", verbose="error")
        served = dict(json.loads((folder / "window_kwargs.json").read_text()))["WindowsDataset"]
        assert served == {"targets_from": "metadata", "last_target_only": True}
        assert json.loads((folder / "target_name.json").read_text())["target_name"] is None
        assert not (folder / f"{number}-raw.fif").exists()
        loaded.append((pd.read_json(folder / "description.json", typ="series"), epochs))
    return loaded


def test_braindecode_s_folder(filled: Store, tmp_path: Path) -> None:
    export_store(filled, tmp_path / "out", "braindecode", windows=WINDOWS, subjects=["s1"])
    datasets = load_as_braindecode(tmp_path / "out")
    assert [description["recording_id"] for description, _ in datasets] == ["r0", "r1"]
    for description, epochs in datasets:
        assert description["subject"] == "s1"
        assert description["session"] == description["recording_id"][1:]
        rows = filled.trials[filled.trials["recording_id"] == description["recording_id"]]
        table = Windows(filled, WINDOWS, rows).table
        assert epochs.metadata["target"].tolist() == table["label_id"].tolist()
        assert epochs.metadata["i_start_in_trial"].tolist() == table["start"].tolist()
        assert epochs.metadata["i_stop_in_trial"].tolist() == table["stop"].tolist()
        assert epochs.metadata["i_window_in_trial"].tolist() == [0, 1, 2, 0]


def test_bids_says_who_was_exported_and_what_the_events_are(filled: Store, tmp_path: Path) -> None:
    export_store(filled, tmp_path, "bids", subjects=["s-2"])
    (tmp_path / "README").write_text("mine")
    export_store(filled, tmp_path, "bids")
    assert (tmp_path / "README").read_text() == "mine"
    participants = pd.read_csv(tmp_path / "participants.tsv", sep="\t")
    assert participants["participant_id"].tolist() == ["sub-s1", "sub-s2"]
    assert json.loads((tmp_path / "dataset_description.json").read_text())["Name"] == "made up"
    (events,) = tmp_path.glob("sub-s2/**/*_events.tsv")
    table = pd.read_csv(events, sep="\t")
    trials = table[table["trial_type"].isin(LABELS.names)]
    assert trials["value"].tolist() == [2, 1]
    assert trials["trial"].tolist() == trials["clip"].tolist() == trials["position"].tolist() == [1, 2]
    assert {"trial", "clip", "position"} <= set(json.loads(events.with_suffix(".json").read_text()))
    (sidecar,) = tmp_path.glob("sub-s2/**/*_eeg.json")
    assert json.loads(sidecar.read_text())["Manufacturer"] == "n/a"


@pytest.mark.parametrize(("dataset", "subjects"), [("d", ("a-b", "ab")), ("d", ("--", "x"))])
def test_bids_refuses_names_that_it_cannot_tell_apart(
    dataset: str, subjects: tuple[str, str], store: Store, tmp_path: Path, describe: Callable, noise: Callable
) -> None:
    for name, subject in zip("ab", subjects, strict=True):
        store.write_recording(describe(name, subject=subject), noise(describe(name)))
    with pytest.raises(InputError, match="letters and digits only"):
        export_store(store, tmp_path / "out", "bids")


@pytest.mark.parametrize("format", FORMATS)
def test_nothing_names_a_person_a_day_or_a_machine(
    format: str, store: Store, tmp_path: Path, describe: Callable, noise: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file with a patient goes through ingest and export, on a machine whose network address is known."""
    raw = mne.io.RawArray(
        noise(describe()) * 1e-6, mne.create_info(["Fp1", "Fp2", "Oz"], 100.0, "eeg"), verbose="error"
    )
    raw.set_meas_date(1_234_567_890)
    raw.info["subject_info"] = {"last_name": "Doe", "first_name": "Jane", "his_id": "P-4711", "birthday": None}
    raw.info["experimenter"] = "Dr Who"
    (tmp_path / "in").mkdir()
    raw.save(tmp_path / "in" / "s1_raw.fif", verbose="error")
    address = 0x1234ABCD5678
    monkeypatch.setattr("uuid.getnode", lambda: address)
    source = FilesSource(root=tmp_path / "in", pattern=r"(?P<subject>s\d)_raw\.fif", labels=LABELS)
    for ref in source.list_recordings():
        ingest_recording(store, source, ref, SignalConfig(sfreq_hz=100))
    (outcome,) = export_store(store, tmp_path / "out", format)
    assert outcome.state == "written"
    octets = address.to_bytes(6, "big")
    secrets = [b"Doe", b"Jane", b"4711", b"Who", b"2009", octets, octets[::-1], (1_234_567_890).to_bytes(4, "big")]
    files = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    for path in files:
        content = path.read_bytes()
        if path.suffix == ".fif":
            assert mne.io.show_fiff(path)
            assert np.array(mne._fiff.write.get_machid(), dtype=">i4").tobytes() not in content
        assert not [secret for secret in secrets if secret in content], path
    dated = [path for path in files if path.suffix != ".eeg" and re.search(rb"20[12]\d-\d\d-\d\d", path.read_bytes())]
    assert not dated
    if format == "fif":
        assert mne.io.read_raw_fif(files[0].parent / outcome.target, verbose="error").info["meas_date"] is None
    if format == "edf":
        header = (tmp_path / "out" / outcome.target).read_bytes()[8:176]
        assert header.split() == b"X X X X Startdate X X X X 01.01.85".split()  # EDF's words for unknown


@pytest.mark.parametrize("format", FORMATS)
def test_an_export_is_continued_not_repeated(
    format: str, filled: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second file fails; the next run keeps the first and writes the others."""
    from storage.export import folder

    publish, calls = folder.ExportFolder.publish, []

    def failing(self: folder.ExportFolder, staging: Path, last: str) -> None:
        calls.append(last)
        if len([name for name in calls if name != RECORD]) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        publish(self, staging, last)

    with monkeypatch.context() as patch:
        patch.setattr(folder.ExportFolder, "publish", failing)
        with pytest.raises(InputError, match=r"No space left on device.*finished files are kept"):
            export_store(filled, tmp_path, format)
    assert not (tmp_path / ".e2llm-staging").exists()
    (tmp_path / ".e2llm-staging").mkdir()  # as a kill leaves it
    (tmp_path / ".e2llm-staging" / "half").touch()
    first = next(name for name in calls if name != RECORD)
    entry = tmp_path / first
    before = entry.stat().st_mtime_ns
    states = {outcome.target: outcome.state for outcome in export_store(filled, tmp_path, format)}
    assert states.pop(first) == "present"
    assert set(states.values()) == {"written"}
    assert entry.stat().st_mtime_ns == before
    assert {outcome.state for outcome in export_store(filled, tmp_path, format)} == {"present"}
    assert not (tmp_path / ".e2llm-staging").exists()
    if format == "bids":
        assert len((tmp_path / "participants.tsv").read_text().splitlines()) == 3


def test_the_trial_table_names_the_files_that_are_there(filled: Store, tmp_path: Path) -> None:
    export_store(filled, tmp_path, "fif", subjects=["s-2"])
    assert pd.read_csv(tmp_path / "trials.csv")["file"].tolist() == ["r2_raw.fif"] * 2
    export_store(filled, tmp_path, "fif", subjects=["s1"])
    table = pd.read_csv(tmp_path / "trials.csv")
    assert sorted(table["file"].unique()) == ["r0_raw.fif", "r1_raw.fif", "r2_raw.fif"]
    assert table["label"].tolist() == filled.trials["label"].tolist()


@pytest.mark.parametrize("format", FORMATS)
def test_foreign_folders_are_left_alone(format: str, filled: Store, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "letter.txt").write_text("dear")
    with pytest.raises(InputError, match=r"other files than this export's \(letter\.txt\)"):
        export_store(filled, tmp_path / "home", format)
    assert [path.name for path in (tmp_path / "home").iterdir()] == ["letter.txt"]
    with pytest.raises(InputError, match="cannot be written"):
        export_store(filled, tmp_path / "home" / "letter.txt", format)
    with pytest.raises(InputError, match="is inside the store"):
        export_store(filled, filled.root.path / "recordings", format)
    with pytest.raises(InputError, match="goes to a folder"):
        export_store(filled, "s3://bucket/x", format)


def test_one_folder_holds_one_export(filled: Store, tmp_path: Path, describe: Callable, noise: Callable) -> None:
    for format in ("epochs", "braindecode"):
        out = tmp_path / format
        export_store(filled, out, format, windows=WINDOWS)
        with pytest.raises(InputError, match="another windows"):
            export_store(filled, out, format, windows=WindowConfig(window_seconds=1))
    with pytest.raises(InputError, match="another format"):
        export_store(filled, tmp_path / "epochs", "fif")
    other = create_store(tmp_path / "other", dataset="made up", label_set=LABELS)
    other.write_recording(describe(), noise(describe()))
    with pytest.raises(InputError, match="another store"):
        export_store(other, tmp_path / "epochs", "epochs", windows=WINDOWS)


def test_a_folder_in_use_is_refused(filled: Store, tmp_path: Path) -> None:
    def second(_: object) -> None:
        with pytest.raises(InputError, match="another export is writing"):
            export_store(filled, tmp_path, "edf")

    assert len(export_store(filled, tmp_path, "edf", report=second)) == 3


def test_unlabelled_stores_are_exported(store: Store, tmp_path: Path, describe: Callable, noise: Callable) -> None:
    info = describe(lengths=(500, 100))
    bare = tuple(trial.model_copy(update={"label": None}) for trial in info.trials)
    store.write_recording(info.model_copy(update={"trials": bare}), noise(info))
    for format in FORMATS:
        assert [outcome.state for outcome in export_store(store, tmp_path / format, format)] == ["written"]
    assert set(to_raw(store, "a").annotations.description) == {"unlabelled"}
    assert mne.read_epochs(tmp_path / "epochs" / "a-epo.fif", verbose="error").event_id == {"unlabelled": 3}
    (events,) = (tmp_path / "bids").glob("**/*_events.tsv")
    assert set(pd.read_csv(events, sep="\t")["trial_type"]) == {"unlabelled"}


def test_recordings_without_a_window_are_named(filled: Store, tmp_path: Path) -> None:
    long = WindowConfig(window_seconds=6)
    for format in ("epochs", "braindecode"):
        states = [outcome.state for outcome in export_store(filled, tmp_path / format, format, windows=long)]
        assert states == ["no window"] * 3


def test_what_cannot_be_exported_is_refused(
    filled: Store, store: Store, tmp_path: Path, describe: Callable, noise: Callable
) -> None:
    with pytest.raises(InputError, match=r"has no subject 'nobody'\. It has s-2, s1"):
        export_store(filled, tmp_path / "x", "fif", subjects=["nobody"])
    with pytest.raises(InputError, match="holds whole recordings"):
        export_store(filled, tmp_path / "x", "bids", windows=WINDOWS)
    with pytest.raises(InputError, match="has no recording nothing"):
        to_raw(filled, "nothing")
    with pytest.raises(InputError, match="holds no recording"):
        export_store(store, tmp_path / "x", "fif")
    assert not (tmp_path / "x").exists()
    odd = describe(sfreq_hz=100.5)
    store.write_recording(odd, noise(odd))
    with pytest.raises(InputError, match=r"sampling rate of 100\.5 Hz"):
        export_store(store, tmp_path / "x", "edf")
    assert not list((tmp_path / "x").glob("*.edf"))


@pytest.mark.parametrize("harm", ["flip", "remove"])
def test_damage_is_an_error_never_silence(
    harm: str, store: Store, tmp_path: Path, describe: Callable, noise: Callable
) -> None:
    store.write_recording(describe(), noise(describe()))
    (shard,) = (path for path in store.root.path.rglob("signal-*/c/0/0"))
    if harm == "flip":
        content = bytearray(shard.read_bytes())
        content[100] ^= 1
        shard.write_bytes(content)
    else:
        shard.unlink()
    with pytest.raises(InputError, match=r"recording a: samples are missing or damaged \(.*(checksum|missing)"):
        export_store(open_store(store.root), tmp_path / "out", "fif")
    assert not list((tmp_path / "out").glob("*.fif"))


def run(*words: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["export", *map(str, words)])
    return result.exit_code, result.output


def test_the_command(filled: Store, tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = (filled.root, out, "--format", "epochs", "--window-seconds", 2)
    assert run(*words, "--subject", "s1") == (
        0,
        f"r0-epo.fif: written\nr1-epo.fif: written\n{out}: 2 written\n",
    )
    status, text = run(*words)
    assert status == 0
    assert text.endswith(f"{out}: 2 present, 1 written\n")
    assert len(mne.read_epochs(out / "r2-epo.fif", verbose="error")) == 3  # 2 s after 2 s: the stride is the length
    for wrong, problem in (
        ((filled.root, out, "--format", "fif"), "another format"),
        ((filled.root, tmp_path / "x", "--format", "fif", "--subject", "9"), "has no subject '9'"),
        ((filled.root, tmp_path / "x", "--format", "epochs", "--stride-seconds", 1), "Give --window-seconds"),
        ((tmp_path / "nowhere", tmp_path / "x", "--format", "fif"), "no EEG store here"),
    ):
        status, text = run(*wrong)
        assert status == 2
        assert text.startswith("error: ")
        assert problem in text
        assert text.count("\n") == 1
