"""Status of a run, from its folder alone; each call reads only what was added since the last."""

from __future__ import annotations

import contextlib
import itertools
import json
import math
import os
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from e2llm_core.training.metrics import METRICS, PROGRESS
from storage.errors import InputError
from storage.places.workspace import Workspace

_MARKS = ("run.json", "DONE.json", METRICS)
_SHOWN = (*_MARKS, PROGRESS, "spec.yaml", "checkpoints/step-*/COMPLETE", "stacks/*.txt")
_SILENT_SECONDS = 60.0
_SILENT_INTERVALS = 5.0
_RECENT = 10
Row = dict[str, Any]


@dataclass(frozen=True)
class RunStatus:
    """Snapshot of a run's folder.

    Attributes
    ----------
    place
        The run's folder or URL, for people.
    path
        The folder with what is shown of it.
    kind
        Kind of job, or None when the folder does not say.
    max_steps
        Optimizer steps in all; None for a job that does not train.
    train, validation
        Rows of the metrics, oldest first.
    progress
        Last lines for people.
    checkpoints
        Steps of the complete checkpoints, oldest first.
    checkpoint_age, age
        Seconds since the newest complete checkpoint and since anything was written; None for never.
    wall_seconds
        How long the run took, once it is finished; None before.
    dumps
        Stack dumps that hung ranks left.
    """

    place: str
    path: Path
    kind: str | None
    max_steps: int | None
    train: tuple[Row, ...]
    validation: tuple[Row, ...]
    progress: tuple[str, ...]
    checkpoints: tuple[int, ...]
    checkpoint_age: float | None
    age: float | None
    wall_seconds: float | None
    dumps: tuple[Path, ...]

    @property
    def finished(self) -> bool:
        """Whether the run has ended well."""
        return self.wall_seconds is not None

    @property
    def step(self) -> int:
        """Optimizer steps of the newest row."""
        return int(self.train[-1]["step"]) if self.train else 0

    @property
    def silent(self) -> bool:
        """Whether an unfinished run has not written for much longer than it usually takes to."""
        gaps = sorted(later["seconds"] - earlier["seconds"] for earlier, later in self._recent_pairs())
        usual = gaps[len(gaps) // 2] if gaps else 0.0
        limit = max(_SILENT_SECONDS, _SILENT_INTERVALS * usual)
        return not self.finished and self.age is not None and self.age > limit

    @property
    def eta_seconds(self) -> float | None:
        """Seconds to the last step at the pace of the last rows; None where that cannot be said."""
        pairs = self._recent_pairs()
        if self.finished or not self.max_steps or not pairs:
            return None
        first, last = pairs[0][0], pairs[-1][1]
        pace = (last["seconds"] - first["seconds"]) / (last["step"] - first["step"])
        return max(0.0, (self.max_steps - last["step"]) * pace - (self.age or 0.0))

    @property
    def best(self) -> Row | None:
        """The validation row of the highest score."""
        scored = [row for row in self.validation if math.isfinite(row.get("score", math.nan))]
        return max(scored, key=lambda row: row["score"], default=None)

    def _recent_pairs(self) -> list[tuple[Row, Row]]:
        """Neighbouring rows of the newest attempt, in which time and steps go up."""
        rows = self.train[-_RECENT:]
        pairs = list(itertools.pairwise(rows))
        starts = [n for n, (a, b) in enumerate(pairs) if b["seconds"] < a["seconds"] or b["step"] <= a["step"]]
        return pairs[starts[-1] + 1 :] if starts else pairs


class RunReader:
    """Reads a run again and again.

    Parameters
    ----------
    run : str or Path
        Folder or URL of the run.

    Raises
    ------
    InputError
        When it is no run's.
    """

    def __init__(self, run: str | Path) -> None:
        self._workspace = Workspace(run, f"watched-by-{os.getpid()}")
        self._workspace.fetch(*_SHOWN)
        path = self._workspace.folder
        if not any((path / name).exists() for name in _MARKS):
            raise InputError(str(run), "holds no run" if path.is_dir() else "no such run", _remedy(path))
        self.path = path
        self._metrics, self._progress = _Tail(path / METRICS), _Tail(path / PROGRESS)
        self._rows: list[Row] = []

    def close(self) -> None:
        """Remove the local copies of a run at a URL."""
        self._workspace.discard()

    def read(self, lines: int = 5) -> RunStatus:
        """Look once, at the last `lines` lines of progress among other things."""
        self._workspace.fetch(*_SHOWN)
        added, again = self._metrics.read()
        self._rows = [] if again else self._rows
        self._rows += _parsed(added)
        self._progress.read()
        spec, done = _read(self.path / "spec.yaml"), _read(self.path / "DONE.json")
        train = spec.get("train")
        steps = sorted((self.path / "checkpoints").glob("step-*/COMPLETE"), key=_step)
        return RunStatus(
            place=str(self._workspace.place),
            path=self.path,
            kind=spec.get("kind"),
            max_steps=train.get("max_steps") if isinstance(train, dict) else None,
            train=tuple(row for row in self._rows if row.get("split") == "train"),
            validation=tuple(row for row in self._rows if row.get("split") == "validation"),
            progress=tuple(self._progress.lines[-lines:]),
            checkpoints=tuple(_step(marker) for marker in steps),
            checkpoint_age=_age(steps[-1:]),
            age=_age([*(self.path / name for name in (*_MARKS, PROGRESS)), *steps]),
            wall_seconds=done.get("wall_seconds", 0.0) if done else None,
            dumps=tuple(path for path in sorted((self.path / "stacks").glob("*.txt")) if _holds_something(path)),
        )


class _Tail:
    """The whole lines of a file that grows, or is replaced by another."""

    def __init__(self, path: Path) -> None:
        self.path, self.lines = path, list[str]()
        self._inode, self._offset = 0, 0

    def read(self) -> tuple[list[str], bool]:
        """Return the lines added since the last call, and whether they are the file's first."""
        try:
            found = self.path.stat()
        except FileNotFoundError:
            return [], False
        again = found.st_ino != self._inode or found.st_size < self._offset
        if again:
            self._inode, self._offset, self.lines = found.st_ino, 0, []
        with self.path.open("rb") as file:
            file.seek(self._offset)
            text = file.read()
        whole = text[: text.rfind(b"\n") + 1]
        self._offset += len(whole)
        added = whole.decode(errors="replace").splitlines()
        self.lines += added
        return added, again


def _parsed(lines: Iterable[str]) -> list[Row]:
    rows = []
    for line in lines:
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return rows


def _read(path: Path) -> dict[str, Any]:
    """A small YAML or JSON file; empty when it is not there."""
    content = yaml.safe_load(path.read_text(encoding="utf-8")) if path.exists() else None
    return content if isinstance(content, dict) else {}


def _step(marker: Path) -> int:
    return int(marker.parent.name.removeprefix("step-"))


def _age(paths: Iterable[Path]) -> float | None:
    """Seconds since the newest of some files was written; None when there is none."""
    times = []
    for path in paths:
        with contextlib.suppress(FileNotFoundError):  # the run removes old checkpoints while we look
            times.append(path.stat().st_mtime)
    return max(0.0, time.time() - max(times)) if times else None


def _holds_something(path: Path) -> bool:
    """Whether a file is there and not empty; a run removes empty dumps when it ends."""
    with contextlib.suppress(FileNotFoundError):
        return path.stat().st_size > 0
    return False


def _remedy(path: Path) -> str:
    """Name runs nearby."""
    near = sorted(p for p in (*path.glob("*/"), path.parent) if any((p / name).exists() for name in _MARKS))
    named = ", ".join(str(p) for p in near[:4])
    return f"Name the folder of a run, for example {named}." if named else "Name the folder given by a spec's `run:`."
