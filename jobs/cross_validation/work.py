"""Running the steps of all cells: each once, in parallel as far as resources allow, and resumable after a stop."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from rich.console import Console

from cluster.resources import alive_nodes, require_resources
from cluster.room import Room, Taken
from cluster.session import ray_stops_children, step_environment
from cluster.train.stopping import Stopped, first_signal
from e2llm_core.inputs import DONE
from e2llm_core.plan import check_inputs
from jobs.cross_validation.checks import planned
from jobs.cross_validation.config import CrossValidationPlan
from jobs.cross_validation.grid import Cell, Grid, Kinds, Step
from jobs.cross_validation.page import results_table, write_page
from jobs.cross_validation.results import RESULTS, CellScores, cell_scores, summarised, write_scores
from jobs.cross_validation.step import variables
from jobs.job import absolute
from jobs.paths import root_folder
from jobs.run import identity
from jobs.run_folder import RunFolder, chained_digest
from storage.errors import InputError
from storage.places.location import locate
from storage.places.workspace import Workspace
from storage.progress import Progress, clock

LOGS = "logs"
_KEPT = (f"{LOGS}/*", RESULTS)
_LOOK_SECONDS = 0.2
_END_SECONDS = 30.0
_REFUSED = 2
_STOPPED = (os.EX_TEMPFAIL, 128 + signal.SIGTERM, -signal.SIGTERM)
_REFUSAL = re.compile(r"^error: (.*)$", re.MULTILINE)


class Process(Protocol):
    """A running step."""

    def poll(self) -> int | None:
        """Exit status; None while the step is running."""

    def terminate(self) -> None:
        """Ask the step to stop; a training writes a checkpoint first."""

    def kill(self) -> None:
        """End the step at once."""


Start = Callable[[Step, Path], Process]
"""Function that starts a step whose output goes to a file."""


def cross_validate(plan: CrossValidationPlan, run: str, kinds: Kinds, facts: dict[str, Any]) -> str:
    """Run all steps on the connected cluster, and write results.parquet, summary.json and report.html.

    Parameters
    ----------
    plan : CrossValidationPlan
        The plan, with absolute paths.
    run : str
        Folder or URL of the run.
    kinds : mapping of str to model class
        Kinds of jobs that can be steps.
    facts : dict
        The run's environment, which the page shows.

    Returns
    -------
    str
        Path or URL of the page.

    Raises
    ------
    InputError
        When the cluster has no room for a step, or steps were refused or failed; all other steps are finished first.
    Stopped
        When a SIGTERM or SIGUSR1 asked to stop; after a restart, finished steps are not run again.
    """
    grid = planned(plan, run, kinds)
    for resources in {repr(step.resources): step.resources for step in grid.steps.values()}.values():
        require_resources(resources)
    workspace = Workspace(run)
    (workspace.folder / LOGS).mkdir(parents=True, exist_ok=True)
    with workspace.kept(*_KEPT):
        room = Room(alive_nodes())
        work = Work(grid, root_folder(), workspace.folder, run, room, plan.resources.side_by_side)
        with _sent(workspace):
            work.run()
        summary = summarised(work.scores, [variant.name for variant in plan.variants], facts)
        page = write_page(workspace.folder, summary)
        Console().print(results_table(summary))
    workspace.send("*")
    workspace.discard()
    return f"{run}/{page.name}"


@contextmanager
def _sent(workspace: Workspace) -> Iterator[None]:
    """If the block fails, upload the files written so far; an upload error does not hide the failure."""
    try:
        yield
    except (InputError, Stopped):
        with suppress(InputError, OSError):
            workspace.send(*_KEPT)
        raise


def start_process(step: Step, log: Path) -> Process:
    """Run a step as a separate job on this process's cluster; only this process or Ray signals it."""
    command = [sys.executable, "-m", "jobs.cross_validation.step", step.spec, *step.overrides]
    with log.open("ab") as file:
        return subprocess.Popen(
            command,
            env=step_environment() | variables(),
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            start_new_session=True,
        )


@dataclass
class _Running:
    step: Step
    process: Process
    taken: Taken
    started: float


@dataclass
class Work:
    """Runs the steps of a grid.

    Attributes
    ----------
    grid
        Cells and steps to run.
    root
        Folder that relative paths start from.
    folder
        Folder for logs and for the results so far.
    run_name
        Folder or URL of the run, as messages name it.
    room
        Free resources of the cluster.
    most
        Largest number of steps at a time; None: as many as fit.
    scores
        Scores of the finished cells, in the order of the grid.
    """

    grid: Grid
    root: Path
    folder: Path
    run_name: str
    room: Room
    most: int | None = None
    scores: list[CellScores] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._done = self._finished_before()
        self._progress = Progress("cross-validate", len(self.grid.steps), len(self._done))
        self._waiting = [step for step in self._in_order() if step.key not in self._done]
        self._running: list[_Running] = []
        self._failed: dict[str, str] = {}
        self._asked, self._stopping = threading.Event(), False

    def run(self) -> None:
        """Run all steps that are not finished yet; raises the same errors as `cross_validate`."""
        total, found = len(self.grid.steps), len(self._done)
        print(f"[cross-validate] {len(self.grid.cells)} cells, {total} steps, {found} of them done before", flush=True)
        self._collect()
        with first_signal(self._asked.set), self._ended():
            while self._running or (self._waiting and not self._stopping):
                if self._asked.is_set():
                    self._stop()
                else:
                    self._start_what_fits()
                self._look()
                time.sleep(_LOOK_SECONDS)
        if self._stopping:
            raise Stopped(self.run_name)
        if self._failed:
            raise self._failure()

    def _in_order(self) -> list[Step]:
        """Steps cell by cell, so that first results come early."""
        keys = dict.fromkeys(key for cell in self.grid.cells for key in cell.steps)
        return [self.grid.steps[key] for key in keys]

    def _finished_before(self) -> set[str]:
        done: set[str] = set()
        for step in self._in_order():
            if done.issuperset(step.needs) and is_done(step, self.root):
                done.add(step.key)
        return done

    def _start_what_fits(self) -> None:
        for step in list(self._waiting):
            if self.most is not None and len(self._running) >= self.most:
                return
            if not self._done.issuperset(step.needs):
                continue
            if (taken := self.room.take(step.resources)) is None:
                continue
            self._waiting.remove(step)
            process = start(step, self.folder / LOGS / f"{step.key}.log")
            self._running.append(_Running(step, process, taken, time.monotonic()))

    def _look(self) -> None:
        for one in list(self._running):
            if (status := one.process.poll()) is None:
                continue
            self._running.remove(one)
            self.room.give_back(one.taken)
            if status == 0:
                self._done.add(one.step.key)
                self._collect()
                self._say(one, f"done in {clock(time.monotonic() - one.started)}")
            elif status == os.EX_TEMPFAIL or (status in _STOPPED and self._asked.is_set()):
                self._asked.set()  # a request to stop one step is meant for all of them
                self._stop()
            else:
                self._fail(one.step, status)
                self._say(one, "failed")

    def _fail(self, step: Step, status: int) -> None:
        name = f"{LOGS}/{step.key}.log"
        log = self.folder / name
        said = _REFUSAL.findall(log.read_text(errors="replace")) if status == _REFUSED and log.exists() else []
        self._failed[step.key] = said[-1] if said else f"ended with status {status}; its log is {self.run_name}/{name}"
        lost = {step.key}
        for other in list(self._waiting):  # each step comes after those that it needs
            if lost.intersection(other.needs):
                lost.add(other.key)
                self._waiting.remove(other)

    def _failure(self) -> InputError:
        first, why = next(iter(self._failed.items()))
        problem = f"{len(self._failed)} of {len(self.grid.steps)} steps failed, first {first}: {why.rstrip('.')}"
        remedy = "Correct the cause and start the job again; finished steps are not run again."
        return InputError(self.run_name, problem, remedy)

    def _collect(self) -> None:
        """Collect the scores of newly finished cells, and write all of them."""
        have = {(scores.cell.fold.name, scores.cell.seed, scores.cell.variant) for scores in self.scores}
        new = [
            cell_scores(cell, self._fold_number(cell), self._run_of(cell))
            for cell in self.grid.cells
            if cell.steps[-1] in self._done and (cell.fold.name, cell.seed, cell.variant) not in have
        ]
        if new:
            place = {id(cell): number for number, cell in enumerate(self.grid.cells)}
            self.scores = sorted([*self.scores, *new], key=lambda scores: place[id(scores.cell)])
            write_scores(self.scores, self.folder / RESULTS)

    def _run_of(self, cell: Cell) -> str:
        """Folder or URL of the run that holds a cell's results."""
        return str(absolute(self.grid.steps[cell.steps[-1]].job, self.root).run)

    def _fold_number(self, cell: Cell) -> int:
        """Number of the cell's fold in the protocol, else its position among the folds that are run, from 1."""
        if (own := getattr(cell.fold.split, "fold", None)) is not None:
            return int(own)
        folds = dict.fromkeys(cell.fold.name for cell in self.grid.cells)
        return 1 + list(folds).index(cell.fold.name)

    def _say(self, one: _Running, words: str) -> None:
        cell = self.grid.first_cell(one.step.key)
        done = len(self._done) + len(self._failed)
        print(self._progress.line(done, f"{one.step.name} of {cell}: {words}"), flush=True)

    def _stop(self) -> None:
        """Pass the request to stop on, but only once: a second one would end a step without its checkpoint."""
        if not self._stopping and not ray_stops_children():
            for one in self._running:
                one.process.terminate()
        self._stopping = True

    @contextmanager
    def _ended(self) -> Iterator[None]:
        """Ensure that no step is running after the block, however it ends."""
        try:
            yield
        finally:
            for one in self._running:
                one.process.terminate()
            deadline = time.monotonic() + _END_SECONDS
            while any(one.process.poll() is None for one in self._running) and time.monotonic() < deadline:
                time.sleep(_LOOK_SECONDS)
            for one in self._running:
                if one.process.poll() is None:
                    one.process.kill()


start: Start = start_process
"""How steps are started; tests replace it."""


def is_done(step: Step, root: Path) -> bool:
    """Whether a step has finished with its current inputs; the steps that it needs must be finished.

    Raises
    ------
    InputError
        When it has finished with other inputs.
    """
    job = absolute(step.job, root)
    if not locate(job.run).exists(DONE):
        return False
    return RunFolder(job.run, chained_digest(identity(step.job), list(check_inputs(job.inputs()).values()))).is_done()
