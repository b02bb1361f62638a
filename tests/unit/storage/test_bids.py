"""BIDS data sets, written by mne-bids."""

from pathlib import Path

import mne
import mne_bids
import numpy as np
import pytest
from pydantic import ValidationError

from storage.errors import InputError
from storage.ingest import ingest_recording
from storage.labels import LabelSet
from storage.readers import BidsSource
from storage.signal import SignalConfig
from storage.store import create_store

LABELS = LabelSet(name="two", names=("rest", "task"))
EVENTS = {"kind": "annotations", "label_of": {"rest": "rest", "sum": "task"}, "lasts": "duration"}


def write(
    root: Path, subject: str, task: str, run: str | None = None, session: str | None = None, fmt: str = "BrainVision"
) -> Path:
    info = mne.create_info(["Fp1", "T3", "Oz", "HEOG"], 100.0, ["eeg", "eeg", "eeg", "eog"])
    raw = mne.io.RawArray(np.random.default_rng(0).normal(0, 2e-5, (4, 1000)), info, verbose="error")
    raw.info["line_freq"] = 50
    raw.info["bads"] = ["T3"]
    raw.set_meas_date(1_000_000_000)
    raw.set_annotations(mne.Annotations([1.0, 5.0], [2.0, 3.0], ["rest", "sum"], orig_time=raw.info["meas_date"]))
    path = mne_bids.BIDSPath(subject=subject, session=session, task=task, run=run, datatype="eeg", root=root)
    made = mne_bids.write_raw_bids(
        raw, path, format=fmt, allow_preload=True, anonymize={"daysback": 30_000}, overwrite=True, verbose="error"
    )
    return Path(made.fpath)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("bids")
    for subject in ("01", "02"):
        write(root, subject, "rest", run="1")
        write(root, subject, "sum", run="1")
    write(root, "02", "sum", run="2", fmt="EDF")
    return root


@pytest.fixture
def root(written: Path, tmp_path: Path) -> Path:
    import shutil

    return Path(shutil.copytree(written, tmp_path / "bids"))


def source(root: Path, **options: object) -> BidsSource:
    return BidsSource(root=root, labels=LABELS, **options)


def test_entities_name_recordings(written: Path) -> None:
    refs = source(written).list_recordings()
    assert [(ref.recording_id, ref.position) for ref in refs] == [
        ("sub-01_task-rest_run-1", 1),
        ("sub-01_task-sum_run-1", 2),
        ("sub-02_task-rest_run-1", 1),
        ("sub-02_task-sum_run-1", 2),
        ("sub-02_task-sum_run-2", 3),
    ]
    assert {ref.subject for ref in refs} == {"01", "02"}
    assert len(source(written, tasks=["rest"]).list_recordings()) == 2


def test_events_bads_and_types(written: Path) -> None:
    files = source(written, labels_from=EVENTS)
    for ref in files.list_recordings():
        raw = files.read(ref)
        assert (raw.channels, raw.bads, raw.sfreq_hz) == (("FP1", "T7", "OZ"), ("T7",), 100.0)
        assert [(trial.start, trial.stop, trial.label) for trial in raw.trials] == [
            (100, 300, "rest"),
            (500, 800, "task"),
        ]
        assert raw.pieces[0].std() == pytest.approx(20, rel=0.1)
        beside = {path.name.rsplit("_", 1)[1] for path in files.files_of(ref)}
        assert {"channels.tsv", "events.tsv", "eeg.json"} <= beside


def test_other_labels(root: Path) -> None:
    by_task = source(root, labels_from={"kind": "task", "label_of": {"sum": "task"}})
    found = [by_task.read(ref).trials[0].label for ref in by_task.list_recordings()]
    assert found == ["rest", "task", "rest", "task", "task"]
    (root / "participants.tsv").write_text("participant_id\tgroup\nsub-01\tctl\nsub-02\tpat\n")
    by_group = source(
        root, labels_from={"kind": "participants", "column": "group", "label_of": {"ctl": "rest", "pat": "task"}}
    )
    found = [by_group.read(ref).trials[0].label for ref in by_group.list_recordings()]
    assert found == ["rest"] * 2 + ["task"] * 3
    assert root / "participants.tsv" in by_group.files_of(by_group.list_recordings()[0])
    for column, problem in (("age", "lacks the column age"), ("participant_id", "label 'sub-01' is not in")):
        wrong = source(root, labels_from={"kind": "participants", "column": column})
        with pytest.raises(InputError, match=problem):
            wrong.read(wrong.list_recordings()[0])
    unlabelled = source(root)
    assert unlabelled.read(unlabelled.list_recordings()[0]).trials[0].label is None


def test_it_goes_into_a_store_without_a_date(root: Path, tmp_path: Path) -> None:
    files = source(root, labels_from=EVENTS)
    store = create_store(tmp_path / "store", dataset="d", label_set=LABELS)
    for ref in files.list_recordings():
        assert ingest_recording(store, files, ref, SignalConfig(sfreq_hz=100))
    assert len(store.trials) == 10
    assert not store.trials.duplicated(["subject", "session", "trial"]).any()


@pytest.mark.parametrize(
    ("suffix", "problem"),
    [
        ("channels.tsv", r"channel table \(\*_channels.tsv\) is missing"),
        ("eeg.json", "its description .* is missing"),
        ("events.tsv", "its event table .* is missing"),
        ("eeg.eeg", "its companion .*_eeg.eeg is missing"),
        ("eeg.vmrk", "its companion .*_eeg.vmrk is missing"),
    ],
)
def test_what_is_missing_is_named(suffix: str, problem: str, root: Path) -> None:
    (root / "sub-01" / "eeg" / f"sub-01_task-rest_run-1_{suffix}").unlink()
    files = source(root, labels_from=EVENTS)
    with pytest.raises(InputError, match=problem):
        files.read(files.list_recordings()[0])


def test_damage(root: Path, tmp_path: Path) -> None:
    files = source(root, labels_from=EVENTS)
    ref = files.list_recordings()[0]
    table = root / "sub-01" / "eeg" / "sub-01_task-rest_run-1_channels.tsv"
    table.write_text(table.read_text().replace("Oz", "Pz"))
    with pytest.raises(InputError, match=r"channels\.tsv: lists Pz, which .* does not hold"):
        files.read(ref)
    (root / "dataset_description.json").unlink()
    with pytest.raises(InputError, match=r"has no dataset_description\.json"):
        files.list_recordings()
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "dataset_description.json").write_text('{"Name": "x", "BIDSVersion": "1.9.0"}')
    with pytest.raises(InputError, match="holds no EEG recording"):
        source(tmp_path / "empty").list_recordings()


def test_labels_outside_the_set(written: Path) -> None:
    with pytest.raises(ValidationError, match="'joy' is not one of"):
        source(written, labels_from={"kind": "task", "label_of": {"sum": "joy"}})


def test_runs_are_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    for run in ("10", "2", "1"):
        write(tmp_path, "01", "rest", run=run)
    files = source(tmp_path)
    refs = files.list_recordings()
    assert [ref.recording_id.rsplit("-", 1)[1] for ref in refs] == ["1", "2", "10"]
    assert [files.read(ref).trials[0].trial for ref in refs] == [1, 10_001, 20_001]


@pytest.mark.parametrize(
    "name", ["copy-of_sub-01_task-rest_eeg.edf", "run-1_sub-01_task-rest_eeg.edf", "sub-01_task-rest-2_eeg.edf"]
)
def test_a_stray_name_is_one_line(name: str, root: Path) -> None:
    (root / "sub-01" / "eeg" / name).write_bytes(b"x")
    with pytest.raises(InputError, match=f"{name}: is not named as BIDS requires .* Rename it") as caught:
        source(root).list_recordings()
    assert "\n" not in str(caught.value)


def test_a_participants_table_in_another_encoding(root: Path) -> None:
    (root / "participants.tsv").write_bytes(b"participant_id\tgroup\nsub-01\tJos\xe9\n")
    files = source(root, labels_from={"kind": "participants", "column": "group"})
    with pytest.raises(InputError, match=r"participants\.tsv: label 'José' is not in"):
        files.read(files.list_recordings()[0])
