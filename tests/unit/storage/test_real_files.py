"""Files as devices write them."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from pydantic import TypeAdapter

from storage.errors import InputError
from storage.ingest import ingest_digest, ingest_recording
from storage.labels import LabelSet
from storage.readers import AnySource, FilesSource, RawRecording, RecordingRef, Source, read_file
from storage.readers.edf import read_header
from storage.readers.files import companions
from storage.readers.mne_file import ChannelConfig
from storage.signal import SignalConfig
from storage.signal.units import assert_plausible
from storage.store import create_store

LABELS = LabelSet(name="eegmat", names=("rest", "mental_arithmetic"))
EEGMAT_CHANNELS = "FP1 FP2 F3 F4 F7 F8 T7 T8 C3 C4 P7 P8 P3 P4 O1 O2 FZ CZ PZ"
EDF_IDENTITY = slice(8, 168)
"""Bytes of an EDF header: 80 of the patient's identification, 80 of the recording's."""


def eegmat(root: Path) -> FilesSource:
    return FilesSource(
        root=root,
        pattern=r"Subject(?P<subject>\d+)_(?P<label>[12])\.edf",
        labels=LABELS,
        label_of={"1": "rest", "2": "mental_arithmetic"},
        crop_seconds={"rest": (120.0, 180.0), "mental_arithmetic": (0.0, 60.0)},
    )


def test_whole_files_pass(shared_data: Path) -> None:
    for file in ("eegmat/Subject00_1.edf", "bdf/Newtest17-256.bdf", "edf/test.edf", "edf/short_psg.edf"):
        assert read_header(shared_data / file) is not None


def test_eegmat(shared_data: Path) -> None:
    source = eegmat(shared_data / "eegmat")
    refs = source.list_recordings()
    assert {ref.subject for ref in refs} == {"00", "01", "06", "27", "29"}
    assert len(refs) == 10
    for ref in refs:
        recording = source.read(ref)
        (segment,), (signal,) = recording.trials, recording.pieces
        assert sorted(recording.channels) == sorted(EEGMAT_CHANNELS.split())
        assert recording.provenance["dropped_channels"] == ["EEG A2-A1", "ECG ECG"]
        assert recording.sfreq_hz == 500.0
        assert signal.shape == (19, 30_000)
        assert 5 < np.median(signal.std(axis=1)) < 40
        assert segment.label == LABELS.names[int(ref.path.stem[-1]) - 1]
        assert segment.position == {"1": 1, "2": 10_001}[ref.path.stem[-1]]


def test_no_personal_field_of_an_edf_header_reaches_the_store(shared_data: Path, tmp_path: Path) -> None:
    original = shared_data / "eegmat" / "Subject06_2.edf"
    patched = bytearray(original.read_bytes())
    identity = b"MCH-0234567 F 02-MAY-1951 Haagse_Harry".ljust(80)
    identity += b"Startdate 02-MAR-2002 EMG561 BK/JOP Sony_MNC_R_Median".ljust(80)
    patched[EDF_IDENTITY] = identity
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / original.name).write_bytes(patched)
    shutil.copy(shared_data / "eegmat" / "Subject06_1.edf", tmp_path / "raw")
    source = eegmat(tmp_path / "raw")
    store = create_store(tmp_path / "store", dataset="eegmat", label_set=LABELS)
    words: set[str] = set()
    for ref in source.list_recordings():
        assert ingest_recording(store, source, ref, SignalConfig(sfreq_hz=250))
        header = ref.path.read_bytes()[EDF_IDENTITY].decode("ascii")
        words |= {word for word in header.split() if len(word) > 3}
    assert {"MCH-0234567", "02-MAY-1951", "Haagse_Harry", "Doctor"} <= words
    written = [path for path in (tmp_path / "store").rglob("*") if path.is_file()]
    assert len(written) > 4
    for path in written:
        content = path.read_bytes()
        assert not [word for word in words if word.encode() in content], path


PAIR = LabelSet(name="pair", names=("one", "two"))
TEN_TWENTY = [
    "FP1",
    "FP2",
    "F3",
    "F4",
    "C3",
    "C4",
    "P3",
    "P4",
    "O1",
    "O2",
    "F7",
    "F8",
    "P7",
    "P8",
    "Fz",
    "FCz",
    "Cz",
    "CPz",
    "Pz",
    "POz",
    "FC1",
    "FC2",
    "CP1",
    "CP2",
    "FC5",
    "FC6",
]
EMOTIV = ["COUNTER", "AF3", "T7", "Pz", "T8", "AF4", "MARKERS", "TICK", "ContactQuality"]
EVENTS = {"kind": "annotations", "label_of": {"square": "one", "rt": "two"}, "lasts": "until-next"}
MARKERS = {"kind": "markers", "column": "Marker0", "label_of": {"1": "one", "2": "two"}, "lasts": 0.4}
CODES = {"kind": "annotations", "label_of": {r"Stimulus/S253": "one", r"Event/254": "two"}, "lasts": 1}
MUSE = {"format": "csv", "unit": "uV", "time_column": "timestamps", "jitter_seconds": 0.02, "sfreq_hz": 256}
INSIGHT = {"format": "csv", "unit": "uV", "columns": EMOTIV, "sfreq_hz": 128}
SPECS: dict[str, tuple[dict, int, int, int]] = {
    "bdf/Newtest17-256.bdf": ({"montage": "biosemi16"}, 16, 15_360, 1),
    "brainvision/test.vhdr": ({"labels_from": CODES}, 26, 7_900, 5),
    "edf/short_psg.edf": ({"rename": {"EEG Fpz-Cz": "Fpz", "EEG Pz-Oz": "Pz"}}, 2, 30_000, 1),
    "eeglab_set/eeglab_data.set": ({"labels_from": EVENTS}, 30, 30_504, 154),
    "fif/test_bin_raw.fif": ({"rename": {f"EEG {n:03d}": name for n, name in enumerate(TEN_TWENTY, 1)}}, 26, 7_900, 1),
    "insight_csv/Closed_20sx1_201227-103149.csv": (INSIGHT, 5, 5_091, 1),
    "insight_csv/Open_20sx1_201227-102620.csv": (INSIGHT, 5, 5_076, 1),
    "muse_csv/N170_subject1_data_2017-09-13-15.30.01.csv": (MUSE | {"labels_from": MARKERS}, 4, 30_732, 197),
    **{f"eegmat/Subject{subject}_1.edf": ({}, 19, 91_000, 1) for subject in ("00", "01", "06", "27", "29")},
    **{f"eegmat/Subject{subject}_2.edf": ({}, 19, 31_000, 1) for subject in ("00", "01", "06", "27", "29")},
}
"""Every recording that can be used: what its source states besides the name, channels, samples, trials."""
REFUSED = {
    "edf/test.edf": "positions of a BioSemi cap, not 10-05 names.*source.montage.*source.rename",
    "eegmat/PHYSIONET_README.txt": "MNE cannot read it",
    "eegmat/subject-info.csv": "MNE cannot read it",
    "mat/test_edf_eeglab.mat": "MNE cannot read it",
}
"""A cap of 139 electrodes without 10-20 names, and what is no recording: a MAT file without rate and channel names."""
BESIDE = ("brainvision/test.eeg", "brainvision/test.vmrk", "eeglab_set/eeglab_data.fdt")
SOURCE: TypeAdapter = TypeAdapter(AnySource)


def source_of(path: Path, **options: object) -> Source:
    stated = {"format": "files", "root": path.parent, "labels": PAIR, "pattern": f"(?P<subject>.*){path.suffix}"}
    return SOURCE.validate_python(stated | options)


def test_every_shared_file_has_an_outcome(shared_data: Path) -> None:
    files = {
        path.relative_to(shared_data).as_posix() for path in shared_data.glob("*/*") if path.parent.name[0].islower()
    }
    assert files == {*SPECS, *REFUSED, *BESIDE}


@pytest.mark.parametrize("file", SPECS)
def test_it_can_be_ingested(file: str, shared_data: Path, tmp_path: Path) -> None:
    options, n_chans, n_times, n_trials = SPECS[file]
    source = source_of(shared_data / file, **options)
    (ref,) = [ref for ref in source.list_recordings() if ref.path == shared_data / file]
    raw = source.read(ref)
    assert [piece.shape for piece in raw.pieces] == [(n_chans, n_times)]
    store = create_store(tmp_path / "store", dataset="d", label_set=PAIR)
    assert ingest_recording(store, source, ref, SignalConfig(sfreq_hz=raw.sfreq_hz))
    info = store.recordings[ref.recording_id]
    assert (len(info.channels), info.n_times, len(info.trials)) == (n_chans, n_times, n_trials)


@pytest.mark.parametrize("file", REFUSED)
def test_it_is_refused_with_a_reason(file: str, shared_data: Path) -> None:
    source = source_of(shared_data / file)
    (ref,) = [ref for ref in source.list_recordings() if ref.path == shared_data / file]
    with pytest.raises(InputError, match=REFUSED[file]) as caught:
        source.read(ref)
    assert str(caught.value).startswith(str(shared_data / file))


@pytest.mark.parametrize("factor", [1e3, 1e6, 1e-3, 1e-6])
@pytest.mark.parametrize("file", [file for file in SPECS if "_1.edf" not in file])
def test_a_wrong_unit_is_found_in_each(file: str, factor: float, shared_data: Path) -> None:
    source = source_of(shared_data / file, **SPECS[file][0])
    (ref,) = [ref for ref in source.list_recordings() if ref.path == shared_data / file]
    raw = read_once(source, ref)
    size = f"{factor:,.0f} times too large" if factor > 1 else f"{1 / factor:,.0f} times too small"
    with pytest.raises(InputError, match=size):
        assert_plausible([piece * factor for piece in raw.pieces], raw.sfreq_hz, "f")
    short = [piece[:, : round(raw.sfreq_hz)] * factor for piece in raw.pieces]
    with pytest.raises(InputError, match=size):
        assert_plausible(short, raw.sfreq_hz, "f")
    assert_plausible([piece[:, : round(raw.sfreq_hz)] for piece in raw.pieces], raw.sfreq_hz, "f")


READ: dict[Path, RawRecording] = {}


def read_once(source: Source, ref: RecordingRef) -> RawRecording:
    if ref.path not in READ:
        READ[ref.path] = source.read(ref)
    return READ[ref.path]


def test_one_recording_in_two_formats_gives_one_signal(shared_data: Path) -> None:
    brainvision = read_file(shared_data / "brainvision/test.vhdr")
    fif = read_file(
        shared_data / "fif/test_bin_raw.fif", ChannelConfig(rename=SPECS["fif/test_bin_raw.fif"][0]["rename"])
    )
    assert fif.channels == brainvision.channels
    assert np.abs(fif.pieces[0] - brainvision.pieces[0]).max() < 1e-3
    assert brainvision.provenance["dropped_channels"] == ["CP5", "CP6", "HL", "HR", "Vb", "ReRef"]


@pytest.mark.parametrize(
    ("file", "share", "problem"),
    [
        ("eegmat/Subject00_2.edf", 0.0, "is empty"),
        ("eegmat/Subject00_2.edf", 0.002, "does not start with an EDF or BDF header"),
        ("eegmat/Subject00_2.edf", 0.6, r"is truncated: it holds .* of 1,3.* bytes"),
        ("bdf/Newtest17-256.bdf", 0.9, "is truncated"),
        ("fif/test_bin_raw.fif", 0.6, "MNE cannot read it"),
    ],
)
def test_cut_off_files_are_refused(file: str, share: float, problem: str, shared_data: Path, tmp_path: Path) -> None:
    content = (shared_data / file).read_bytes()
    path = tmp_path / Path(file).name
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(InputError, match=problem):
        read_file(path)


def test_the_samples_beside_a_header_count_as_its_source(shared_data: Path, tmp_path: Path) -> None:
    for suffix in (".vhdr", ".eeg", ".vmrk"):
        shutil.copy(shared_data / "brainvision" / f"test{suffix}", tmp_path)
    source = FilesSource(root=tmp_path, pattern=r"(?P<subject>test)\.vhdr", labels=LABELS)
    (ref,) = source.list_recordings()
    assert {path.name for path in source.files_of(ref)} == {"test.vhdr", "test.eeg", "test.vmrk"}
    before = ingest_digest(source, ref, SignalConfig())
    samples = tmp_path / "test.eeg"
    samples.write_bytes(samples.read_bytes()[:-1] + b"\x7f")
    assert ingest_digest(source, ref, SignalConfig()) != before
    fdt = companions(shared_data / "eeglab_set" / "eeglab_data.set")
    assert [path.name for path in fdt] == ["eeglab_data.fdt"]


def test_a_single_file_can_be_read_without_a_source(shared_data: Path) -> None:
    recording = read_file(shared_data / "eegmat" / "Subject00_2.edf")
    assert recording.trials[0].label is None
    assert RecordingRef("r", "s", "1", Path("f")).position == 1
