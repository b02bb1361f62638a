"""A pod that ends asks its work to end first, and waits for it no longer than the grace."""

import subprocess
import sys
import time
from types import SimpleNamespace

import psutil
import pytest

from cluster.kubernetes import pod_stop

WORK = """
import signal, sys, time
def stop(*_):
    time.sleep(0.5)
    open(sys.argv[1], "w").write("checkpoint")
    sys.exit(75)
signal.signal(signal.SIGTERM, stop)
print("ready", flush=True)
time.sleep(60)
"""


@pytest.fixture
def job(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", WORK, str(tmp_path / "saved")], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


@pytest.fixture
def listed(monkeypatch):
    """Jobs that Ray's job server would name."""
    jobs: list[SimpleNamespace] = []
    monkeypatch.setattr(
        "ray.job_submission.JobSubmissionClient", lambda url: SimpleNamespace(list_jobs=lambda: jobs), raising=True
    )
    return jobs


def entry(pid, status="RUNNING", address="127.0.0.1"):
    return SimpleNamespace(status=status, driver_info=SimpleNamespace(pid=str(pid), node_ip_address=address))


def test_the_head_waits_for_the_checkpoint_of_its_job(job, listed, tmp_path):
    listed.append(entry(job.pid))
    pod_stop.main(["head", "--grace-seconds", "30"])
    assert (tmp_path / "saved").read_text() == "checkpoint"
    assert job.wait(timeout=5) == 75


@pytest.mark.parametrize(
    "other",
    [{"status": "SUCCEEDED"}, {"address": "192.0.2.1"}],
    ids=["ended", "on another node"],
)
def test_no_other_process_is_touched(job, listed, other):
    listed.append(entry(job.pid, **other))
    assert pod_stop.end_jobs("http://unused") == []
    assert job.poll() is None


def test_a_job_that_is_just_starting_or_gone_is_no_error(listed):
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    listed += [SimpleNamespace(status="RUNNING", driver_info=None), entry(child.pid)]
    assert pod_stop.end_jobs("http://unused") == []


def test_it_waits_no_longer_than_the_grace(monkeypatch):
    monkeypatch.setattr(pod_stop, "end_jobs", lambda url: [psutil.Process()])
    begin = time.monotonic()
    pod_stop.main(["head", "--grace-seconds", "1"])
    assert 0.9 < time.monotonic() - begin < 5


def test_a_worker_announces_itself_and_waits_until_its_work_has_ended(monkeypatch):
    commands, busy = [], [["a"], ["a"], []]
    monkeypatch.setattr(subprocess, "run", lambda command, **_: commands.append(command))
    monkeypatch.setattr(pod_stop, "busy_workers", lambda: busy.pop(0))
    pod_stop.main(["worker", "--grace-seconds", "30"])
    assert busy == []
    assert commands[0][:2] == ["ray", "drain-node"]
    assert commands[0][-2:] == ["--deadline-remaining-seconds", "30"]


def test_ray_knows_the_command(monkeypatch):
    """`ray drain-node` is not part of Ray's public interface."""
    from click.testing import CliRunner
    from ray.scripts.scripts import cli

    commands: list[list[str]] = []
    monkeypatch.setattr(subprocess, "run", lambda command, **_: commands.append(command))
    pod_stop.drain(5)
    shown = CliRunner().invoke(cli, ["drain-node", "--help"]).output
    assert all(word in shown for word in commands[0] if word.startswith("--"))
    assert "DRAIN_NODE_REASON_PREEMPTION" in shown


def test_idle_workers_are_not_waited_for(monkeypatch):
    titles = [["ray::IDLE"], ["ray::RayTrainWorker.run()"], ["python", "-m", "jobs"], []]
    processes = [SimpleNamespace(cmdline=lambda title=title: title) for title in titles]
    monkeypatch.setattr(psutil, "process_iter", lambda: processes)
    assert pod_stop.busy_workers() == [processes[1]]
