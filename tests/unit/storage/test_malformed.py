"""Files as they arrive when something went wrong. None may end in anything but one line that says what."""

import shutil
from collections.abc import Callable
from pathlib import Path

import edfio
import mne
import numpy as np
import pytest

from storage.errors import InputError
from storage.ingest import ingest_recording
from storage.labels import LabelSet
from storage.readers import FilesSource, read_file
from storage.readers.mne_file import Beside, ChannelConfig, types_of
from storage.signal import SignalConfig
from storage.store import create_store

RNG = np.random.default_rng(0)
PAGE = b"<!DOCTYPE html>\n<html><head><title>404</title></head><body>Not found</body></html>\n"
BIOSEMI = ChannelConfig(montage="biosemi16")


def copy_beside(shared_data: Path, folder: Path, *files: str) -> Path:
    for file in files:
        shutil.copy(shared_data / file, folder)
        (folder / Path(file).name).chmod(0o644)
    return folder / Path(files[0]).name


def cut(path: Path, size: float) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: int(size * len(content)) if size <= 1 else int(size)])


def edf(path: Path, *signals: tuple[str, float, float], notes: bool = False) -> Path:
    made = [
        edfio.EdfSignal(RNG.normal(0, 20, round(rate * seconds)), rate, label=label, physical_dimension="uV")
        for label, rate, seconds in signals
    ]
    edfio.Edf(made, annotations=[edfio.EdfAnnotation(0, None, "x")] if notes else None).write(path)
    return path


BRAINVISION = tuple(f"brainvision/test{suffix}" for suffix in (".vhdr", ".eeg", ".vmrk"))
EEGLAB = ("eeglab_set/eeglab_data.set", "eeglab_set/eeglab_data.fdt")


@pytest.mark.parametrize("suffix", ["edf", "bdf", "fif", "vhdr", "set", "cnt", "gdf", "mff"])
@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (PAGE, "is a web page"),
        (b"\n\n<html>" + bytes(4000), "is a web page"),
        (b"", "is empty"),
        (b"\0" * 5000, "cannot read it|not start with an EDF or BDF header|no channel"),
        (RNG.bytes(9000), "cannot read it|not start with an EDF or BDF header"),
        (b"0       " + b"not a header " * 400, "cannot read it|not start with an EDF or BDF header"),
    ],
)
def test_what_is_no_recording(content: bytes, problem: str, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"x.{suffix}"
    path.write_bytes(content)
    with pytest.raises(InputError, match=problem) as caught:
        read_file(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", ["edf", "bdf", "fif", "vhdr", "set", "cnt", "mff"])
def test_a_folder_with_the_name_of_a_file(suffix: str, tmp_path: Path) -> None:
    (tmp_path / f"x.{suffix}").mkdir()
    with pytest.raises(InputError, match=r"is a folder, not a file|reading \.mff requires mffpy|any EEG data"):
        read_file(tmp_path / f"x.{suffix}")


@pytest.mark.parametrize("share", [0.001, 0.004, 0.3, 0.5, 0.9, 0.99999])
@pytest.mark.parametrize(
    "files", [("eegmat/Subject00_2.edf",), ("bdf/Newtest17-256.bdf",), EEGLAB[:2], ("fif/test_bin_raw.fif",)]
)
def test_cut_files(files: tuple[str, ...], share: float, shared_data: Path, tmp_path: Path) -> None:
    path = copy_beside(shared_data, tmp_path, *files)
    cut(path.with_name(Path(files[-1]).name), share)
    with pytest.raises(InputError, match=r"is truncated|MNE cannot read it|does not start with an EDF or BDF header"):
        read_file(path, BIOSEMI if path.suffix == ".bdf" else None)


@pytest.mark.parametrize(
    ("size", "problem"),
    [
        (0.6, "a marker at sample"),
        (505_599, "ends in the middle of a sample"),
        (0.0, "is truncated"),
        (64 * 7000, "marker"),
    ],
)
def test_cut_brainvision(size: float, problem: str, shared_data: Path, tmp_path: Path) -> None:
    path = copy_beside(shared_data, tmp_path, *BRAINVISION)
    cut(path.with_suffix(".eeg"), size)
    with pytest.raises(InputError, match=problem):
        read_file(path)


@pytest.mark.parametrize(
    ("files", "missing", "problem"),
    [
        (BRAINVISION, "test.eeg", "its companion test.eeg is missing"),
        (BRAINVISION, "test.vmrk", "its companion test.vmrk is missing"),
        (EEGLAB, "eeglab_data.fdt", "the .fdt file that holds its samples is missing"),
    ],
)
def test_missing_companions(
    files: tuple[str, ...], missing: str, problem: str, shared_data: Path, tmp_path: Path
) -> None:
    path = copy_beside(shared_data, tmp_path, *files)
    (tmp_path / missing).unlink()
    with pytest.raises(InputError, match=problem):
        read_file(path)


@pytest.mark.parametrize(
    "key", ["DataFile=test.eeg", "NumberOfChannels=32", "BinaryFormat=INT_16", "SamplingInterval=1000"]
)
def test_a_damaged_brainvision_header(key: str, shared_data: Path, tmp_path: Path) -> None:
    path = copy_beside(shared_data, tmp_path, *BRAINVISION)
    path.write_bytes(path.read_bytes().replace(key.encode(), key.split("=")[0].encode() + b"="))
    with pytest.raises(InputError):
        read_file(path)


def test_annotations_only(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds annotations but no signal"):
        read_file(edf(tmp_path / "x.edf", notes=True))


def test_a_recording_that_was_not_ended(tmp_path: Path) -> None:
    path = edf(tmp_path / "x.edf", ("Cz", 100, 5))
    content = bytearray(path.read_bytes())
    content[236:244] = b"-1      "
    path.write_bytes(content)
    assert read_file(path).provenance["remarks"] == [
        "the header leaves the number of records open, the file holds 5: all are read"
    ]
    path.write_bytes(content[:-50])
    with pytest.raises(InputError, match="leaves the number of records open, but it holds 4 and part of another"):
        read_file(path)


def test_a_discontinuous_file_without_onsets(tmp_path: Path) -> None:
    path = edf(tmp_path / "x.edf", ("Cz", 100, 5))
    content = bytearray(path.read_bytes())
    content[192:197] = b"EDF+D"
    path.write_bytes(content)
    with pytest.raises(InputError, match="but states no record onsets"):
        read_file(path)


def test_mixed_rates_of_other_channels_leave_the_eeg_as_it_is(tmp_path: Path) -> None:
    path = edf(
        tmp_path / "x.edf", ("EEG Cz", 100, 10), ("EMG chin", 500, 10), ("EEG Oz", 100, 10), ("Temp", 1, 10), notes=True
    )
    raw = read_file(path)
    assert (raw.channels, raw.sfreq_hz, raw.pieces[0].shape) == (("CZ", "OZ"), 100.0, (2, 1000))
    stored = edfio.read_edf(path).get_signal("EEG Oz").data
    assert np.abs(raw.pieces[0][1] - stored).max() < 1e-3
    assert raw.provenance["dropped_channels"] == ["EMG chin", "Temp"]


def test_eeg_of_two_rates(tmp_path: Path) -> None:
    path = edf(tmp_path / "x.edf", ("Cz", 100, 10), ("Pz", 100, 10), ("Oz", 200, 10))
    with pytest.raises(
        InputError, match=r"EEG channels have different rates: Oz 200 Hz, most others 100 Hz.*Oz': drop"
    ):
        read_file(path)
    raw = read_file(path, ChannelConfig(rename={"Oz": "drop"}))
    assert (raw.channels, raw.sfreq_hz) == (("CZ", "PZ"), 100.0)


@pytest.mark.parametrize("seconds", [1, 2])
def test_a_very_short_recording(seconds: int, tmp_path: Path) -> None:
    edf(tmp_path / "s1.edf", ("Cz", 100, seconds), ("Oz", 100, seconds))
    labels = LabelSet(name="two", names=("a", "b"))
    source = FilesSource(root=tmp_path, pattern=r"(?P<subject>s1)\.edf", labels=labels)
    store = create_store(tmp_path / "store", dataset="d", label_set=labels)
    (ref,) = source.list_recordings()
    assert ingest_recording(store, source, ref, SignalConfig(sfreq_hz=256))
    assert store.recordings[ref.recording_id].n_times == 256 * seconds


def spoil(value: float) -> Callable[[np.ndarray], None]:
    def put(signal: np.ndarray) -> None:
        signal[1, 250] = value

    return put


def still(signal: np.ndarray) -> None:
    signal[:] = 0


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        (spoil(np.nan), r"1 samples are NaN or infinite \(first: OZ at 2\.500 s\)"),
        (spoil(np.inf), "1 samples are NaN or infinite"),
        (still, "every sample is 0"),
    ],
)
def test_samples_that_are_none(spoil: Callable[[np.ndarray], None], problem: str, tmp_path: Path) -> None:
    signal = RNG.normal(0, 2e-5, (2, 1000))
    spoil(signal)
    raw = mne.io.RawArray(signal, mne.create_info(["Cz", "Oz"], 100.0, "eeg"), verbose="error")
    raw.save(tmp_path / "x_raw.fif", fmt="double", verbose="error")
    with pytest.raises(InputError, match=problem):
        read_file(tmp_path / "x_raw.fif")


@pytest.mark.parametrize(
    ("duration", "problem"),
    [
        ("0", "states no valid record duration"),
        ("-1", "states no valid record duration"),
        ("nan", "states no valid record duration"),
        ("1e-6", r"its sampling rate is 1e\+08 Hz, outside 1\.\.100,000 Hz"),
        ("1e6", r"its sampling rate is 0\.0001 Hz"),
    ],
)
def test_impossible_rates_of_an_edf(duration: str, problem: str, tmp_path: Path) -> None:
    path = edf(tmp_path / "x.edf", ("Cz", 100, 5))
    content = bytearray(path.read_bytes())
    content[244:252] = duration.ljust(8).encode()
    path.write_bytes(content)
    with pytest.raises(InputError, match=problem) as caught:
        read_file(path)
    assert "\n" not in str(caught.value)


def test_a_slow_channel_that_is_no_eeg_is_left_out(tmp_path: Path) -> None:
    path = edf(tmp_path / "x.edf", ("Cz", 100, 20), ("Temp", 0.1, 20))
    assert read_file(path).sfreq_hz == 100
    path = edf(tmp_path / "y.edf", ("Cz", 0.1, 20), ("EMG", 100, 20))
    with pytest.raises(InputError, match=r"its sampling rate is 0\.1 Hz"):
        read_file(path)


def test_a_kind_of_channel_that_mne_does_not_know() -> None:
    raw = mne.io.RawArray(np.zeros((1, 10)), mne.create_info(["Cz"], 100.0, "eeg"), verbose="error")
    raw.info["chs"][0]["kind"] = 9999
    with pytest.raises(InputError, match=r"x\.fif: MNE cannot read it"):
        types_of(raw, Path("x.fif"), Beside())
