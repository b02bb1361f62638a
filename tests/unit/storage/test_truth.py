"""What enters the store is what the file says: time, counts, units, names, words and files, in every format."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import mne
import numpy as np
import pytest

from storage.account import Account, changes
from storage.errors import InputError
from storage.ingest import described, ingest_digest, ingest_recording
from storage.labels import LabelSet
from storage.readers import BidsSource, CsvSource, FilesSource, RawRecording, RecordingRef, read_file
from storage.readers.edf import EdfHeader
from storage.readers.edf_times import pieces_of
from storage.readers.mne_file import ChannelConfig
from storage.readers.timeline import Piece, break_at
from storage.signal import SignalConfig
from storage.signal.channels import canonical_channel, region_of
from storage.signal.montage import MONTAGE
from storage.signal.units import uv_per
from storage.store import create_store, open_store
from tests.eeg_files import BrainVisionFile, EdfFile, Note, eeglab, matlab_73, mff

LABELS = LabelSet(name="two", names=("rest", "task"))
NAMES = ("Cz", "Oz")
RATE = 100
BY_NAME = {"kind": "annotations", "label_of": {"rest": "rest", "task": "task"}, "lasts": "duration"}


def steps(seconds: float, channels: int = 2) -> np.ndarray:
    """Steps of 0.1 µV that look like EEG of 20 µV."""
    return np.random.default_rng(1).normal(0, 200, (channels, round(seconds * RATE))).astype(np.int32)


def files(root: Path, suffix: str, **options: object) -> FilesSource:
    return FilesSource(**({"root": root, "pattern": rf"(?P<subject>s\d)\.{suffix}", "labels": LABELS} | options))


def only(source: FilesSource | BidsSource | CsvSource) -> RawRecording:
    (ref,) = source.list_recordings()
    return source.read(ref)


def only_ref(source: FilesSource) -> RecordingRef:
    (ref,) = source.list_recordings()
    return ref


def spans(raw: RawRecording) -> list[tuple[str | None, float, float]]:
    """Trials in seconds of recording time."""
    found = []
    for trial in raw.trials:
        onset = raw.onsets[trial.piece]
        found.append(
            (trial.label, round(onset + trial.start / raw.sfreq_hz, 3), round(onset + trial.stop / raw.sfreq_hz, 3))
        )
    return found


def edf(folder: Path, notes: Sequence[Note] = (), onsets: Sequence[float] | None = None, seconds: int = 20) -> Path:
    return EdfFile(steps(seconds), NAMES, onsets=onsets, notes=notes).write(folder / "s1.edf")


# --- time


PAUSED = [*range(10), *range(13, 23)]
"""Onsets of twenty records: a pause of three seconds after ten."""


def test_an_annotation_over_a_pause_keeps_its_own_signal(tmp_path: Path) -> None:
    edf(tmp_path, [(8.0, 7.0, b"rest"), (20.0, 2.5, b"task")], PAUSED)
    raw = only(files(tmp_path, "edf", labels_from=BY_NAME))
    assert spans(raw) == [("rest", 8, 10), ("rest", 13, 15), ("task", 20, 22.5)]
    assert raw.provenance["trials_cut"] == ["rest at 8.000 s: 4.000 of 7.000 s"]


@pytest.mark.parametrize("lasts", [1.5, "duration"])
def test_an_annotation_in_a_pause_is_named_and_no_trial(lasts: float | str, tmp_path: Path) -> None:
    edf(tmp_path, [(10.5, 2.0, b"rest"), (14.0, 2.0, b"task")], PAUSED)
    raw = only(files(tmp_path, "edf", labels_from=BY_NAME | {"lasts": lasts}))
    assert [label for label, _, _ in spans(raw)] == ["task"]
    assert raw.provenance["trials_outside"] == ["rest at 10.500 s"]


def test_a_fixed_length_ends_where_the_signal_is_interrupted(tmp_path: Path) -> None:
    edf(tmp_path, [(8.0, None, b"rest"), (14.0, None, b"task"), (21.0, None, b"rest")], PAUSED)
    raw = only(files(tmp_path, "edf", labels_from=BY_NAME | {"lasts": 5.0}))
    assert spans(raw) == [("rest", 8, 10), ("task", 14, 19)]
    assert raw.provenance["trials_outside"] == ["rest at 21.000 s"]


def test_what_ends_behind_the_signal_is_named_and_left_out(tmp_path: Path) -> None:
    edf(tmp_path, [(2.0, 3.0, b"rest"), (15.0, 10.0, b"task"), (25.0, 3.0, b"rest")])
    raw = only(files(tmp_path, "edf", labels_from=BY_NAME))
    assert spans(raw) == [("rest", 2, 5)]
    assert raw.provenance["trials_outside"] == ["task at 15.000 s", "rest at 25.000 s"]


def test_tables_and_crops_speak_of_recording_time(tmp_path: Path) -> None:
    path = edf(tmp_path, [], PAUSED)
    (tmp_path / "labels.csv").write_text("file,label,start_seconds,stop_seconds\ns1.edf,rest,9,14\ns1.edf,task,20,22\n")
    raw = only(files(tmp_path, "edf", labels_from={"kind": "table", "path": "labels.csv"}))
    assert spans(raw) == [("rest", 9, 10), ("rest", 13, 14), ("task", 20, 22)]
    cropped = FilesSource(
        root=tmp_path,
        pattern=r"(?P<subject>s)(?P<label>1)\.edf",
        labels=LABELS,
        label_of={"1": "task"},
        crop_seconds={"task": (9.5, 15.0)},
    )
    raw = only(cropped)
    assert spans(raw) == [("task", 9.5, 10), ("task", 13, 15)]
    whole = read_file(path)
    assert np.array_equal(raw.pieces[1], whole.pieces[1][:, : 2 * RATE])


def test_a_clock_that_goes_back_is_a_break_and_doubled_times_are_refused(tmp_path: Path) -> None:
    onsets = [*range(10), *range(5, 15)]
    path = edf(tmp_path, [(7.0, 1.0, b"rest"), (12.0, 2.0, b"task")], onsets)
    assert [piece.shape[1] for piece in read_file(path).pieces] == [1000, 1000]
    with pytest.raises(InputError, match=r"time goes back, and rest at 7\.000 s was recorded twice"):
        only(files(tmp_path, "edf", labels_from=BY_NAME))
    only_task = BY_NAME | {"label_of": {"task": "task"}}
    assert spans(only(files(tmp_path, "edf", labels_from=only_task))) == [("task", 12, 14)]


def test_onsets_of_few_digits_are_no_pauses() -> None:
    header = EdfHeader(("Cz",), (100,), 6, 1 / 3, True, 2, ("uV",), ((-1, 1, -1, 1),))
    assert len(pieces_of(header, [0, 0.333, 0.667, 1.0, 1.333, 1.667], 300.0)) == 1
    late = pieces_of(header, [0, 0.333, 0.667, 1.0, 1.4, 1.733], 300.0)
    assert [(piece.start, piece.stop) for piece in late] == [(0, 400), (400, 600)]


@pytest.mark.parametrize(("late", "pieces"), [(0.0, 1), (2.0, 2)])
def test_onsets_of_six_digits_are_no_pauses(late: float, pieces: int) -> None:
    header = EdfHeader(("Cz",), (64,), 800, 0.25, True, 2, ("uV",), ((-1, 1, -1, 1),))
    true = np.arange(800) * 0.25 + 99_900 + np.where(np.arange(800) < 600, 0, late)
    assert len(pieces_of(header, [0.0, *(float(f"{onset:g}") for onset in true[1:])], 256.0)) == pieces + 1


@pytest.mark.parametrize(
    ("position", "first"),
    [(1000.0, 1000), (1000.5, 1001), (1001.5, 1002), (999.500032, 1000), (3.2e6 + 0.2, 3_200_000)],
)
def test_a_boundary_between_two_samples_is_before_the_second(position: float, first: int) -> None:
    assert break_at(position) == first


@pytest.mark.parametrize("kind", ["boundary", " Boundary", -99])
def test_boundaries_of_eeglab(kind: object, tmp_path: Path) -> None:
    other = 5 if kind == -99 else "rest"
    eeglab(tmp_path / "s1.set", steps(20) * 0.1, NAMES, RATE, [(other, 801, 400), (kind, 1001.5, 300)])
    labels = BY_NAME | {"label_of": {"rest|5": "rest"}}
    raw = only(files(tmp_path, "set", labels_from=labels))
    assert [piece.shape[1] for piece in raw.pieces] == [1001, 999]
    assert spans(raw) == [("rest", 8, 10.01), ("rest", 10.01, 12)]


def test_a_number_is_no_boundary_where_words_are_used(tmp_path: Path) -> None:
    eeglab(tmp_path / "s1.set", steps(20) * 0.1, NAMES, RATE, [("rest", 801, 400), ("-99", 1001.5, 0)])
    assert len(read_file(tmp_path / "s1.set").pieces) == 1


def test_matlab_73_without_its_reader_is_refused_with_what_helps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pymatreader", None)
    with pytest.raises(InputError, match=r"MATLAB 7\.3 file.*pip install pymatreader.*-v7"):
        read_file(matlab_73(tmp_path / "s1.set", steps(20) * 0.1, NAMES, RATE, [("rest", 201)]))


@pytest.mark.parametrize("samples_in", [None, "s1.fdt", "as it was called.fdt"])
def test_matlab_73(samples_in: str | None, tmp_path: Path) -> None:
    matlab_73(tmp_path / "s1.set", steps(20) * 0.1, NAMES, RATE, [("rest", 201)], samples_in)
    labels = BY_NAME | {"lasts": 2}
    everything = FilesSource(root=tmp_path, pattern=r".*(?P<subject>s).*\..*", labels=LABELS, labels_from=labels)
    (ref,) = everything.listing().refs
    assert {path.name for path in everything.files_of(ref)} == {"s1.set", *([samples_in] if samples_in else [])}
    raw = everything.read(ref)
    assert np.allclose(raw.pieces[0], steps(20) * 0.1, atol=1e-4)
    assert spans(raw) == [("rest", 2, 4)]


def test_matlab_73_whose_samples_are_missing(tmp_path: Path) -> None:
    matlab_73(tmp_path / "s1.set", steps(20) * 0.1, NAMES, RATE, samples_in="other.fdt")
    (tmp_path / "other.fdt").unlink()
    with pytest.raises(InputError, match=r"s1\.set: .* \.fdt file that holds its samples is missing\..* or as s1\.fdt"):
        read_file(tmp_path / "s1.set")


def net_station(folder: Path, events: Sequence[tuple[str, float]] = (), seconds: float = 3.5) -> Path:
    pytest.importorskip("mffpy")
    return mff(folder / "s1.mff", steps(20, 33) * 0.1, RATE, [(800, seconds)], events)


@pytest.mark.parametrize("pause", [0.0, 3.5])
def test_net_station(pause: float, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    net_station(tmp_path, [("rest", 7.0), ("task", 9.0 + pause), ("task", 8.0 + pause / 2)], pause)
    rename = {"E1": "Fp1", "E2": "Fp2"}
    source = files(tmp_path, "mff", rename=rename, labels_from=BY_NAME | {"label_of": {"rest": "rest"}, "lasts": 2})
    raw = only(source)
    assert capsys.readouterr().out == ""
    assert raw.channels == ("FP1", "FP2")
    assert raw.onsets == (0, 8 + pause)
    assert np.allclose(np.concatenate(raw.pieces, axis=1), steps(20, 33)[:2] * 0.1, atol=1e-4)
    assert spans(raw) == [("rest", 7, 8)]
    if pause:
        task = only(files(tmp_path, "mff", rename=rename, labels_from=BY_NAME | {"lasts": 1}))
        assert spans(task) == [("rest", 7, 8), ("task", 12.5, 13.5)]
        assert task.provenance["trials_outside"] == ["task at 9.750 s"]
    before = ingest_digest(source, only_ref(source), SignalConfig())
    with (tmp_path / "s1.mff" / "Events_x.xml").open("a") as file:
        file.write("<!-- changed -->")
    assert ingest_digest(source, only_ref(source), SignalConfig()) != before


def test_what_lies_in_a_folder_of_net_station_is_a_part_of_it(tmp_path: Path) -> None:
    folder = net_station(tmp_path)
    (folder / "s1.bin").write_bytes(b"x")
    everything = FilesSource(root=tmp_path, pattern=r"(?P<subject>s\d)\..*", labels=LABELS).listing()
    assert [ref.path.name for ref in everything.refs] == ["s1.mff"]
    assert everything.left_out == (f"{folder / 's1.bin'}: is read as part of s1.mff",)


def test_averages_of_net_station_are_refused(tmp_path: Path) -> None:
    folder = net_station(tmp_path)
    tool = "<entry><tool><name>x</name><method>Averaging</method></tool></entry>"
    (folder / "history.xml").write_text(
        f'<?xml version="1.0"?>\n<historyEntries xmlns="http://www.egi.com/history_mff">{tool}</historyEntries>\n'
    )
    with pytest.raises(InputError, match=r"s1\.mff: holds averages over trials.*Name the recording"):
        read_file(folder)


def test_net_station_without_its_reader_is_refused_with_what_helps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "s1.mff").mkdir()
    monkeypatch.setitem(sys.modules, "mffpy", None)
    with pytest.raises(InputError, match=r"reading \.mff requires mffpy.*pip install mffpy.*EDF or BrainVision"):
        read_file(tmp_path / "s1.mff")


@pytest.mark.parametrize("bdf", [False, True])
def test_records_that_jump_in_a_file_that_says_it_is_continuous(bdf: bool, tmp_path: Path) -> None:
    onsets = [*range(8), *np.arange(12) + 10.5]
    suffix = "bdf" if bdf else "edf"
    notes = [(7.0, 2.0, b"rest"), (12.0, 1.0, b"task"), (8.5, 1.0, b"rest")]
    EdfFile(steps(20), NAMES, onsets=onsets, notes=notes, says="C", bdf=bdf).write(tmp_path / f"s1.{suffix}")
    raw = only(files(tmp_path, suffix, labels_from=BY_NAME | {"label_of": {"rest": "rest"}, "lasts": 1.5}))
    assert [piece.shape[1] for piece in raw.pieces] == [800, 1200]
    assert raw.onsets == (0, 10.5)
    assert spans(raw) == [("rest", 7, 8)]
    assert raw.provenance["trials_outside"] == ["rest at 8.500 s"]
    said = f"the header declares it continuous ({suffix.upper()}+C), but its records do not follow each other"
    assert raw.provenance["remarks"] == [said]
    assert np.allclose(np.concatenate(raw.pieces, axis=1), steps(20) * 0.1)


@pytest.mark.parametrize("first", [0.0, 0.125, 7.0])
def test_records_that_follow_each_other_are_one_piece(first: float, tmp_path: Path) -> None:
    path = EdfFile(steps(20), NAMES, onsets=np.arange(20) + first, says="C", notes=[(first + 3, 1.0, b"rest")])
    raw = only(files(path.write(tmp_path / "s1.edf").parent, "edf", labels_from=BY_NAME))
    assert len(raw.pieces) == 1
    assert spans(raw) == [("rest", 3, 4)]
    assert "remarks" not in raw.provenance


def test_records_that_all_state_one_onset_follow_each_other(tmp_path: Path) -> None:
    raw = read_file(EdfFile(steps(20), NAMES, onsets=[0.0] * 20, says="C").write(tmp_path / "s1.edf"))
    assert [piece.shape[1] for piece in raw.pieces] == [2000]
    assert raw.provenance["remarks"] == ["all records state the same onset: they are taken to follow each other"]


def test_records_at_even_steps_that_are_not_their_duration_are_refused(tmp_path: Path) -> None:
    path = EdfFile(steps(20), NAMES, onsets=np.arange(20) * 1.5, says="C").write(tmp_path / "s1.edf")
    problem = r"a record begins every 1\.5 s but lasts 1 s, although the file is declared continuous \(EDF\+C\)"
    with pytest.raises(InputError, match=problem):
        read_file(path)


def test_new_segments_of_brainvision(tmp_path: Path) -> None:
    marks = [("Stimulus", "S  1", 800, 1), ("New Segment", "", 1000, 1), ("Comment", "rest ", 1500, 200)]
    BrainVisionFile(steps(20), NAMES, markers=marks).write(tmp_path / "s1.vhdr")
    label_of = {"Stimulus/S  1": "rest", "Comment/rest": "task"}
    raw = only(files(tmp_path, "vhdr", labels_from={"kind": "annotations", "label_of": label_of, "lasts": 4.0}))
    assert spans(raw) == [("rest", 8, 10), ("task", 15, 19)]


def test_recording_time_is_kept_in_the_store(tmp_path: Path) -> None:
    edf(tmp_path, [], PAUSED)
    store = create_store(tmp_path / "st", dataset="d", label_set=LABELS)
    source = files(tmp_path, "edf")
    (ref,) = source.list_recordings()
    ingest_recording(store, source, ref, SignalConfig(sfreq_hz=128))
    info = open_store(tmp_path / "st").recordings[ref.recording_id]
    assert (info.breaks, info.onsets_seconds) == ((1280,), (0.0, 13.0))
    assert [info.seconds_at(sample) for sample in (0, 1279, 1280, 1408)] == [0.0, 1279 / 128, 13.0, 14.0]
    old = info.model_copy(update={"onsets_seconds": ()})
    assert old.seconds_at(1408) == 11.0


def test_a_piece_and_its_parts() -> None:
    piece = Piece(100, 300, 5.0, 2.0)
    assert (piece.sample(5.5), piece.sample(4.0)) == (50, -100)
    assert piece.part(150, 200) == Piece(150, 200, 5.5, 0.5)


# --- counts


@pytest.mark.parametrize("stated", [5, 0, -1])
def test_a_header_that_counts_fewer_records(stated: int, tmp_path: Path) -> None:
    file = EdfFile(steps(20), NAMES, stated_records=stated, notes=[(10.0, 4.0, b"task")])
    file.write(tmp_path / "s1.edf")
    raw = only(files(tmp_path, "edf", labels_from=BY_NAME))
    assert spans(raw) == [("task", 10, 14)]
    assert "the file holds 20: all are read" in raw.provenance["remarks"][0]


def test_a_header_that_counts_more_records_is_refused_with_both(tmp_path: Path) -> None:
    path = EdfFile(steps(20), NAMES, stated_records=25).write(tmp_path / "s1.edf")
    with pytest.raises(InputError, match="20 of 25 records"):
        read_file(path)


# --- units and scale


@pytest.mark.parametrize(
    "text", ["uV", "UV", "µV", "μV", "microV", "µVolts", "Microvolt", " uV ", "\u00c2\u00b5V", "muV", "\ufffdV"]
)
def test_spellings_of_microvolts(text: str) -> None:
    assert uv_per(text) == 1.0


@pytest.mark.parametrize(
    ("text", "factor"), [("mV", 1e3), ("V", 1e6), ("nV", 1e-3), ("", None), ("%", None), ("V/s", None), ("n/a", None)]
)
def test_other_units(text: str, factor: float | None) -> None:
    assert uv_per(text) == factor


@pytest.mark.parametrize("unit", [b"uV", b"UV", b"\xb5V", b"\xc2\xb5V", b"\xce\xbcV", b"microV", b"\x83\xcaV"])
@pytest.mark.parametrize("suffix", ["edf", "bdf"])
def test_a_unit_in_any_spelling_and_encoding(unit: bytes, suffix: str, tmp_path: Path) -> None:
    file = EdfFile(steps(5), NAMES, units=[unit] * 2, bdf=suffix == "bdf")
    raw = read_file(file.write(tmp_path / f"s1.{suffix}"))
    assert np.allclose(raw.pieces[0], file.physical_uv, atol=1e-9)


def test_channels_of_different_units_are_each_in_microvolts(tmp_path: Path) -> None:
    limits = {1: (-3.2768, 3.2767, -32768, 32767)}
    file = EdfFile(steps(5), NAMES, units=[b"uV", b"mV"], limits=limits)
    raw = read_file(file.write(tmp_path / "s1.edf"))
    assert np.allclose(raw.pieces[0], file.physical_uv, atol=1e-9)


@pytest.mark.parametrize(
    ("units", "problem"),
    [
        ([b"uV", b"", b"uV"], "the unit of Oz is none, which is not a voltage where others state uV"),
        ([b"", b"", b""], "the unit of Cz, Oz, Pz is none, which is not a voltage. State"),
        ([b"uV", b"uV", b"mmHg"], "the unit of Pz is mmHg"),
        ([b"V", b"uV", b"uV"], r"channel Cz has another unit than the others"),
        ([b"uV", b"mV", b"uV"], r"has another unit than the others and, converted, varies by 2\.\d+e\+04 µV"),
    ],
)
def test_channels_of_a_doubtful_unit_are_named(units: list[bytes], problem: str, tmp_path: Path) -> None:
    path = EdfFile(steps(5, 3), (*NAMES, "Pz"), units=units).write(tmp_path / "s1.edf")
    with pytest.raises(InputError, match=problem):
        read_file(path)
    stated = read_file(path, ChannelConfig(unit="uV"))
    assert stated.pieces[0].std() == pytest.approx(20, rel=0.05)


@pytest.mark.parametrize("unit", ["UV", "μV", "Âµv", "microV", "", "uV"])
def test_units_of_brainvision(unit: str, tmp_path: Path) -> None:
    file = BrainVisionFile(steps(5), NAMES, units=[unit, "µV"])
    raw = read_file(file.write(tmp_path / "s1.vhdr"))
    assert raw.channels == ("CZ", "OZ")
    assert np.allclose(raw.pieces[0], file.signals * 0.1, atol=1e-9)


def test_a_brainvision_channel_of_another_quantity_is_left_out(tmp_path: Path) -> None:
    file = BrainVisionFile(steps(5), NAMES, units=["µS", "µV"])
    assert read_file(file.write(tmp_path / "s1.vhdr")).provenance["dropped_channels"] == ["Cz"]


@pytest.mark.parametrize(
    ("limits", "problem"),
    [
        ((-100, 100, 0, 0), "channel Oz has the digital minimum 0 and maximum 0"),
        ((0, 0, -100, 100), "channel Oz has the physical minimum and maximum 0"),
        ((-100, 100, 100, -100), "channel Oz has the digital minimum 100 and maximum -100"),
    ],
)
def test_a_scale_that_is_not_defined_names_the_channel(limits: tuple, problem: str, tmp_path: Path) -> None:
    path = EdfFile(steps(5), NAMES, limits={1: limits}).write(tmp_path / "s1.edf")
    with pytest.raises(InputError, match=problem):
        read_file(path)
    assert read_file(path, ChannelConfig(rename={"Oz": "drop"})).channels == ("CZ",)


def test_a_few_samples_off_the_scale_cost_no_resolution(tmp_path: Path) -> None:
    signal = np.random.default_rng(2).normal(0, 15e-6, (2, 2000))
    signal[0, 1900:1910] = 10.0
    raw = mne.io.RawArray(signal, mne.create_info(list(NAMES), 100.0, "eeg"), verbose="error")
    raw.save(tmp_path / "s1.fif", fmt="single", verbose="error")
    source = files(tmp_path, "fif")
    store = create_store(tmp_path / "st", dataset="d", label_set=LABELS)
    (ref,) = source.list_recordings()
    ingest_recording(store, source, ref, SignalConfig(sfreq_hz=100))
    info = store.recordings[ref.recording_id]
    assert (info.precision, info.provenance["off_scale"]) == ("float32", ["CZ: 10"])
    assert changes(info) == ["stored as float32, samples off the scale of int16: CZ: 10"]
    from storage.export.mne_objects import read_uv

    assert np.allclose(read_uv(store, info), signal * 1e6, rtol=1e-6, atol=1e-4)


# --- names


def test_every_position_of_the_template_is_an_electrode() -> None:
    names = mne.channels.make_standard_montage(MONTAGE).ch_names
    ears = {"A1", "A2", "M1", "M2"}
    old = {"T3": "T7", "T4": "T8", "T5": "P7", "T6": "P8"}
    for name in names:
        assert canonical_channel(name) == (None if name in ears else old.get(name, name.upper())), name
    assert region_of("FFC5H") == "left frontal"
    assert region_of("POO1H") == "occipital"
    assert region_of("TTP8H") == "right temporal"


@pytest.mark.parametrize("names", [("C3", "C3"), ("EEG C3", "EEG C3"), ("C3", "EEG C3")])
@pytest.mark.parametrize("suffix", ["edf", "vhdr", "set"])
def test_equal_names_are_refused_by_name(names: tuple[str, str], suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"s1.{suffix}"
    if suffix == "edf":
        EdfFile(steps(5), names).write(path)
    elif suffix == "vhdr":
        BrainVisionFile(steps(5), names).write(path)
    else:
        eeglab(path, steps(5) * 0.1, names, RATE, [])
    with pytest.raises(InputError, match=r"named twice.*C3"):
        read_file(path)


# --- words


def test_descriptions_in_latin1_and_with_spaces(tmp_path: Path) -> None:
    edf(tmp_path, [(2.0, 3.0, b"rest "), (6.0, 1.0, b"Augen ge\xf6ffnet"), (8.0, 1.0, "Augen geöffnet".encode())])
    words = BY_NAME | {"label_of": {"rest": "rest", "Augen geöffnet": "task"}}
    raw = only(files(tmp_path, "edf", labels_from=words))
    assert spans(raw) == [("rest", 2, 5), ("task", 6, 7), ("task", 8, 9)]


def csv(folder: Path, words: Sequence[object], **options: object) -> RawRecording:
    lines = ["time,Cz,Oz,mark"]
    signal = steps(len(words) / RATE) * 0.1
    lines += [f"{row / RATE},{signal[0, row]:.1f},{signal[1, row]:.1f},{word}" for row, word in enumerate(words)]
    (folder / "s1.csv").write_text("\n".join(lines) + "\n")
    label_of = options.pop("label_of")
    source = CsvSource(
        root=folder,
        pattern=r"(?P<subject>s1)\.csv",
        labels=LABELS,
        unit="uV",
        time_column="time",
        labels_from={"kind": "markers", "column": "mark", "label_of": label_of, "lasts": "duration"},
        **options,
    )
    return only(source)


@pytest.mark.parametrize(
    ("first", "second", "blank"),
    [
        ("PA", "NA", ""),
        ("null", "None", ""),
        ("1000001", "1000002", ""),
        ("12345678901234567", "12345678901234568", "0"),
    ],
)
def test_words_and_codes_of_a_column(first: str, second: str, blank: str, tmp_path: Path) -> None:
    words = [blank] * 100 + [first] * 200 + [blank] * 100 + [second] * 100
    raw = csv(tmp_path, words, label_of={first: "rest", second: "task"})
    assert spans(raw) == [("rest", 1, 3), ("task", 4, 5)]


@pytest.mark.parametrize("written", ["1", "1.0", "01", "1.00"])
def test_a_number_is_the_same_however_it_is_written(written: str, tmp_path: Path) -> None:
    raw = csv(tmp_path, [""] * 100 + [written] * 100, label_of={"1": "task"})
    assert spans(raw) == [("task", 1, 2)]


@pytest.mark.parametrize("suffix", ["bdf", "fif"])
def test_triggers_stand_in_where_there_are_no_annotations(suffix: str, tmp_path: Path) -> None:
    codes = np.zeros(2000, dtype=np.int32)
    codes[200:210], codes[1000:1400] = 1, 2
    if suffix == "bdf":
        status = codes | 1 << 20
        file = EdfFile(np.vstack([steps(20), status]), (*NAMES, "Status"), bdf=True, annotated=False)
        file.limits = {2: (-8388608, 8388607, -8388608, 8388607)}
        file.units = [b"uV", b"uV", b"Boolean"]
        file.write(tmp_path / "s1.bdf")
    else:
        info = mne.create_info([*NAMES, "STI 014"], 100.0, ["eeg", "eeg", "stim"])
        raw = mne.io.RawArray(np.vstack([steps(20) * 1e-7, codes]), info, verbose="error")
        raw.set_annotations(mne.Annotations([15.0, 17.0], [0.0, 1.0], ["BAD boundary", "BAD_muscle"]))
        raw.save(tmp_path / "s1.fif", verbose="error")
    labels = {"kind": "annotations", "label_of": {"1": "rest", "2": "task"}, "lasts": "duration"}
    raw = only(files(tmp_path, suffix, labels_from=labels))
    assert spans(raw) == [("rest", 2, 2.1), ("task", 10, 14)]
    assert "triggers of" in raw.provenance["remarks"][0]
    with pytest.raises(InputError, match="others, among them 1, 2"):
        only(files(tmp_path, suffix, labels_from=labels | {"label_of": {"7": "rest"}}))


# --- what belongs to a data set


def bids(root: Path, name: str = "sub-01_task-rest", events: str = "", **file: object) -> Path:
    folder = root / "sub-01" / "eeg"
    folder.mkdir(parents=True, exist_ok=True)
    (root / "dataset_description.json").write_text('{"Name": "x", "BIDSVersion": "1.9.0"}')
    made = BrainVisionFile(steps(20), NAMES, data_name=f"{name}_eeg.eeg", **file)
    made.write(folder / f"{name}_eeg.vhdr")
    (folder / f"{name}_eeg.json").write_text(json.dumps({"SamplingFrequency": RATE, "PowerLineFrequency": 50}))
    (folder / f"{name}_channels.tsv").write_text("name\ttype\tunits\tstatus\nOz\tEEG\tuV\tbad\nCz\tEEG\tuV\tgood\n")
    if events:
        (folder / f"{name}_events.tsv").write_text(events)
    return folder / f"{name}_eeg.vhdr"


EVENTS = "onset\tduration\ttrial_type\tvalue\n2\t3\trest\t11\n8\t4\ttask \t21\n14\t1\trest\t12\n"


def test_bids_events_channels_and_pauses(tmp_path: Path) -> None:
    bids(tmp_path, events=EVENTS, markers=[("New Segment", "", 1000, 1)])
    raw = only(BidsSource(root=tmp_path, labels=LABELS, labels_from=BY_NAME))
    assert spans(raw) == [("rest", 2, 5), ("task", 8, 10), ("task", 10, 12), ("rest", 14, 15)]
    assert (raw.channels, raw.bads) == (("CZ", "OZ"), ("OZ",))
    by_value = BY_NAME | {"label_of": {"rest/12": "rest"}}
    assert spans(only(BidsSource(root=tmp_path, labels=LABELS, labels_from=by_value))) == [("rest", 14, 15)]


def test_bids_without_events_still_has_its_pauses(tmp_path: Path) -> None:
    bids(tmp_path, markers=[("New Segment", "", 1000, 1)])
    assert [piece.shape[1] for piece in only(BidsSource(root=tmp_path, labels=LABELS)).pieces] == [1000, 1000]


def test_bids_leaves_out_what_is_beside_the_subjects_and_says_so(tmp_path: Path) -> None:
    bids(tmp_path)
    for folder in ("derivatives/clean", "sourcedata"):
        bids(tmp_path / folder, "sub-01_task-rest_desc-clean")
    listing = BidsSource(root=tmp_path, labels=LABELS).listing()
    assert [ref.recording_id for ref in listing.refs] == ["sub-01_task-rest"]
    assert [words.split(": ")[1] for words in listing.left_out] == [
        "1 EEG files are not recordings of the data set itself"
    ] * 2
    derived = BidsSource(root=tmp_path / "derivatives/clean", labels=LABELS)
    assert [ref.recording_id for ref in derived.list_recordings()] == ["sub-01_task-rest_desc-clean"]
    assert only(derived).channels == ("CZ", "OZ")


@pytest.mark.parametrize("suffix", ["eeg.vhdr", "eeg.eeg", "channels.tsv"])
def test_a_link_to_what_was_not_fetched_is_named(suffix: str, tmp_path: Path) -> None:
    path = bids(tmp_path)
    missing = path.with_name(f"sub-01_task-rest_{suffix}")
    missing.unlink()
    missing.symlink_to(tmp_path / ".git" / "annex" / "gone")
    source = BidsSource(root=tmp_path, labels=LABELS)
    (ref,) = source.list_recordings()
    with pytest.raises(InputError, match=rf"{suffix}: is a link to content that has not been fetched.*datalad get"):
        described(source, ref, SignalConfig(sfreq_hz=RATE))


def split_fif(folder: Path, gain: float = 1.0) -> Path:
    signal = np.random.default_rng(3).normal(0, 2e-5, (2, 400_000))
    signal[:, 200_000:] *= gain
    raw = mne.io.RawArray(signal, mne.create_info(list(NAMES), 1000.0, "eeg"), verbose="error")
    raw.save(folder / "s1_raw.fif", split_size="2MB", overwrite=True, verbose="error")
    return folder / "s1_raw.fif"


def test_a_split_fif_is_one_recording_of_all_its_parts(tmp_path: Path) -> None:
    split_fif(tmp_path)
    source = FilesSource(root=tmp_path, pattern=r"(?P<subject>s1)_raw.*\.fif", labels=LABELS)
    listing = source.listing()
    parts = sorted(path.name for path in tmp_path.glob("*-*.fif"))
    assert parts
    (ref,) = listing.refs
    assert ref.path.name == "s1_raw.fif"
    assert [words.rsplit("/", 1)[1] for words in listing.left_out] == [
        f"{part}: is read as part of s1_raw.fif" for part in parts
    ]
    assert {path.name for path in source.files_of(ref)} == {"s1_raw.fif", *parts}
    before = ingest_digest(source, ref, SignalConfig())
    split_fif(tmp_path, gain=2.0)
    assert ingest_digest(source, ref, SignalConfig()) != before


def test_a_file_that_is_part_of_another_is_not_read_by_itself(tmp_path: Path) -> None:
    BrainVisionFile(steps(5), NAMES, data_name="s1_zurück.eeg", encoding="latin1").write(tmp_path / "s1.vhdr")
    everything = FilesSource(root=tmp_path, pattern=r"(?P<subject>s1).*\..*", labels=LABELS).listing()
    assert [ref.path.name for ref in everything.refs] == ["s1.vhdr"]
    assert len(everything.left_out) == 2
    with pytest.raises(InputError, match=r"s1_zurück\.eeg: is part of the recording s1\.vhdr\. Name s1\.vhdr"):
        read_file(tmp_path / "s1_zurück.eeg")
    assert read_file(tmp_path / "s1.vhdr").pieces[0].shape == (2, 500)


def test_a_label_table_lies_below_the_root(tmp_path: Path) -> None:
    from jobs.job import absolute

    (tmp_path / "data").mkdir()
    edf(tmp_path / "data")
    (tmp_path / "data" / "labels.csv").write_text("file;label;start_seconds;stop_seconds\ns1.edf;rest;0,5;2,25\n")
    relative = files(Path("data"), "edf", labels_from={"kind": "table", "path": "labels.csv"})
    assert spans(only(absolute(relative, tmp_path))) == [("rest", 0.5, 2.25)]


# --- text tables


def text_table(folder: Path, text: str, encoding: str = "utf-8", **options: object) -> RawRecording:
    (folder / "s1.csv").write_bytes(text.encode(encoding))
    given = {"root": folder, "pattern": r"(?P<subject>s1)\.csv", "labels": LABELS, "unit": "uV", "sfreq_hz": RATE}
    return only(CsvSource(**(given | options)))


def rows(separator: str = ",", decimal: str = ".", seconds: float = 5) -> list[str]:
    signal = steps(seconds) * 0.1
    return [separator.join(f"{value:.1f}".replace(".", decimal) for value in row) for row in signal.T]


@pytest.mark.parametrize("separator", [";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "cp1252"])
def test_decimal_commas(separator: str, encoding: str, tmp_path: Path) -> None:
    lines = [separator.join([*NAMES, "Gerät"]), *(f"{row}{separator}ö" for row in rows(separator, ","))]
    raw = text_table(tmp_path, "\n".join(lines) + "\n", encoding, separator=separator)
    assert np.allclose(raw.pieces[0], steps(5) * 0.1)
    assert raw.provenance["remarks"] == ["numbers have a decimal comma"]


OPENBCI = ["%OpenBCI Raw EXG Data", "%Number of channels = 2", "%Sample Rate = 100 Hz", "%Board = x"]
EMOTIV = ["title:a, start timestamp:1.5,headset type:INSIGHT,sampling rate:eeg_128"]


@pytest.mark.parametrize("head", [OPENBCI, EMOTIV, ["# made by x"], [""], []])
def test_lines_before_the_names(head: list[str], tmp_path: Path) -> None:
    raw = text_table(tmp_path, "\n".join([*head, ",".join(NAMES), *rows()]) + "\n")
    assert np.allclose(raw.pieces[0], steps(5) * 0.1)
    assert raw.provenance.get("remarks", []) == ([f"{len(head)} lines before the names are skipped"] if head else [])


def test_comments_before_rows_without_names(tmp_path: Path) -> None:
    text = "\n".join(["% OpenBCI", "% rate, gain", *rows()]) + "\n"
    raw = text_table(tmp_path, text, header=False, columns=["Cz", "Oz"])
    assert np.allclose(raw.pieces[0], steps(5) * 0.1)


def test_text_that_turns_out_late_not_to_be_utf8(tmp_path: Path) -> None:
    lines = [f"{row},x" for row in rows(seconds=400)]
    lines[-1] = lines[-1].replace("x", "ö")
    raw = text_table(tmp_path, "\n".join(["Cz,Oz,note", *lines]) + "\n", "latin1")
    assert raw.pieces[0].shape == (2, 40_000)


def test_the_wrong_separator_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"separated by ';', not by ','. Set `source.separator: ';'`"):
        text_table(tmp_path, "\n".join([";".join(NAMES), *rows(";")]) + "\n")


def test_names_behind_a_sign_of_comment(tmp_path: Path) -> None:
    raw = text_table(tmp_path, "\n".join(["# Cz,Oz", *rows()]) + "\n", rename={"# Cz": "Cz"})
    assert raw.pieces[0].shape == (2, 500)


def test_rows_of_events_are_no_samples(tmp_path: Path) -> None:
    lines = [f"{row / RATE},{values}," for row, values in enumerate(rows())]
    lines[300:300] = ["2.995,,,/Marker/1"]
    options = {
        "time_column": "time",
        "sfreq_hz": None,
        "labels_from": {"kind": "markers", "column": "Elements", "label_of": {"/Marker/1": "task"}, "lasts": 1.0},
    }
    raw = text_table(tmp_path, "\n".join(["time,Cz,Oz,Elements", *lines]) + "\n", **options)
    assert np.allclose(raw.pieces[0], steps(5) * 0.1)
    assert spans(raw) == [("task", 3, 4)]
    assert raw.provenance["remarks"] == ["1 rows without any sample are left out"]


def test_missing_rows_of_a_table_without_times_are_a_pause(tmp_path: Path) -> None:
    lines = rows()
    lines[200:230] = [","] * 30
    raw = text_table(tmp_path, "\n".join(["Cz,Oz", *lines]) + "\n")
    assert [piece.shape[1] for piece in raw.pieces] == [200, 270]
    assert raw.onsets == (0.0, 2.3)


# --- what is said


def test_the_account_of_an_ingest(tmp_path: Path) -> None:
    edf(tmp_path, [(8.0, 2.5, b"rest"), (11.0, 1.0, b"task"), (20.0, 2.5, b"task")], PAUSED)
    source = files(tmp_path, "edf", labels_from=BY_NAME)
    (ref,) = source.list_recordings()
    info, _ = described(source, ref, SignalConfig(sfreq_hz=RATE))
    account = Account()
    account.add(info)
    name = ref.recording_id
    assert account.lines(9) == [
        f"{name}: interrupted once, never joined",
        f"{name}: trials cut where the signal is interrupted: rest at 8.000 s: 2.000 of 2.500 s",
        f"{name}: trials left out, without signal: task at 11.000 s",
    ]
    assert account.total() == "1 recordings, 2 trials (rest 1, task 1), 0.3 minutes, 1 breaks, 0 channels dropped"
