"""The table of docs/formats.md on what MNE, edfio and pyedflib make of a file: each cell is what they do."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from storage.errors import InputError
from storage.readers.mne_file import read_continuous
from tests.eeg_files import BrainVisionFile, EdfFile, Note, eeglab
from tests.other_readers import OTHERS, verdict

ROOT = Path(__file__).resolve().parents[3]
SIGNALS = np.random.default_rng(1).normal(0, 200, (2, 600)).astype(np.int32)
NAMES = ("Cz", "Oz")
REST: Note = (1.0, 1.0, b"rest")
PAUSED = [0.0, 1.0, 2.0, 5.0, 6.0, 7.0]
PAST: list[Note] = [REST, (5.0, 3.0, b"task"), (8.0, 1.0, b"task")]


def edf(**options: object) -> Callable[[Path, str], Path]:
    settings = {"names": NAMES, "notes": [REST]} | options
    return lambda folder, suffix: EdfFile(SIGNALS, bdf=suffix == "bdf", **settings).write(folder / f"s1.{suffix}")


def brainvision(**options: object) -> Callable[[Path, str], Path]:
    return lambda folder, _: BrainVisionFile(SIGNALS, NAMES, **options).write(folder / "s1.vhdr")


def eeglab_set(*events: tuple[object, float, float]) -> Callable[[Path, str], Path]:
    return lambda folder, _: eeglab(folder / "s1.set", SIGNALS * 0.1, NAMES, 100, events)


FILES = {
    "EDF, BDF": {
        "records that do not follow each other (+D)": [edf(onsets=PAUSED)],
        "the same in a file declared continuous (+C)": [edf(onsets=PAUSED, says="C")],
        "units `UV`, `microV`": [edf(units=[b"UV", b"uV"]), edf(units=[b"microV", b"uV"])],
        "unit `µV` in UTF-8": [edf(units=[b"\xc2\xb5V", b"uV"])],
        "unit `µV` in Latin-1": [edf(units=[b"\xb5V", b"uV"])],
        "no unit": [edf(units=[b"", b""])],
        "physical minimum = maximum": [edf(limits={0: (0.0, 0.0, -32768, 32767)})],
        "digital minimum = maximum": [edf(limits={0: (-1.0, 1.0, 5, 5)})],
        "two channels with the same name": [edf(names=("Cz", "Cz"))],
        "header states fewer records": [edf(stated_records=2)],
        "header leaves the number of records open (-1)": [edf(stated_records=-1)],
        "annotations in Latin-1": [edf(notes=[(1.0, 1.0, "geöffnet".encode("latin1"))])],
        "annotations that end after the samples": [edf(notes=PAST)],
    },
    "BrainVision": {
        "units `UV`, `microV`": [brainvision(units=["UV", "uV"]), brainvision(units=["microV", "uV"])],
        "markers, names in Latin-1": [
            brainvision(encoding="latin1", data_name="zurück.eeg"),
            brainvision(encoding="latin1", markers=[("Comment", "geöffnet", 100, 100)]),
        ],
        "`New Segment`": [brainvision(markers=[("New Segment", "", 300, 1), ("Comment", "rest", 250, 100)])],
        "markers that end after the samples": [brainvision(markers=[("Comment", "task", 500, 300)])],
    },
    "EEGLAB": {
        "`boundary`, also as -99": [
            eeglab_set(("rest", 251, 100), ("boundary", 301.5, 7)),
            eeglab_set((5, 251, 100), (-99, 301.5, 0)),
        ],
        "events that end after the samples": [eeglab_set(("rest", 101, 100), ("task", 501, 300))],
    },
}
SUFFIXES = {"EDF, BDF": ("edf", "bdf"), "BrainVision": ("vhdr",), "EEGLAB": ("set",)}
OUTCOMES = {"same": "same", "refuses": "refuses"}


def table() -> dict[tuple[str, str], dict[str, str]]:
    """Cells of the docs by format and condition, and by reader (`here`: this project)."""
    lines = (ROOT / "docs/formats.md").read_text().splitlines()
    start = next(place for place, line in enumerate(lines) if line.startswith("| Format | In the file |"))
    head, _, *rest = lines[start:]
    titles = [cell.strip() for cell in head.strip("|").split("|")]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in rest[: rest.index("")]]
    return {(row[0], row[1]): dict(zip(titles[2:], row[2:], strict=True)) for row in rows}


def test_every_row_is_tested() -> None:
    assert set(table()) == {(form, condition) for form, conditions in FILES.items() for condition in conditions}


@pytest.mark.parametrize("reader", OTHERS)
@pytest.mark.parametrize("row", [(form, condition) for form, conditions in FILES.items() for condition in conditions])
def test_a_cell_is_what_the_reader_does(row: tuple[str, str], reader: str, tmp_path: Path) -> None:
    form, condition = row
    cells = table()[row]
    suffixes = [suffix for suffix in SUFFIXES[form] if suffix in OTHERS[reader][1]]
    assert (cells[reader] == "–") == (not suffixes)
    if suffixes and reader == "pyedflib":
        pytest.importorskip("pyedflib")
    for suffix in suffixes:
        for write in FILES[form][condition]:
            path = write(tmp_path, suffix)
            try:
                mine = read_continuous(path)
            except InputError:
                mine = None
            assert (cells["here"] == "refused by name") == (mine is None)
            assert verdict(reader, path, mine) == OUTCOMES.get(cells[reader], "differs")
            if mine is not None:
                assert np.allclose(mine.signal_uv, SIGNALS * 0.1, atol=1e-3)
                assert (len(mine.pieces) > 1) == cells["here"].startswith("cut")
