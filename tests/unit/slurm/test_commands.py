"""SLURM's commands: what is repeated, and what is refused."""

import os

import pytest

from cluster.slurm import commands
from cluster.slurm.commands import ask
from storage.errors import InputError

TIMED_OUT = "slurm_load_jobs error: Socket timed out on send/recv operation"


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """A `squeue`, `scontrol` and `sbatch` that are busy a number of times; yields that file and the pauses."""
    for name in ("squeue", "scontrol", "sbatch"):
        script = 'echo >> $CALLS; [ $(wc -l < $CALLS) -le $BUSY ] && { echo "$SAYS" >&2; exit 1; }'
        (tmp_path / name).write_text(f"#!/bin/bash\n{script}\necho here $SLURM_TIME_FORMAT\n")
        (tmp_path / name).chmod(0o755)
    calls, pauses, now = tmp_path / "calls", list[float](), [0.0]

    def sleep(seconds):
        pauses.append(seconds)
        now[0] += seconds

    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setenv("CALLS", str(calls))
    monkeypatch.setenv("SAYS", TIMED_OUT)
    monkeypatch.setenv("SLURM_TIME_FORMAT", "relative")
    monkeypatch.setattr(commands.time, "sleep", sleep)
    monkeypatch.setattr(commands.time, "monotonic", lambda: now[0])
    return calls, pauses


@pytest.mark.parametrize(
    "says",
    [
        TIMED_OUT,
        "slurm_load_jobs error: Unable to contact slurm controller (connect failure)",
        "scontrol: error: Slurm backup controller in standby mode",
        "Zero Bytes were transmitted or received",
        "Job can not be altered now, try again later",
    ],
)
@pytest.mark.parametrize("command", [("squeue",), ("scontrol", "show", "node"), ("scontrol", "requeue", "7")])
def test_a_controller_that_is_busy_is_asked_again(slurm, monkeypatch, command, says):
    monkeypatch.setenv("BUSY", "2")
    monkeypatch.setenv("SAYS", says)
    assert ask(*command) == "here standard"
    assert slurm[1] == [1, 2]


def test_after_two_minutes_it_is_refused(slurm, monkeypatch):
    monkeypatch.setenv("BUSY", "99")
    with pytest.raises(InputError, match=r"^squeue: slurm_load_jobs error: Socket timed out .*\. Try again later\."):
        ask("squeue")
    assert 100 < sum(slurm[1]) < 120


@pytest.mark.parametrize(("command", "says"), [("sbatch", TIMED_OUT), ("squeue", "Invalid job id specified")])
def test_what_would_submit_twice_or_is_refused_is_said_once(slurm, monkeypatch, command, says):
    monkeypatch.setenv("BUSY", "1")
    monkeypatch.setenv("SAYS", says)
    with pytest.raises(InputError, match=says):
        ask(command)
    assert slurm[0].read_text() == "\n"


def test_what_slurm_refuses_is_one_line():
    with pytest.raises(InputError, match=r"^no-such-command: not found"):
        ask("no-such-command")
    with pytest.raises(InputError, match=r"^sbatch: not found"):
        ask("bash", "-c", "exec no-such-command", name="sbatch")
    with pytest.raises(InputError, match=r"^sbatch: no such partition\. SLURM refused"):
        ask("bash", "-c", "echo no such partition >&2; exit 1", name="sbatch")
