"""Files of every format with a known truth, drawn at random, and what other readers make of them."""

import re
import tempfile
from dataclasses import dataclass, field
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path

import mne
import numpy as np
from hypothesis import strategies as st

from storage.errors import InputError
from storage.labels import LabelSet
from storage.readers import CsvSource, FilesSource, RawRecording
from storage.readers.mne_file import read_continuous
from tests.eeg_files import BrainVisionFile, EdfFile, eeglab
from tests.other_readers import OTHERS, Verdict, verdict

NAMES = ("Fp1", "EEG T3", "Cz.", "FFC5h", "oz", "P8-Ref")
CANONICAL = ("FP1", "T7", "CZ", "FFC5H", "OZ", "P8")
WORDS = ("rest", "NA", "null", "1", "1000001", "Augen geöffnet", "S  1", "a/b", "naïve µV", "None")
MICRO = (b"uV", b"UV", b"\xb5V", b"\xc2\xb5V", b"\xce\xbcV", b"microV", b"uv")
LABELS = LabelSet(name="two", names=("rest", "task"))
FORMATS = ("edf", "bdf", "vhdr", "set", "fif", "csv")


@dataclass
class Truth:
    """What a file holds: (n_chans, n_times) in µV, pieces as (first sample, onset), notes as (word, onset, seconds)."""

    channels: tuple[str, ...]
    rate: float
    signal_uv: np.ndarray
    pieces: list[tuple[int, float]] = field(default_factory=lambda: [(0, 0.0)])
    notes: list[tuple[str, float, float]] = field(default_factory=list)
    tolerance_uv: float = 1e-6
    options: dict[str, object] = field(default_factory=dict)
    """What the reader of text tables is to be told."""
    traits: set[str] = field(default_factory=set)
    """What is unusual in it."""

    def is_so(self, traits: dict[str, bool]) -> None:
        """Note which of these are so."""
        self.traits |= {name for name, is_so in traits.items() if is_so}

    def spans(self, word: str) -> list[tuple[int, int, int]]:
        """(piece, start, stop) in samples of what is called by a word and lies within the recording."""
        edges = [*self.pieces, (self.signal_uv.shape[1], np.inf)]
        ends = [onset + (stop - start) / self.rate for (start, onset), (stop, _) in pairwise(edges)]
        found = []
        for name, onset, seconds in sorted(self.notes, key=lambda note: note[1]):
            if name != word or onset + seconds > ends[-1] + 0.5 / self.rate:
                continue
            for number, ((start, first), (stop, _)) in enumerate(pairwise(edges)):
                begin = round((onset - first) * self.rate)
                end = begin + round(seconds * self.rate) if begin >= 0 else round((onset + seconds - first) * self.rate)
                if max(0, begin) < min(end, stop - start):
                    found.append((number, max(0, begin), min(end, stop - start)))
        return found

    def is_decided(self, word: str) -> bool:
        """Whether each edge of what is called by a word has one nearest sample; halfway, the last digit decides."""
        edges = [at for name, onset, lasts in self.notes if name == word for at in (onset, onset + lasts)]
        places = [(edge - first) * self.rate % 1 for edge in edges for _, first in self.pieces]
        return all(abs(place - 0.5) > 1e-6 for place in places)


@st.composite
def truths(draw: st.DrawFn, suffix: str, path: Path) -> Truth:
    """Write a file of a format; return what it holds."""
    count = draw(st.integers(1, len(NAMES)))
    order = draw(st.permutations(range(len(NAMES))))[:count]
    names, channels = [NAMES[place] for place in order], tuple(CANONICAL[place] for place in order)
    rate = draw(st.sampled_from([100, 128, 250, 256]))
    seconds = draw(st.integers(4, 12))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    digital = np.clip(random.normal(0, 300, (count, seconds * rate)), -30_000, 30_000).astype(np.int32)
    digital += draw(st.integers(-2000, 2000))
    pieces = [(0, 0.0)]
    if draw(st.booleans()):
        at = draw(st.integers(1, seconds - 1))
        pieces.append((at * rate, at + draw(st.sampled_from([0.25, 1.0, 3.5, 100.0]))))
    write = {"edf": _edf, "bdf": _edf, "vhdr": _brainvision, "set": _eeglab, "fif": _fif, "csv": _csv}[suffix]
    if suffix in {"vhdr", "set", "fif"}:  # their time is counted in samples
        pieces = [(start, start / rate) for start, _ in pieces]
    truth = Truth(channels, float(rate), np.empty(0), pieces)
    total = truth.pieces[-1][1] + (digital.shape[1] - truth.pieces[-1][0]) / rate
    onset = 0.0
    for _ in range(draw(st.integers(0, 4))):
        onset += draw(st.integers(1, 3 * rate)) / rate
        lasts = draw(st.integers(1, 2 * rate)) / rate
        if onset < total:
            truth.notes.append((draw(st.sampled_from(WORDS)), round(onset, 6), round(lasts, 6)))
        onset += lasts
    write(draw, truth, digital, names, path)
    end = digital.shape[1] / truth.rate + 0.5 / truth.rate
    past = any(at + lasts > end for _, at, lasts in truth.notes)
    truth.is_so({"interrupted": len(pieces) > 1, "event past the samples": past})
    return truth


def _edf(draw: st.DrawFn, truth: Truth, digital: np.ndarray, names: list[str], path: Path) -> None:
    num_records = round(digital.shape[1] / truth.rate)
    onsets: list[float] = []
    for start, onset in truth.pieces:
        first = round(start / truth.rate)
        onsets = [*onsets[:first], *(onset + record for record in range(num_records - first))]
    encoding = draw(st.sampled_from(["latin1", "utf-8"]))
    interrupted = len(truth.pieces) > 1
    file = EdfFile(
        digital,
        names,
        rate=int(truth.rate),
        units=[draw(st.sampled_from(MICRO)) for _ in names],
        physical=draw(st.sampled_from([(-3276.8, 3276.7), (3276.7, -3276.8), (-5000.0, 4000.0)])),
        onsets=onsets if interrupted else None,
        notes=[(onset, seconds, f" {word} ".encode(encoding)) for word, onset, seconds in truth.notes],
        stated_records=draw(st.sampled_from([None, -1, 1])),
        bdf=path.suffix == ".bdf",
        says=draw(st.sampled_from(["C", "D"])) if interrupted else None,
    )
    truth.is_so(
        {
            "odd unit": any(unit not in {b"uV", b"\xb5V"} for unit in file.units),
            "unit not ASCII": any(not unit.isascii() for unit in file.units),
            "records open": file.stated_records == -1,
            "fewer records": file.stated_records == 1,
            "EDF+D": file.says == "D",
            "Latin-1": encoding == "latin1" and any(not text.isascii() for text, _, _ in truth.notes),
        }
    )
    file.write(path)
    truth.signal_uv = file.physical_uv


def _brainvision(draw: st.DrawFn, truth: Truth, digital: np.ndarray, names: list[str], path: Path) -> None:
    marks = [("New Segment", "", start, 1) for start, _ in truth.pieces[1:]]
    marks += [("Comment", word, round(at * truth.rate), round(lasts * truth.rate)) for word, at, lasts in truth.notes]
    encoding = draw(st.sampled_from(["utf-8", "latin1"]))
    units = [draw(st.sampled_from(["µV", "uV", "UV", "", "microV"])) for _ in names]
    name = draw(st.sampled_from(["s1.eeg", "zurück.eeg"]))
    BrainVisionFile(digital, names, int(truth.rate), units, 0.1, marks, encoding, name).write(path)
    said = [name, *(word for word, _, _ in truth.notes)]
    truth.is_so(
        {
            "odd unit": not {*units} <= {"µV", "uV", ""},
            "Latin-1": encoding == "latin1" and any(not word.isascii() for word in said),
        }
    )
    truth.signal_uv = digital * 0.1
    truth.notes = [(f"Comment/{word}", at, lasts) for word, at, lasts in truth.notes]


def _eeglab(draw: st.DrawFn, truth: Truth, digital: np.ndarray, names: list[str], path: Path) -> None:
    half = draw(st.sampled_from([0.0, 0.5]))
    events: list[tuple[object, float, float]] = [("boundary", start + 1 - half, 7.0) for start, _ in truth.pieces[1:]]
    events += [(word, at * truth.rate + 1, lasts * truth.rate) for word, at, lasts in truth.notes]
    eeglab(path, digital * 0.1, names, truth.rate, sorted(events, key=lambda event: event[1]))
    truth.signal_uv, truth.tolerance_uv = digital * 0.1, 1e-3


def _fif(draw: st.DrawFn, truth: Truth, digital: np.ndarray, names: list[str], path: Path) -> None:
    info = mne.create_info(names, truth.rate, "eeg")
    raw = mne.io.RawArray(digital * 1e-7, info, first_samp=draw(st.sampled_from([0, 321])), verbose="error")
    end = digital.shape[1] / truth.rate
    truth.notes = [(word, at, min(lasts, end - at)) for word, at, lasts in truth.notes if at < end - 1 / truth.rate]
    rows = [(at, lasts, word) for word, at, lasts in truth.notes]
    rows += [(at, 0.0, "BAD boundary") for _, at in truth.pieces[1:]]
    if rows:
        raw.set_annotations(mne.Annotations(*zip(*rows, strict=True)))
    raw.save(path, fmt="double", overwrite=True, verbose="error")
    truth.signal_uv = digital * 0.1


def _csv(draw: st.DrawFn, truth: Truth, digital: np.ndarray, names: list[str], path: Path) -> None:
    separator, decimal = draw(st.sampled_from([(",", "."), (";", "."), (";", ","), ("\t", ",")]))
    seconds = np.empty(digital.shape[1])
    for start, onset in truth.pieces:
        seconds[start:] = onset + np.arange(digital.shape[1] - start) / truth.rate
    marks = np.full(len(seconds), "", dtype=object)
    for word, at, lasts in truth.notes:
        marks[(seconds > at - 0.1 / truth.rate) & (seconds < at + lasts - 0.1 / truth.rate)] = word
    truth.notes = []
    edges = [0, *(row for row in range(1, len(marks)) if marks[row] != marks[row - 1]), len(marks)]
    for start, stop in pairwise(edges):
        if marks[start]:
            lasts = seconds[stop - 1] + 1 / truth.rate - seconds[start]
            truth.notes.append((marks[start], float(seconds[start]), float(lasts)))
    rows = [
        separator.join(
            [f"{second:.6f}".replace(".", decimal), *(f"{value / 10:.1f}".replace(".", decimal) for value in row), mark]
        )
        for second, row, mark in zip(seconds, digital.T, marks, strict=True)
    ]
    head = draw(st.sampled_from([[], ["% made by x"], ["title:a, sampling rate:128, units:uV"]]))
    head = [head[0].replace(", ", separator)] if head else []
    text = "\n".join([*head, separator.join(["t", *names, "mark"]), *rows]) + "\n"
    path.write_text(text, encoding=draw(st.sampled_from(["utf-8", "utf-8-sig", "utf-16"])))
    truth.signal_uv = digital * 0.1
    truth.options = {"separator": separator, "time_column": "t", "sfreq_hz": truth.rate}


def read(path: Path, truth: Truth, word: str | None) -> RawRecording:
    """Read a file; trials are what is called by the word, or all of it."""
    given = {"root": path.parent, "pattern": rf"(?P<subject>s1)\{path.suffix}", "labels": LABELS} | truth.options
    labels = None
    if word is not None:
        labels = {"kind": "annotations", "label_of": {re.escape(word): "rest", word: "rest"}, "lasts": "duration"}
    if path.suffix == ".csv":
        labels = labels and labels | {"kind": "markers", "column": "mark"}
        source: CsvSource | FilesSource = CsvSource(unit="uV", labels_from=labels, **given)
    else:
        source = FilesSource(labels_from=labels, **given)
    (ref,) = source.list_recordings()
    return source.read(ref)


def compare_one(suffix: str, data: st.DataObject) -> None:
    """Draw and write a file of a format, read it, and compare samples, breaks and trials with the truth."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"s1.{suffix}"
        truth = data.draw(truths(suffix, path))
        raw = read(path, truth, None)
        assert raw.channels == truth.channels
        assert raw.sfreq_hz == truth.rate
        starts = np.cumsum([0, *(piece.shape[1] for piece in raw.pieces)])
        assert list(zip(starts[:-1].tolist(), np.round(raw.onsets, 6).tolist(), strict=True)) == truth.pieces
        found = np.concatenate(raw.pieces, axis=1)
        assert found.shape == truth.signal_uv.shape
        assert np.abs(found - truth.signal_uv).max() <= truth.tolerance_uv
        for word in {name for name, _, _ in truth.notes}:
            expected, found_spans = truth.spans(word), _trials(path, truth, word)
            assert found_spans == expected or not truth.is_decided(word), word
        if suffix != "csv":
            _agree(path, suffix, truth)


def _trials(path: Path, truth: Truth, word: str) -> list[tuple[int, int, int]]:
    """Where what is called by a word lies; nothing when the file is refused since none of it was recorded."""
    try:
        return [(trial.piece, trial.start, trial.stop) for trial in read(path, truth, word).trials]
    except InputError as error:
        if "trials lies within" not in error.problem:
            raise
        return []


def _expected(reader: str, suffix: str, traits: set[str]) -> Verdict:
    """What another reader is known to make of a file; docs/formats.md has the same as a table."""
    refused = {
        ("MNE", "edf"): {"Latin-1"},
        ("edfio", "edf"): {"Latin-1"},
        ("pyedflib", "edf"): {"EDF+D", "interrupted", "unit not ASCII", "records open"},
        ("MNE", "vhdr"): {"Latin-1"},
    }
    different = {
        ("MNE", "edf"): {"interrupted", "odd unit", "event past the samples"},
        ("edfio", "edf"): {"interrupted"},
        ("pyedflib", "edf"): {"fewer records"},
        ("MNE", "vhdr"): {"interrupted", "odd unit", "event past the samples"},
        ("MNE", "set"): {"interrupted", "event past the samples"},
        ("MNE", "fif"): {"interrupted"},
    }
    key = (reader, "edf" if suffix == "bdf" else suffix)
    if key == ("pyedflib", "edf") and "fewer records" in traits:
        traits = traits - {"interrupted"}  # it reads the one record that the header counts, and meets no pause
    if traits & refused.get(key, set()):
        return "refuses"
    return "differs" if traits & different[key] else "same"


def _agree(path: Path, suffix: str, truth: Truth) -> None:
    """Have MNE, edfio and pyedflib read a file: they agree with us, or differ where they are known to."""
    mine = read_continuous(path)
    for reader, (_, formats) in OTHERS.items():
        if suffix in formats and (reader != "pyedflib" or find_spec("pyedflib")):
            found, expected = verdict(reader, path, mine), _expected(reader, suffix, truth.traits)
            assert found == expected, (reader, expected, truth.traits)
