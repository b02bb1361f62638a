"""Metrics of a run: JSON lines on disk, TensorBoard, and one progress line with an ETA."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from storage.places.files import write_json
from storage.progress import Progress

if TYPE_CHECKING:
    from e2llm_core.training.world import World


class MetricsLog:
    """Writes rank 0's metrics; on other ranks it does nothing.

    Parameters
    ----------
    run : Path
        The run's folder.
    name : str
        Shown in the progress line.
    max_steps : int
        For the ETA.
    first_step : int
        Steps already done; later rows of an interrupted run are dropped.
    """

    def __init__(self, run: Path, name: str, max_steps: int, first_step: int, world: World) -> None:
        self._active, self._first_step, self._started = world.is_first, first_step, time.monotonic()
        self._progress = Progress(name, max_steps, first_step)
        if not self._active:
            return
        from torch.utils.tensorboard import SummaryWriter

        self._path, self._lines = run / METRICS, run / PROGRESS
        rows = [row for row in read_metrics(self._path) if row["step"] <= first_step]
        partial = self._path.with_suffix(".partial")
        partial.write_text("".join(json.dumps(row) + "\n" for row in rows))
        partial.replace(self._path)
        self._board = SummaryWriter(str(run / "tensorboard"), purge_step=first_step + 1)

    def write(self, step: int, split: str, values: dict[str, float]) -> None:
        """Append one row to the metrics and one line to the progress file."""
        if not self._active:
            return
        seconds = time.monotonic() - self._started
        row: dict[str, Any] = {"step": step, "split": split, "seconds": round(seconds, 3), **values}
        with self._path.open("a") as file:
            file.write(json.dumps(row) + "\n")
        for key, value in values.items():
            self._board.add_scalar(f"{split}/{key}", value, step)
        rate = (step - self._first_step) / max(seconds, 1e-9)
        shown = [f"{key} {value:.3g}" for key, value in values.items() if key in _SHOWN]
        with self._lines.open("a") as file:
            file.write(self._progress.line(step, split, *shown, f"{rate:.1f} step/s") + "\n")

    def close(self) -> None:
        """Flush TensorBoard."""
        if self._active:
            self._board.close()


METRICS, PROGRESS, ENVIRONMENT = "metrics.jsonl", "progress.log", "environment.json"
"""Files of a run: metrics, the progress log that the launcher prints, and the environment record."""

RECORDS = (METRICS, PROGRESS, ENVIRONMENT, "tensorboard/*")
"""Files that rank 0 writes during training."""

_SHOWN = {"loss", "score", "balanced_accuracy", "nll"}


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Rows of a `metrics.jsonl`; a last line cut by a kill is dropped."""
    return parse_metrics(path.read_text()) if path.exists() else []


def parse_metrics(text: str) -> list[dict[str, Any]]:
    """Rows of the text of a `metrics.jsonl`."""
    rows = []
    for line in text.splitlines():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return rows


def record_choices(run: Path, name: str, choices: Mapping[str, str], world: World) -> None:
    """Record a stage's automatic choices in the progress file and in ``environment.json``; rank 0 only."""
    if not choices or not world.is_first:
        return
    with (run / PROGRESS).open("a") as file:
        file.write(f"[{name}] " + "  ".join(f"{key} {value}" for key, value in choices.items()) + "\n")
    path = run / ENVIRONMENT
    known = json.loads(path.read_text()) if path.exists() else {}
    write_json(path, known | {"choices": dict(choices)})
