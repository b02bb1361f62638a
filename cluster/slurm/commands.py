"""SLURM's commands: run, and repeated while its controller is busy or another one takes over."""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Sequence

from storage.errors import InputError

_NOT_FOUND = 127
_BUSY = re.compile(
    "Socket timed out|Unable to contact slurm controller|Connection refused|Communication connection failure"
    "|Zero Bytes were transmitted|standby mode|try again",
    re.IGNORECASE,
)
_BUSY_SECONDS = 120.0
_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 1.0, 15.0
_REPEATABLE = (("squeue",), ("scontrol", "show"), ("scontrol", "requeue"))
"""Commands that may safely be repeated; a second ``sbatch`` would submit a second job."""


def ask(*command: str, name: str = "") -> str:
    """Run one of SLURM's commands, called `name` in messages, and return its output.

    Dates in it are of the form ``2026-01-31T23:59:59``.

    Raises
    ------
    InputError
        When it is not installed, or refuses; for what may be asked twice, when it still does after two minutes.
    """
    name = name or command[0]
    may_repeat = any(command[: len(words)] == words for words in _REPEATABLE)
    deadline, pause = time.monotonic() + _BUSY_SECONDS, _PAUSE_SECONDS
    while _is_busy(done := _run(command, name)) and may_repeat and time.monotonic() + pause < deadline:
        time.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
    if done.returncode:
        problem = done.stderr.strip() or f"exit status {done.returncode}"
        remedy = "Try again later." if _is_busy(done) else "SLURM refused; correct what it names."
        raise InputError(name, problem, remedy)
    return done.stdout.strip()


def _run(command: Sequence[str], name: str) -> subprocess.CompletedProcess[str]:
    variables = os.environ | {"SLURM_TIME_FORMAT": "standard"}
    try:
        done = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise _absent(command[0]) from None
    if done.returncode == _NOT_FOUND:
        raise _absent(name)
    return done


def _is_busy(done: subprocess.CompletedProcess[str]) -> bool:
    return done.returncode != 0 and _BUSY.search(done.stderr) is not None


def _absent(name: str) -> InputError:
    return InputError(name, "not found", "Run this where SLURM's commands are installed.")
