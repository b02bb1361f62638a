"""Optional inputs of the report besides the results: scalp maps, examples, learning curves."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from storage.places.files import write_bytes

TOPOMAPS_FILE = "topomaps.npz"
EXAMPLES_SIGNAL_FILE = "examples.npz"
EXAMPLES_TEXT_FILE = "examples.json"
LEARNING_CURVES_FILE = "learning_curves.json"


@dataclass(frozen=True)
class Topomaps:
    """Mean session-relative log band power per class.

    Attributes
    ----------
    maps
        Shape (n_classes, n_bands, n_chans); mean log power of a class minus that of its sessions.
    channels, bands, labels
        Names along the axes of `maps`.
    n_windows
        Number of windows that the means are taken over.
    """

    maps: NDArray[np.floating]
    channels: tuple[str, ...]
    bands: tuple[str, ...]
    labels: tuple[str, ...]
    n_windows: int

    def __post_init__(self) -> None:
        expected = (len(self.labels), len(self.bands), len(self.channels))
        if self.maps.shape != expected:
            raise ValueError(f"maps have the shape {self.maps.shape}, but the names imply {expected}")

    def write(self, evaluation_dir: Path) -> None:
        """Write topomaps.npz."""
        arrays: dict[str, Any] = {name: np.array(value) for name, value in asdict(self).items()}
        _write_npz(evaluation_dir / TOPOMAPS_FILE, arrays)

    @classmethod
    def read(cls, evaluation_dir: Path) -> Topomaps | None:
        """Read topomaps.npz; None if it does not exist."""
        path = evaluation_dir / TOPOMAPS_FILE
        if not path.exists():
            return None
        with np.load(path, allow_pickle=False) as file:
            names = {key: tuple(map(str, file[key])) for key in ("channels", "bands", "labels")}
            return cls(maps=file["maps"], n_windows=int(file["n_windows"]), **names)


@dataclass(frozen=True)
class Example:
    """One window, with its true label and the model's answer.

    Attributes
    ----------
    eeg_uv
        Shape (n_chans, n_times), microvolts.
    channels
        Names of the channels.
    sfreq_hz
        Sampling rate in hertz.
    truth, answer
        True label and answer; the answer is null if it was invalid.
    rationale, reply
        The two parts of the generated text; the rationale is null if there is none.
    title
        Description of the window, for example its subject, session and trial.
    """

    eeg_uv: NDArray[np.floating]
    channels: tuple[str, ...]
    sfreq_hz: float
    truth: str
    answer: str | None
    rationale: str | None
    reply: str
    title: str = ""


def write_examples(evaluation_dir: Path, examples: Sequence[Example]) -> None:
    """Write examples.npz (arrays ``eeg_0, eeg_1, ...``) and examples.json (a list in the same order)."""
    arrays = {f"eeg_{number}": np.asarray(item.eeg_uv, dtype=np.float32) for number, item in enumerate(examples)}
    words = [
        {
            "channels": list(item.channels),
            "sfreq_hz": float(item.sfreq_hz),
            "truth": item.truth,
            "answer": item.answer,
            "rationale": item.rationale,
            "reply": item.reply,
            "title": item.title,
        }
        for item in examples
    ]
    _write_npz(evaluation_dir / EXAMPLES_SIGNAL_FILE, arrays)
    _write_json(evaluation_dir / EXAMPLES_TEXT_FILE, words)


def read_examples(evaluation_dir: Path) -> list[Example]:
    """Read what `write_examples` wrote; an empty list if there is nothing."""
    path = evaluation_dir / EXAMPLES_TEXT_FILE
    if not path.exists():
        return []
    words = json.loads(path.read_text(encoding="utf-8"))
    with np.load(evaluation_dir / EXAMPLES_SIGNAL_FILE, allow_pickle=False) as file:
        return [
            Example(eeg_uv=file[f"eeg_{number}"], **{**item, "channels": tuple(item["channels"])})
            for number, item in enumerate(words)
        ]


def write_learning_curves(evaluation_dir: Path, curves: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    """Write learning_curves.json: rows of metrics.jsonl per stage."""
    _write_json(evaluation_dir / LEARNING_CURVES_FILE, {stage: list(rows) for stage, rows in curves.items()})


def read_learning_curves(evaluation_dir: Path) -> dict[str, list[dict[str, Any]]]:
    """Read learning_curves.json; an empty dict if it does not exist."""
    path = evaluation_dir / LEARNING_CURVES_FILE
    if not path.exists():
        return {}
    curves: dict[str, list[dict[str, Any]]] = json.loads(path.read_text(encoding="utf-8"))
    return curves


def _write_npz(path: Path, arrays: Mapping[str, Any]) -> None:
    content = io.BytesIO()
    np.savez_compressed(content, **dict(arrays))
    write_bytes(path, content.getvalue())


def _write_json(path: Path, value: Any) -> None:
    write_bytes(path, (json.dumps(value, indent=1) + "\n").encode())
