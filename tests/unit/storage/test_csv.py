"""Text tables: time, gaps, headers, markers."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from storage.errors import InputError
from storage.labels import LabelSet
from storage.readers import CsvSource, RawRecording
from storage.readers.clock import pieces_by_time

LABELS = LabelSet(name="two", names=("rest", "task"))


def table(n_times: int = 500, sfreq_hz: float = 100.0, start: float = 1.6e9, **more: object) -> pd.DataFrame:
    signal = np.random.default_rng(0).normal(0, 20, (n_times, 2))
    columns = {"time": start + np.arange(n_times) / sfreq_hz, "Cz": signal[:, 0], "Oz": signal[:, 1], "note": "x"}
    return pd.DataFrame(columns | more)


def read(folder: Path, content: pd.DataFrame | str, **options: object) -> RawRecording:
    path = folder / "s1_rest.csv"
    text = content if isinstance(content, str) else content.to_csv(index=False)
    path.write_text(text, encoding="utf-8")
    given = {
        "root": folder,
        "pattern": r"(?P<subject>s1)_rest\.csv",
        "labels": LABELS,
        "unit": "uV",
        "time_column": "time",
    }
    source = CsvSource(**(given | options))
    return source.read(source.list_recordings()[0])


def spans(raw: RawRecording) -> list[tuple[int, int, int, str | None]]:
    return [(trial.piece, trial.start, trial.stop, trial.label) for trial in raw.trials]


@pytest.mark.parametrize("unit", ["s", "ms", "us", "datetime"])
def test_units_of_time(unit: str, tmp_path: Path) -> None:
    content = table()
    if unit == "datetime":
        content["time"] = pd.to_datetime(content["time"], unit="s").astype(str)
    else:
        content["time"] *= {"s": 1, "ms": 1e3, "us": 1e6}[unit]
    raw = read(tmp_path, content, time_unit=unit)
    assert (raw.channels, raw.sfreq_hz, [piece.shape for piece in raw.pieces]) == (("CZ", "OZ"), 100.0, [(2, 500)])
    assert np.allclose(raw.pieces[0], content[["Cz", "Oz"]].T)
    assert raw.provenance["dropped_channels"] == ["note"]
    assert "1600000" not in str(raw.provenance)


@pytest.mark.parametrize(("unit", "factor"), [("uV", 1.0), ("mV", 1e-3), ("V", 1e-6)])
def test_units_of_voltage(unit: str, factor: float, tmp_path: Path) -> None:
    content = table()
    content[["Cz", "Oz"]] *= factor
    raw = read(tmp_path, content, unit=unit)
    assert raw.pieces[0].std() == pytest.approx(20, rel=0.1)
    with pytest.raises(InputError, match=rf"state `source.unit: {unit}`" if unit != "uV" else "source.unit: uV"):
        read(tmp_path, content, unit="mV" if unit != "mV" else "uV")


def test_a_gap_cuts_the_recording(tmp_path: Path) -> None:
    content = table().drop(index=range(200, 230))
    label = {"kind": "markers", "column": "note", "label_of": {"x": "rest"}, "lasts": "duration"}
    raw = read(tmp_path, content, labels_from=label)
    assert [piece.shape[1] for piece in raw.pieces] == [200, 270]
    assert spans(raw) == [(0, 0, 200, "rest"), (1, 0, 270, "rest")]
    assert len(read(tmp_path, content.drop(index=400)).pieces) == 3
    assert len(read(tmp_path, content.drop(index=400), gap_seconds=0.1, sfreq_hz=100).pieces) == 2


def test_stretches_and_markers(tmp_path: Path) -> None:
    states = np.repeat(["pause", "R", "T", "R"], [50, 150, 200, 100])
    label_of = {"R": "rest", "T": "task"}
    stretch = {"kind": "markers", "column": "state", "label_of": label_of, "lasts": "duration"}
    expected = [(0, 50, 200, "rest"), (0, 200, 400, "task"), (0, 400, 500, "rest")]
    assert spans(read(tmp_path, table(state=states), labels_from=stretch)) == expected
    marks = np.zeros(500)
    marks[[100, 101, 300]] = 1, 1, 2
    label = {"kind": "markers", "column": "mark", "label_of": {"1": "rest", "2": "task"}, "lasts": 0.5}
    assert spans(read(tmp_path, table(mark=marks), labels_from=label)) == [(0, 100, 150, "rest"), (0, 300, 350, "task")]


def test_a_run_of_marks_over_a_pause_ends_at_its_last_row(tmp_path: Path) -> None:
    """Samples behind the pause lie half a sample off those before it, where two roundings would add one."""
    content = table(1000, 250.0, start=0.0, state=np.repeat(["", "R", ""], [104, 147, 749]))
    content.loc[250:, "time"] += 0.25
    stretch = {"kind": "markers", "column": "state", "label_of": {"R": "rest"}, "lasts": "duration"}
    assert spans(read(tmp_path, content, labels_from=stretch)) == [(0, 104, 250, "rest"), (1, 0, 1, "rest")]


def test_columns_can_be_stated(tmp_path: Path) -> None:
    body = table().to_csv(index=False, header=False)
    names = ["time", "Pz", "C4", "rest"]
    with pytest.raises(InputError, match=r"5 column names for 4 columns.*source.columns"):
        read(tmp_path, "time,Cz,Oz,M['a','b']\n" + body)
    for content, header in (("time,Cz,Oz,M['a','b']\n" + body, True), (body, False)):
        raw = read(tmp_path, content, columns=names, header=header)
        assert (raw.channels, raw.pieces[0].shape) == (("PZ", "C4"), (2, 500))
    raw = read(tmp_path, table().to_csv(index=False, sep=";"), separator=";", rename={"Cz": "drop"})
    assert raw.channels == ("OZ",)


def test_without_time_the_rate_is_stated(tmp_path: Path) -> None:
    assert read(tmp_path, table(), time_column=None, sfreq_hz=250).sfreq_hz == 250
    with pytest.raises(InputError, match=r"samples are 0\.01 s apart; at 250 Hz it would be 0\.004 s"):
        read(tmp_path, table(), sfreq_hz=250)


def shifted(by: float) -> pd.DataFrame:
    content = table(start=0.0)
    content.loc[100, "time"] += by
    return content


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (shifted(-0.01), r"time repeats at sample 101 \(1 times in all\).*jitter_seconds"),
        (shifted(-0.5), r"time goes back by 0\.49 s at sample 101"),
        (table().assign(time="soon"), "time is not a time in s: line 2"),
        (table(sfreq_hz=100.4), r"samples come at 100\.4 Hz, which is not a whole number.*sfreq_hz"),
        (table().assign(Cz=np.nan), r"500 samples are missing or not numbers \(first: Cz, line 2\)"),
        (table().assign(Cz=["1.0"] * 499 + ["bad"]), r"1 samples are missing .*first: Cz, line 501"),
        (table().rename(columns={"time": "t"}), "has no column 'time'"),
        (table().drop(columns=["Cz", "Oz"]), "no channel name of the 10-05 system"),
        (table().rename(columns={"Oz": "CZ"}), "channels named twice"),
        (table(n_times=1), "holds only one sample"),
        ("time,Cz,Oz\n", "holds no sample"),
        ("", "holds no sample"),
        ("<!DOCTYPE html>\n<html></html>\n", "has no column 'time'|column names"),
        (table().to_csv(index=False) + "9,9,9,9,9,9\n", "is not a complete table"),
        (table(time=np.zeros(500)), "time repeats"),
        (table(Cz=0.0, Oz=0.0), "every sample is 0"),
    ],
)
def test_refusals(content: pd.DataFrame | str, problem: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=problem) as caught:
        read(tmp_path, content)
    assert "s1_rest.csv: " in str(caught.value)


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    path = tmp_path / "s1_rest.csv"
    path.write_bytes(bytes(range(256)) * 40)
    source = CsvSource(root=tmp_path, pattern=r"(?P<subject>s1)_rest\.csv", labels=LABELS, unit="uV", sfreq_hz=1)
    with pytest.raises(InputError, match="is not a text table"):
        source.read(source.list_recordings()[0])


@pytest.mark.parametrize(
    "options",
    [
        {"unit": None},
        {"time_column": None},
        {"header": False},
        {"time_unit": "h"},
        {"labels_from": {"kind": "annotations", "label_of": {"a": "rest"}, "lasts": 1}},
        {"labels_from": {"kind": "markers", "column": "x", "label_of": {"a": "joy"}, "lasts": 1}},
    ],
)
def test_bad_options(options: dict, tmp_path: Path) -> None:
    with pytest.raises(ValidationError):
        read(tmp_path, table(), **options)


@given(st.integers(50, 1000), st.lists(st.integers(20, 300), min_size=1, max_size=5), st.floats(0.1, 10), st.data())
def test_pieces_are_what_was_recorded(rate: int, lengths: list[int], pause: float, data: st.DataObject) -> None:
    jitter = data.draw(st.sampled_from([0.0, 0.3 / rate]))
    random = np.random.default_rng(rate)
    starts = np.cumsum([0, *(length / rate + pause for length in lengths[:-1])])
    ideal = [start + np.arange(length) / rate for start, length in zip(starts, lengths, strict=True)]
    seconds = np.concatenate(ideal) + random.uniform(-jitter / 2, jitter / 2, sum(lengths))
    found, pieces = pieces_by_time(seconds, float(rate), jitter, None, "f")
    assert found == rate
    assert [piece.num_samples for piece in pieces] == lengths
    assert np.allclose([piece.onset for piece in pieces], starts - starts[0], atol=jitter + 1e-9)


def test_files_of_a_session_number_their_trials_in_order(tmp_path: Path) -> None:
    for run, content in (("1", table().drop(index=range(200, 300))), ("2", table())):
        content.to_csv(tmp_path / f"s1_{run}.csv", index=False)
    source = CsvSource(
        root=tmp_path, pattern=r"(?P<subject>s1)_(?P<run>\d)\.csv", labels=LABELS, unit="uV", time_column="time"
    )
    numbers = [[trial.trial for trial in source.read(ref).trials] for ref in source.list_recordings()]
    assert numbers == [[1, 2], [10_001]]
