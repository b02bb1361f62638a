"""The demo: every job once, on synthetic data, on its own cluster.

Run by ``make demo`` (``python -m jobs.demo``) and ``e2llm demo``. Each job is submitted with Ray's own
command line, as a user would; a job that is already done says so and costs a few seconds.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from filelock import FileLock, Timeout
from rich.console import Console
from rich.markup import escape
from rich.status import Status
from rich.table import Table

from cluster.start import local
from jobs.console import exit_discipline
from storage.errors import InputError
from storage.progress import clock

JOBS = ("ingest", "stage1", "features", "stage2", "stage3", "evaluate", "score")
EXPECTED_SECONDS = {
    "ingest": 45,
    "stage1": 144,
    "features": 27,
    "stage2": 59,
    "stage3": 220,
    "evaluate": 140,
    "score": 33,
}
"""Wall time of each job on two cores; the pace of the jobs already done scales the rest."""

SHOWN_METRICS = ("balanced_accuracy", "claim_accuracy")
SPECS = Path("jobs/demo")
RUN = Path("runs/demo")
LOCK = ".lock"
_TAIL_LINES = 20
_STOP_SECONDS = 20


@dataclass(frozen=True)
class JobRun:
    """Successful end of a job.

    Attributes
    ----------
    seconds : float
        Wall time.
    skipped : bool
        The job said that it was already done.
    """

    seconds: float
    skipped: bool


class JobFailed(Exception):
    """Failure of a demo job.

    Attributes
    ----------
    refused : bool
        The job printed a line that starts with ``error:``.
    """

    def __init__(self, job: str, log: Path, refused: bool) -> None:
        super().__init__(f"{job} failed; its log is {log}")
        self.refused = refused


def main(root: Path = local.ROOT) -> None:
    """Run the demo.

    Parameters
    ----------
    root : Path
        The repository: holds ``jobs/demo`` and gets ``runs/demo``.

    Raises
    ------
    InputError
        If a demo is already running there.
    SystemExit
        With status 1 if a job fails, 2 if it refuses its input.
    """
    console = Console(highlight=False)
    run = root / RUN
    with _only_one(run):
        started = time.monotonic()
        done = _run_jobs(root, console)
    seconds = {job: step.seconds for job, step in done.items()} | {"total": time.monotonic() - started}
    show_results(run, console, seconds)


def _run_jobs(root: Path, console: Console) -> dict[str, JobRun]:
    """Run all jobs on a private cluster."""
    directory = root / RUN / ".cluster"
    done: dict[str, JobRun] = {}
    try:
        local.down(directory)  # left by a demo that was killed
        console.print("starting a local Ray cluster ...")
        cluster = local.up(directory, root=root)
        for number, job in enumerate(JOBS, start=1):
            console.print(f"[bold]\\[{number}/{len(JOBS)}] {job}[/]  {_remaining(job, done)}")
            done[job] = submit(job, cluster, console)
    except JobFailed as failure:
        print(failure, file=sys.stderr)
        raise SystemExit(2 if failure.refused else 1) from None
    finally:
        _tear_down(directory)
    return done


@contextmanager
def _only_one(run: Path) -> Iterator[None]:
    """Hold the demo's lock; it ends with this process, however that ends."""
    run.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(run / LOCK, blocking=False, fallback_to_soft=False):
            yield
    except Timeout:
        raise InputError(str(run), "a demo is already running here", "Wait for it, or end it.") from None


def submit(job: str, cluster: local.ClusterInfo, console: Console, specs: Path = SPECS, run: Path = RUN) -> JobRun:
    """Submit one job, show its progress, and wait for its end.

    Parameters
    ----------
    job : str
        Name of the spec in ``jobs/demo``.
    cluster : ClusterInfo
        A running cluster; its root holds the specs and gets the log.
    console : Console
        Where progress goes: a live line on a terminal, plain lines elsewhere.

    Returns
    -------
    JobRun

    Raises
    ------
    JobFailed
        After the end of its log was printed.
    """
    log = cluster.root / RUN / "logs" / f"{job}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    identity = f"{job}-{time.time_ns()}"
    command = [sys.executable, "-m", "ray.scripts.scripts", "job", "submit", "--log-color", "false"]
    command += ["--submission-id", identity, "--", f"./{SPECS / job}.yaml"]
    started = time.monotonic()
    process = subprocess.Popen(
        command,
        env=cluster.env(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,  # Ctrl-C is ours: the job is stopped first, then the client
    )
    try:
        said = _follow(process, log, console)
        status = process.wait()
    except BaseException:
        _stop(identity, process, cluster)
        raise
    if status != 0:
        tail = log.read_text(encoding="utf-8").splitlines()[-_TAIL_LINES:]
        print("\n".join(tail), file=sys.stderr)
        raise JobFailed(job, log, "error:" in said)
    done = JobRun(time.monotonic() - started, "already done" in said)
    console.print(f"      {'already done' if done.skipped else 'done in ' + clock(done.seconds)}")
    return done


def show_results(run: Path, console: Console, seconds: Mapping[str, float]) -> None:
    """Print the results, one rationale, the report's path and the time of each step.

    Parameters
    ----------
    run : Path
        Folder that holds ``evaluation``.
    console : Console
        Where to print.
    seconds : mapping of str to float
        Wall time of each step.
    """
    evaluation = run / "evaluation"
    summary = json.loads((evaluation / "summary.json").read_text(encoding="utf-8"))
    console.print(_results_table(summary["results"]))
    rationale = _first_rationale(evaluation / "predictions.parquet")
    if rationale is not None:
        console.print("[bold]One answer of the model:[/]")
        console.print(rationale, markup=False)
    times = "  ".join(f"{step} {clock(value)}" for step, value in seconds.items())
    console.print(f"[bold]Wall time:[/] {times}")
    console.print(f"[bold]Report:[/] {evaluation / 'report.html'}")


def _follow(process: subprocess.Popen[str], log: Path, console: Console) -> set[str]:
    """Copy a job's output to its log and show its progress; return the telling words it used."""
    assert process.stdout is not None
    said = set()
    with log.open("w", encoding="utf-8") as file, console.status("") as live:
        for line in process.stdout:
            file.write(line)
            file.flush()
            if line.startswith("error:"):
                said.add("error:")
            if "already done" in line:
                said.add("already done")
            if line.startswith("["):
                _show_progress(line.rstrip(), console, live)
    return said


def _show_progress(line: str, console: Console, live: Status) -> None:
    if console.is_terminal:
        live.update(escape(line))
    else:
        print(f"      {line}", flush=True)


def _stop(identity: str, process: subprocess.Popen[str], cluster: local.ClusterInfo) -> None:
    """Stop a job and the client that waits for it."""
    command = [sys.executable, "-m", "ray.scripts.scripts", "job", "stop", identity]
    try:
        subprocess.run(command, env=cluster.env(), capture_output=True, timeout=_STOP_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        print("the job does not stop; it ends with the cluster", file=sys.stderr)
    finally:
        process.terminate()
        process.wait()


def _tear_down(directory: Path) -> None:
    """End the cluster; a second Ctrl-C must not leave half of it running."""
    kept = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        local.down(directory)
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)


def _remaining(job: str, done: Mapping[str, JobRun]) -> str:
    """Return the expected time to the end, scaled by how fast the steps that had work to do were."""
    worked = {name: step.seconds for name, step in done.items() if not step.skipped}
    planned = sum(EXPECTED_SECONDS[name] for name in worked)
    pace = sum(worked.values()) / planned if planned else 1.0
    left = sum(EXPECTED_SECONDS[name] for name in JOBS[JOBS.index(job) :])
    return f"about {clock(left * pace)} to go"


def _results_table(results: list[dict[str, Any]]) -> Table:
    table = Table(title="Held-out synthetic subjects: a software check, not evidence about people")
    for name in ("task", "what", "value", "interval", "chance"):
        table.add_column(name, justify="left" if name in ("task", "what") else "right", no_wrap=name != "what")
    for row in (row for row in results if row["metric"] in SHOWN_METRICS):
        low, high = row.get("ci_low"), row.get("ci_high")
        interval = f"{low:.3f} to {high:.3f}" if low is not None and high is not None else ""
        chance = "" if row.get("chance") is None else f"{row['chance']:.3f}"
        value = "" if row["value"] is None else f"{row['value']:.3f}"
        style = "bold" if row.get("primary") else None
        table.add_row(str(row["task"]), _what(row), value, interval, chance, style=style)
    return table


def _what(row: Mapping[str, Any]) -> str:
    """Model, condition, readout and wording of a result, without the defaults."""
    from e2llm_core.evaluation.report.verdicts import worded

    model, condition = str(row["model"]), str(row["condition"])
    parts = [model]
    if condition not in ("eeg", model):
        parts.append(condition)
    if row["metric"] == "claim_accuracy":
        parts.append("statements that hold")
    elif model == "e2llm":
        parts.append(str(row["readout"]))
    return worded(", ".join(parts), str(row["task"]), row["prompt"])


def _first_rationale(predictions: Path) -> str | None:
    import pandas as pd

    rows = pd.read_parquet(predictions, columns=["task", "text"])
    texts = [text for text in rows["text"] if isinstance(text, str) and "<think>" in text]
    return texts[0] if texts else None


def _command() -> NoReturn:
    with exit_discipline():
        main()
    raise SystemExit(0)


if __name__ == "__main__":
    _command()
