"""Labels, names, channels, units and gaps of `FilesSource`, on files made here."""

from collections.abc import Sequence
from pathlib import Path

import edfio
import mne
import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

from storage.errors import InputError
from storage.labels import LabelSet
from storage.readers import FilesSource, RawRecording
from storage.signal.caps import electrodes_of, rename_connectors
from storage.signal.channels import select_eeg

LABELS = LabelSet(name="two", names=("rest", "task"))
RNG = np.random.default_rng(0)


def fif(
    path: Path, *, seconds: float = 10, notes: Sequence[tuple[float, float, str]] = (), first: int = 0, **kinds: str
) -> Path:
    kinds = kinds or {"T3": "eeg", "Cz": "eeg", "Oz": "eeg"}
    info = mne.create_info(list(kinds), 100.0, list(kinds.values()))
    raw = mne.io.RawArray(
        RNG.normal(0, 2e-5, (len(kinds), round(100 * seconds))), info, first_samp=first, verbose="error"
    )
    if notes:
        raw.set_annotations(mne.Annotations(*zip(*notes, strict=True)))
    path.parent.mkdir(parents=True, exist_ok=True)
    raw.save(path, verbose="error", fmt="double")
    return path


def source(root: Path, **options: object) -> FilesSource:
    return FilesSource(**({"root": root, "pattern": r"(?P<subject>[^_]+)_.*raw\.fif", "labels": LABELS} | options))


def read(root: Path, **options: object) -> RawRecording:
    files = source(root, **options)
    return files.read(files.list_recordings()[0])


def spans(raw: RawRecording) -> list[tuple[int, int, int, str | None]]:
    return [(trial.piece, trial.start, trial.stop, trial.label) for trial in raw.trials]


NOTES = [(1.0, 2.0, "S 1"), (4.0, 1.5, "S 2"), (5.5, 0.0, "noise"), (8.5, 1.0, "S 1")]


@pytest.mark.parametrize("first", [0, 250])
@pytest.mark.parametrize(
    ("lasts", "expected"),
    [
        ("duration", [(0, 100, 300, "rest"), (0, 400, 550, "task"), (0, 850, 950, "rest")]),
        ("until-next", [(0, 100, 400, "rest"), (0, 400, 850, "task"), (0, 850, 1000, "rest")]),
        (2.0, [(0, 100, 300, "rest"), (0, 400, 600, "task")]),
    ],
)
def test_annotations(lasts: object, expected: list, first: int, tmp_path: Path) -> None:
    fif(tmp_path / "s1_raw.fif", notes=NOTES, first=first)
    raw = read(
        tmp_path, labels_from={"kind": "annotations", "label_of": {"S 1": "rest", "S [2-9]": "task"}, "lasts": lasts}
    )
    assert spans(raw) == expected
    assert raw.pieces[0].shape == (3, 1000)
    assert raw.provenance["trials_outside"] == (["rest at 8.500 s"] if lasts == 2.0 else [])


def test_trials_of_a_session_have_different_numbers(tmp_path: Path) -> None:
    for run in "ab":
        fif(tmp_path / f"s1_{run}raw.fif", notes=NOTES)
    files = source(tmp_path, labels_from={"kind": "annotations", "label_of": {"S 1": "rest"}, "lasts": 1})
    numbers = [trial.trial for ref in files.list_recordings() for trial in files.read(ref).trials]
    assert len(numbers) == len(set(numbers)) == 4
    assert numbers == sorted(numbers)


@pytest.mark.parametrize(
    ("labels_from", "problem"),
    [
        (
            {"label_of": {"S 3": "rest"}, "lasts": 1},
            r"no annotation matches S 3; found 3 others, among them S 1, S 2\.",
        ),
        ({"label_of": {"noise": "rest"}, "lasts": "duration"}, r"annotation at 5\.500 s has no duration"),
        ({"label_of": {"S .": "rest"}, "lasts": 4}, r"trials overlap: rest until 5\.000 s, rest from 4\.000 s"),
        ({"label_of": {"S .": "rest"}, "lasts": 4000}, "trials overlap"),
        ({"label_of": {"noise": "rest"}, "lasts": 4000}, "none of its 1 trials lies within its 10 s"),
    ],
)
def test_annotation_refusals(labels_from: dict, problem: str, tmp_path: Path) -> None:
    fif(tmp_path / "s1_raw.fif", notes=NOTES)
    with pytest.raises(InputError, match=problem):
        read(tmp_path, labels_from={"kind": "annotations"} | labels_from)


def test_free_text_of_annotations_is_not_quoted(tmp_path: Path) -> None:
    free = ["Anna Schmidt", "schmidt", "Schmidt/Anna", "born 1980", "Stimulus/S  1", "T0", "255"]
    fif(tmp_path / "s1_raw.fif", notes=[(place, 0.0, text) for place, text in enumerate(free)])
    with pytest.raises(InputError, match="found 7 others, among them Stimulus/S 1, T0, 255") as caught:
        read(tmp_path, labels_from={"kind": "annotations", "label_of": {"x": "rest"}, "lasts": 1})
    assert not any(text in str(caught.value) for text in free[:4])


def test_a_gap_in_one_file_leaves_the_trials_of_a_session_in_order(tmp_path: Path) -> None:
    fif(tmp_path / "s1_a_raw.fif", notes=[(2.0, 0.0, "boundary"), (4.0, 0.0, "boundary")])
    for run in "bc":
        fif(tmp_path / f"s1_{run}_raw.fif")
    files = source(tmp_path)
    numbers = [[trial.trial for trial in files.read(ref).trials] for ref in files.list_recordings()]
    assert numbers == [[1, 2, 3], [10_001], [20_001]]
    trials = [trial for ref in files.list_recordings() for trial in files.read(ref).trials]
    assert all(trial.position == trial.trial for trial in trials)


@pytest.mark.parametrize("suffix", ["csv", "tsv", "xlsx"])
def test_a_table(suffix: str, tmp_path: Path) -> None:
    fif(tmp_path / "d" / "s1_raw.fif")
    table = pd.DataFrame(
        {
            "file": ["d/s1_raw.fif", "s1_raw.fif", "d/s1_raw.fif"],
            "start_seconds": [1.0, 0.0, 6.0],
            "stop_seconds": [5.0, 10.0, 9.0],
            "label": ["R", "R", "task"],
            "clip": [17, 1, 4],
            "subject": ["P7", "no", "P7"],
            "session": ["2", "9", "2"],
        }
    )
    path = tmp_path / f"labels.{suffix}"
    if suffix == "xlsx":
        table.to_excel(path, index=False)
    else:
        table.to_csv(path, index=False, sep="," if suffix == "csv" else "\t")
    files = source(tmp_path, labels_from={"kind": "table", "path": path.name, "label_of": {"R": "rest"}})
    (ref,) = files.list_recordings()
    assert (ref.recording_id, ref.subject, ref.session) == ("sub-P7_ses-2_run-1", "P7", "2")
    raw = files.read(ref)
    assert spans(raw) == [(0, 100, 500, "rest"), (0, 600, 900, "task")]
    assert [trial.clip for trial in raw.trials] == [17, 4]
    assert path in files.files_of(ref)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("file,label\nother_raw.fif,rest\n", "labels.csv: has no row for s1_raw.fif"),
        ("file,label\ns1_raw.fif,joy\n", "labels.csv: label 'joy' is not in"),
        ("name,label\ns1_raw.fif,rest\n", "labels.csv: lacks the column file"),
        ("file,label,start_seconds\ns1_raw.fif,rest,soon\n", "start_seconds 'soon' is not a number"),
        ("file,label,start_seconds\ns1_raw.fif,rest,12\n", r"12\.\.10 s is not a valid stretch"),
        ("file,label,subject\ns1_raw.fif,rest,a\ns1_raw.fif,rest,b\n", "no single subject for s1_raw.fif"),
        ("", "labels.csv: is not a table"),
        (None, "labels.csv: no such table"),
    ],
)
def test_table_refusals(text: str | None, problem: str, tmp_path: Path) -> None:
    fif(tmp_path / "s1_raw.fif")
    if text is not None:
        (tmp_path / "labels.csv").write_text(text)
    with pytest.raises(InputError, match=problem):
        read(tmp_path, labels_from={"kind": "table", "path": "labels.csv"})


def test_runs_keep_their_names_and_order(tmp_path: Path) -> None:
    for run in (10, 2):
        fif(tmp_path / f"s1_{run}_raw.fif")
    refs = source(tmp_path, pattern=r"(?P<subject>s1)_(?P<run>\d+)_raw\.fif").list_recordings()
    assert [(ref.recording_id, ref.position) for ref in refs] == [("sub-s1_ses-1_run-2", 1), ("sub-s1_ses-1_run-10", 2)]


def test_two_files_with_one_id_are_both_named(tmp_path: Path) -> None:
    fif(tmp_path / "s-1_raw.fif")
    fif(tmp_path / "s1_raw.fif")
    with pytest.raises(InputError, match=r"s1_raw\.fif: has the same id as .*s-1_raw\.fif: sub-s1_ses-1_run-1"):
        source(tmp_path).list_recordings()
    fif(tmp_path / "raw" / "--_raw.fif")
    with pytest.raises(InputError, match="its sub '--' contains no letter or digit"):
        source(tmp_path / "raw").list_recordings()


@pytest.mark.parametrize("description", ["BAD boundary", "EDGE boundary", "boundary", "New Segment/"])
def test_a_gap_is_never_joined(description: str, tmp_path: Path) -> None:
    fif(tmp_path / "s1_raw.fif", notes=[(4.0, 0.0, description)])
    raw = read(tmp_path)
    assert [piece.shape[1] for piece in raw.pieces] == [400, 600]
    assert spans(raw) == [(0, 0, 400, None), (1, 0, 600, None)]
    assert len({trial.trial for trial in raw.trials}) == 2


def test_skipped_acquisition_is_left_out(tmp_path: Path) -> None:
    fif(tmp_path / "s1_raw.fif", notes=[(2.0, 3.0, "BAD_ACQ_SKIP")])
    assert [piece.shape[1] for piece in read(tmp_path).pieces] == [200, 500]


def test_a_discontinuous_edf_is_cut_and_its_annotations_stay_where_they_belong(tmp_path: Path) -> None:
    signal = edfio.EdfSignal(RNG.normal(0, 20, 600), 100.0, label="Cz", physical_dimension="uV")
    edf = edfio.Edf([signal], annotations=[edfio.EdfAnnotation(9.2, 0.5, "task")])
    edf.write(tmp_path / "s1_.edf")
    content = bytearray((tmp_path / "s1_.edf").read_bytes())
    content[192:197] = b"EDF+D"
    for record in (3, 4, 5):  # these come 4 s later
        place = content.index(b"+%d\x14\x14" % record)
        content[place : place + 2] = b"+%d" % (record + 4)
    (tmp_path / "s1_.edf").write_bytes(content)
    options = {"pattern": r"(?P<subject>s1)_\.edf"}
    assert [piece.shape[1] for piece in read(tmp_path, **options).pieces] == [300, 300]
    labelled = read(
        tmp_path, labels_from={"kind": "annotations", "label_of": {"task": "task"}, "lasts": "duration"}, **options
    )
    assert spans(labelled) == [(1, 220, 270, "task")]


def test_types_count_as_well_as_names(tmp_path: Path) -> None:
    fif(
        tmp_path / "s1_raw.fif",
        Fp1="eog",
        Cz="eeg",
        Oz="eeg",
        T7="ecg",
        C3="emg",
        C4="misc",
        A1="eeg",
        M2="eeg",
        X="eeg",
    )
    raw = read(tmp_path, rename={"X": "Pz", "C4": "C4", "Oz": "drop"})
    assert raw.channels == ("CZ", "C4", "PZ")


def test_bad_channels_of_the_file(tmp_path: Path) -> None:
    path = fif(tmp_path / "s1_raw.fif")
    raw = mne.io.read_raw(path, preload=True, verbose="error")
    raw.info["bads"] = ["T3"]
    raw.save(path, overwrite=True, verbose="error")
    assert read(tmp_path).bads == ("T7",)


@pytest.mark.parametrize("unit", ["uV", "mV"])
def test_a_stated_unit_goes_before_the_header(unit: str, tmp_path: Path) -> None:
    signal = RNG.normal(0, 20, 500) / {"uV": 1, "mV": 1e3}[unit]
    for header in ("uV", "mV", "V", ""):
        edf = edfio.Edf([edfio.EdfSignal(signal, 100.0, label="Cz", physical_dimension=header)])
        edf.write(tmp_path / "s1_.edf")
        raw = read(tmp_path, pattern=r"(?P<subject>s1)_\.edf", unit=unit)
        assert raw.pieces[0].std() == pytest.approx(20, rel=0.1)
        assert raw.provenance["stated_unit"] == unit


@pytest.mark.parametrize("cap", ["biosemi16", "biosemi32", "biosemi64"])
def test_caps(cap) -> None:
    electrodes = electrodes_of(cap)
    size = int(cap[-2:])
    banks = [f"{bank}{number}" for bank in "AB" for number in range(1, 33)]
    assert list(electrodes) == banks[:size]
    assert electrodes["A1"] == "Fp1"
    known = {"biosemi16": {"A3": "F4", "A16": "O2"}, "biosemi32": {"A2": "AF3", "A32": "Cz"}}
    known["biosemi64"] = {"A32": "CPz", "B1": "Fpz", "B16": "Cz", "B32": "O2"}
    assert electrodes.items() >= known[cap].items()
    names = [*electrodes, "EXG1", "Status"]
    rows, channels = select_eeg(names, "f", montage=cap)
    assert (rows, len(channels)) == (list(range(size)), size)


def test_a_cap_that_is_not_the_files(tmp_path: Path) -> None:
    sixteen = [f"A{number}" for number in range(1, 17)]
    with pytest.raises(InputError, match=r"lacks A17, A18, A19 \.\.\. of the cap biosemi32"):
        rename_connectors(sixteen, "biosemi32", "f")
    with pytest.raises(InputError, match="A17 is not a connector of the cap biosemi16"):
        rename_connectors([*sixteen, "A17"], "biosemi16", "f")
    with pytest.raises(InputError, match=r"source.montage.*source.rename"):
        select_eeg(sixteen, "f")
    with pytest.raises(InputError, match="has no channel 'Q'"):
        select_eeg(sixteen, "f", rename={"Q": "Cz"})


@pytest.mark.parametrize(
    "options",
    [
        {"rename": {"X": "Q9"}},
        {"unit": "nV"},
        {"montage": "biosemi128"},
        {"labels_from": {"kind": "annotations", "label_of": {"a": "joy"}, "lasts": 1}},
        {"labels_from": {"kind": "annotations", "label_of": {"(": "rest"}, "lasts": 1}},
        {"labels_from": {"kind": "annotations", "label_of": {"a": "rest"}, "lasts": 0}},
        {"labels_from": {"kind": "annotations", "label_of": {}, "lasts": 1}},
        {"labels_from": {"kind": "table", "path": "t"}, "label_of": {"a": "rest"}},
        {"labels_from": {"kind": "markers", "column": "x", "label_of": {"a": "rest"}, "lasts": 1}},
    ],
)
def test_bad_options(options: dict, tmp_path: Path) -> None:
    with pytest.raises(ValidationError):
        source(tmp_path, **options)
