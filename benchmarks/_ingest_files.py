"""Files to ingest, of formats whose readers look closely: EDF+, BrainVision and text tables."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import edfio
import numpy as np
import pandas as pd
import pybv

_CHANNELS = tuple(
    ["Fp1", "Fp2", "F7", "F3", "Fz", "F4", "F8", "T7", "C3", "Cz", "C4", "T8", "P7", "P3", "Pz", "P4", "P8", "O1"]
)
_RATE = 250
_TRIAL_SECONDS = 20
_LABELS = {"name": "two", "names": ["rest", "task"]}
_BY_WORDS = {"kind": "annotations", "lasts": "duration", "label_of": {".*rest": "rest", ".*task": "task"}}


def write_files(root: Path, count: int, seconds: int) -> Mapping[str, Mapping[str, Any]]:
    """Write recordings in each format; return the source that reads them, by the name of the case."""
    signals = np.random.default_rng(0).normal(0, 20, (count, len(_CHANNELS), seconds * _RATE))
    for folder in ("edf", "vhdr", "csv"):
        (root / folder).mkdir()
    for number, signal in enumerate(signals, start=1):
        _edf(root / "edf" / f"s{number}.edf", signal)
        _brainvision(root / "vhdr", f"s{number}", signal)
        _table(root / "csv" / f"s{number}.csv", signal)
    shared = {"labels": _LABELS}
    files = {"format": "files", "labels_from": _BY_WORDS} | shared
    markers = {"kind": "markers", "column": "mark", "lasts": "duration", "label_of": {"rest": "rest", "task": "task"}}
    table = {"format": "csv", "unit": "uV", "time_column": "t", "sfreq_hz": _RATE, "labels_from": markers} | shared
    return {
        "EDF+": files | {"root": str(root / "edf"), "pattern": r"(?P<subject>s\d+)\.edf"},
        "BrainVision": files | {"root": str(root / "vhdr"), "pattern": r"(?P<subject>s\d+)\.vhdr"},
        "text tables": table | {"root": str(root / "csv"), "pattern": r"(?P<subject>s\d+)\.csv"},
    }


def _trials(signal: np.ndarray) -> list[tuple[int, str]]:
    """First sample and label of trials with as much time between them."""
    starts = range(0, signal.shape[1] - _TRIAL_SECONDS * _RATE + 1, 2 * _TRIAL_SECONDS * _RATE)
    return [(start, _LABELS["names"][place % 2]) for place, start in enumerate(starts)]


def _edf(path: Path, signal: np.ndarray) -> None:
    rows = [
        edfio.EdfSignal(row, _RATE, label=name, physical_dimension="uV", physical_range=(-3276.8, 3276.7))
        for name, row in zip(_CHANNELS, np.clip(signal, -3000, 3000), strict=True)
    ]
    notes = [edfio.EdfAnnotation(start / _RATE, _TRIAL_SECONDS, label) for start, label in _trials(signal)]
    edfio.Edf(rows, annotations=notes).write(path)


def _brainvision(folder: Path, name: str, signal: np.ndarray) -> None:
    events = [
        {"onset": start, "duration": _TRIAL_SECONDS * _RATE, "type": "Comment", "description": label}
        for start, label in _trials(signal)
    ]
    pybv.write_brainvision(
        data=signal * 1e-6,
        sfreq=_RATE,
        ch_names=list(_CHANNELS),
        fname_base=name,
        folder_out=str(folder),
        events=events,
        fmt="binary_int16",
        resolution=0.1,
    )


def _table(path: Path, signal: np.ndarray) -> None:
    marks = np.full(signal.shape[1], "", dtype=object)
    for start, label in _trials(signal):
        marks[start : start + _TRIAL_SECONDS * _RATE] = label
    table = pd.DataFrame(dict(zip(_CHANNELS, signal.round(2), strict=True)))
    table.insert(0, "t", np.arange(signal.shape[1]) / _RATE)
    table.assign(mark=marks).to_csv(path, index=False)
