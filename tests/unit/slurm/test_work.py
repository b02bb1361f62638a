"""How many workers a job gets, and what of its end goes back to the queue."""

import math
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest

from cluster.resources import TrainingResources
from cluster.slurm import launcher
from cluster.slurm.allocation import Allocation
from cluster.slurm.launcher import Work, launch
from cluster.slurm.node import resources
from jobs.load import load_spec
from jobs.slurm import takes_all
from jobs.spec import SPECS
from storage.errors import InputError

TWO = {"n1": {"CPU": 16.0, "GPU": 8.0}, "n2": {"CPU": 16.0, "GPU": 4.0}}
GPU_WORKER = TrainingResources(workers=4, cpus_per_worker=2, gpus_per_worker=1)
ROOT = Path(__file__).resolve().parents[3]
ALLOCATION = Allocation(job_id=7, name="7", nodes=("n1", "n2"), head="n1")
WORK = """
import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))
print("ready", flush=True)
time.sleep(60)
"""
SLOW = """
import signal, sys, time
def checkpoint(*_):
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(3))
    time.sleep({})
    sys.exit(75)
signal.signal(signal.SIGTERM, checkpoint)
print("ready", flush=True)
time.sleep(60)
"""
UNTIL = """
import os, time
print("ready", flush=True)
while not os.path.exists({!r}):
    time.sleep(0.1)
time.sleep(1)
"""


def test_all_that_there_is_room_for(capsys):
    work = Work(("run",), GPU_WORKER, fills=True).sized(TWO)
    assert work.command == ("run", "resources.workers=12")
    assert work.resources.fewest_workers == 12
    assert capsys.readouterr().out == "[slurm] resources.workers=12: all that the allocation has room for\n"


def test_what_was_named_stays():
    work = Work(("run",), GPU_WORKER, fills=False)
    assert work.sized(TWO) is work


def test_no_room_for_one_worker_is_refused():
    work = Work(("run",), GPU_WORKER, fills=True)
    with pytest.raises(ValueError, match="one worker asks for 2 CPUs and 1 GPUs; n1 has 16 CPUs and 0 GPUs"):
        work.sized({"n1": {"CPU": 16.0}})


@pytest.mark.parametrize(
    ("spec", "overrides", "expected"),
    [
        ("stage3", [], True),
        ("stage3", ["resources.cpus_per_worker=2"], True),
        ("stage3", ["resources.workers=4"], False),
        ("stage3", ["resources.workers={min: 1, max: 4}"], False),
        ("stage3", ["resources={workers: 4}"], False),
        ("stage3", ["resources={cpus_per_worker: 2}"], True),
        ("ingest", [], False),
    ],
)
def test_training_takes_all_unless_it_is_told_otherwise(spec, overrides, expected):
    assert takes_all(load_spec(ROOT / f"jobs/{spec}.yaml", overrides, SPECS)) is expected


def test_resources_of_a_node_are_those_of_the_step():
    assert resources({"SLURM_CPUS_ON_NODE": "6", "SLURM_GPUS_ON_NODE": "2"}) == {"num-cpus": "6", "num-gpus": "2"}
    assert resources({"SLURM_CPUS_ON_NODE": "6"}) == {"num-cpus": "6", "num-gpus": 0}


class Cluster:
    """Nodes that may be lost."""

    def __init__(self, nodes):
        self.there = dict(nodes)

    def wait(self, is_asked_to_end):
        return dict(self.there)

    def nodes(self):
        return dict(self.there)


@pytest.fixture
def slurm(monkeypatch):
    """A launcher on nodes that are made up; yields them and what became of the job in SLURM's eyes."""
    cluster, said = Cluster(TWO), {"state": True, "left": math.inf, "requeued": 0}

    @contextmanager
    def nodes(allocation, folder):
        yield cluster

    def told(name):
        def answer(self):
            if isinstance(said[name], Exception):
                raise said[name]
            return said[name]

        return answer

    def requeue(self):
        said["requeued"] += 1

    monkeypatch.setattr(launcher, "ray_on_nodes", nodes)
    monkeypatch.setattr(launcher, "_LOOK_SECONDS", 0.0)
    monkeypatch.setattr(Allocation, "is_running", told("state"))
    monkeypatch.setattr(Allocation, "seconds_left", told("left"))
    monkeypatch.setattr(Allocation, "requeue", requeue)
    before = {number: signal.getsignal(number) for number in (signal.SIGUSR1, signal.SIGTERM)}
    yield cluster, said
    for number, handler in before.items():
        signal.signal(number, handler)


def run(script, resources=GPU_WORKER):
    return launch(ALLOCATION, Work((sys.executable, "-c", script), resources, False), None)


@pytest.mark.parametrize("status", [0, 1, 2, 75])
def test_a_job_that_ends_by_itself_is_over(slurm, status):
    assert run(f"import sys; sys.exit({status})") == status
    assert slurm[1]["requeued"] == 0


def when_ready(monkeypatch, action):
    """Do something once the job's process works."""
    plain = subprocess.Popen

    def popen(command, **options):
        process = plain(command, stdout=subprocess.PIPE, text=True, **options)

        def watch():
            assert process.stdout.readline() == "ready\n"
            action()

        threading.Thread(target=watch).start()
        return process

    monkeypatch.setattr(subprocess, "Popen", popen)


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGTERM])
def test_a_warning_ends_the_job_and_puts_it_back(slurm, monkeypatch, number):
    when_ready(monkeypatch, lambda: signal.raise_signal(number))
    assert run(WORK) == 75
    assert slurm[1]["requeued"] == 1


def test_a_job_that_was_cancelled_does_not_come_back(slurm, monkeypatch):
    slurm[1]["state"] = False
    when_ready(monkeypatch, lambda: signal.raise_signal(signal.SIGTERM))
    assert run(WORK) == 75
    assert slurm[1]["requeued"] == 0


BUSY = InputError("squeue", "Socket timed out", "Try again later.")


def test_a_job_of_unknown_state_goes_back(slurm, monkeypatch):
    slurm[1].update(state=BUSY, left=BUSY)
    when_ready(monkeypatch, lambda: signal.raise_signal(signal.SIGUSR1))
    assert run(WORK) == 75
    assert slurm[1]["requeued"] == 1


def test_a_requeue_that_fails_is_one_line_and_leaves_the_status_alone(slurm, monkeypatch, capsys):
    def requeue(self):
        raise InputError("scontrol", "Requested operation is presently disabled", "SLURM refused.")

    monkeypatch.setattr(Allocation, "requeue", requeue)
    when_ready(monkeypatch, lambda: signal.raise_signal(signal.SIGUSR1))
    assert run(WORK) == 75
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("[slurm] the job could not be requeued, submit it again: scontrol: Requested operation")


@pytest.mark.parametrize("left", [600, 3600, BUSY])
def test_a_job_goes_back_whatever_time_it_has_left(slurm, monkeypatch, capsys, left):
    """Every kind of job goes on where it was, so that each start is progress."""
    slurm[1]["left"] = left
    when_ready(monkeypatch, lambda: signal.raise_signal(signal.SIGUSR1))
    assert run(WORK) == 75
    assert slurm[1]["requeued"] == 1
    assert capsys.readouterr().out.splitlines()[-1].endswith("the job will resume where it was")


@pytest.mark.parametrize(
    ("left", "seconds"),
    [(math.inf, 900), (3600, 900), (600, 510), (100, 50), (0, 900), (-3, 900), (BUSY, pytest.approx(510, abs=1))],
)
def test_the_checkpoint_leaves_time_for_the_requeue(slurm, left, seconds):
    slurm[1]["left"] = left
    assert launcher._checkpoint_seconds(ALLOCATION) == seconds


@pytest.mark.parametrize(("left", "seconds", "status"), [(1.0, 60, 3), (math.inf, 2, 75)], ids=["too slow", "in time"])
def test_a_checkpoint_that_takes_too_long_is_given_up_for_the_requeue(slurm, monkeypatch, left, seconds, status):
    slurm[1]["left"] = left
    when_ready(monkeypatch, lambda: signal.raise_signal(signal.SIGUSR1))
    assert run(SLOW.format(seconds)) == status
    assert slurm[1]["requeued"] == 1


@pytest.mark.parametrize("status", [0, 2])
def test_a_job_that_finished_in_spite_of_a_warning_does_not_come_back(slurm, monkeypatch, status):
    when_ready(monkeypatch, lambda: signal.raise_signal(signal.SIGUSR1))
    assert run(WORK.replace("75", str(status))) == status
    assert slurm[1]["requeued"] == 0


def test_a_fixed_number_of_workers_that_lost_its_room_goes_back(slurm, monkeypatch, capsys):
    when_ready(monkeypatch, lambda: slurm[0].there.pop("n2"))
    twelve = GPU_WORKER.model_copy(update={"workers": 12})
    assert run(WORK, twelve) == 75
    assert slurm[1]["requeued"] == 1
    assert "[slurm] lost n2\n" in capsys.readouterr().out


def test_an_elastic_job_goes_on_with_what_is_left(slurm, monkeypatch, capsys, tmp_path):
    cluster, said = slurm
    looked = tmp_path / "looked"

    def lose():
        del cluster.there["n2"]
        monkeypatch.setattr(cluster, "nodes", lambda: looked.touch() or dict(cluster.there))

    when_ready(monkeypatch, lose)
    elastic = TrainingResources.model_validate({"workers": {"min": 4, "max": 12}, "gpus_per_worker": 1})
    assert run(UNTIL.format(str(looked)), elastic) == 0
    assert said["requeued"] == 0
    assert "[slurm] lost n2\n" in capsys.readouterr().out


def test_a_head_that_does_not_answer_for_a_while_has_lost_nothing(slurm, monkeypatch, capsys):
    monkeypatch.setattr(slurm[0], "nodes", lambda: None)
    assert run("import time; time.sleep(1)") == 0
    assert "lost" not in capsys.readouterr().out
