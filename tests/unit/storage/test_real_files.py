"""Files as devices write them."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from storage.errors import InputError
from storage.ingest import ingest_digest, ingest_recording
from storage.labels import LabelSet
from storage.readers import FilesSource, RecordingRef, read_file
from storage.readers.edf import assert_whole
from storage.readers.files import companions
from storage.signal import SignalConfig
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
        assert_whole(shared_data / file)


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
        assert segment.position == int(ref.path.stem[-1])


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
    written = [path for path in store.root.rglob("*") if path.is_file()]
    assert len(written) > 4
    for path in written:
        content = path.read_bytes()
        assert not [word for word in words if word.encode() in content], path


@pytest.mark.parametrize(
    ("file", "n_chans", "sfreq_hz", "seconds", "dropped"),
    [
        ("brainvision/test.vhdr", 28, 1000.0, 7.9, ["HL", "HR", "Vb", "ReRef"]),
        ("eeglab_set/eeglab_data.set", 30, 128.0, 238.3125, ["EOG1", "EOG2"]),
    ],
)
def test_other_formats(
    file: str, n_chans: int, sfreq_hz: float, seconds: float, dropped: list[str], shared_data: Path
) -> None:
    recording = read_file(shared_data / file)
    (signal,) = recording.pieces
    assert recording.sfreq_hz == sfreq_hz
    assert signal.shape == (n_chans, round(seconds * sfreq_hz))
    assert 1 < np.median(signal.std(axis=1)) < 100
    assert recording.provenance["dropped_channels"] == dropped
    assert {"FZ", "CZ"} <= set(recording.channels)


@pytest.mark.parametrize(
    ("file", "problem"),
    [
        ("bdf/Newtest17-256.bdf", "channels A3, A4, A5 ... are positions of a BioSemi cap, not 10-05 names"),
        ("edf/test.edf", "positions of a BioSemi cap, not 10-05 names"),
        ("edf/short_psg.edf", "no channel name of the 10-05 system among"),
        ("fif/test_bin_raw.fif", "no channel name of the 10-05 system among ..EEG 001"),
        ("eegmat/subject-info.csv", "MNE cannot read it"),
        ("mat/test_edf_eeglab.mat", "MNE cannot read it"),
        ("nowhere.edf", "no such file"),
    ],
)
def test_what_cannot_be_used_is_refused(file: str, problem: str, shared_data: Path) -> None:
    with pytest.raises(InputError, match=problem) as caught:
        read_file(shared_data / file)
    assert str(caught.value).startswith(str(shared_data / file))


@pytest.mark.parametrize(
    ("file", "share", "problem"),
    [
        ("eegmat/Subject00_2.edf", 0.0, "its header is not one of EDF or BDF"),
        ("eegmat/Subject00_2.edf", 0.002, "its header is not one of EDF or BDF"),
        ("eegmat/Subject00_2.edf", 0.6, r"is cut off: .* of 1,3.* bytes are there"),
        ("bdf/Newtest17-256.bdf", 0.9, "is cut off"),
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
