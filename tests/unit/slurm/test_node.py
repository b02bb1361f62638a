"""The command line of each node's Ray, and what the nodes do that are left without their head."""

import subprocess
import sys
import threading
import time

import psutil
import pytest

from cluster.slurm import node
from cluster.slurm.allocation import Allocation
from cluster.slurm.ports import block_of
from cluster.start.ports import HEAD_OPTIONS, HEAD_VARIABLES, NODE_OPTIONS
from cluster.start.ray_start import is_running
from storage.errors import InputError

PORT = block_of(31)[0]


def options(command):
    return dict(word.removeprefix("--").partition("=")[::2] for word in command[4:])


def test_the_head_listens_where_all_expect_it():
    command, variables = node._ray_start({"num-cpus": 4}, "10.0.0.1", PORT, is_head=True)
    found = options(command)
    assert {"head", "block"} <= found.keys()
    assert (found["port"], found["node-ip-address"]) == (str(PORT), "10.0.0.1")
    assert found["dashboard-host"] == "127.0.0.1"
    assert found["min-worker-port"] == found["max-worker-port"] == "0"
    numbers = [found[name] for name in HEAD_OPTIONS + NODE_OPTIONS] + [variables[name] for name in HEAD_VARIABLES]
    assert len(set(numbers)) == len(numbers)


def test_another_node_joins_it_from_the_address_that_leads_there():
    command, variables = node._ray_start({"num-cpus": 4}, "127.0.0.1", PORT, is_head=False)
    found = options(command)
    assert (found["address"], found["node-ip-address"]) == (f"127.0.0.1:{PORT}", "127.0.0.1")
    assert not {"head", *HEAD_OPTIONS} & found.keys()
    assert variables == {}


def test_nodes_that_do_not_know_each_other_are_named():
    with pytest.raises(InputError, match=r"no\.such\.host\.invalid: cannot be reached"):
        node.address_towards("no.such.host.invalid")


PARENT = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
print("Ray runtime started", child.pid, flush=True)
time.sleep(60)
"""


def test_ray_ends_with_all_that_it_started(tmp_path, monkeypatch):
    monkeypatch.setattr(node, "make_temp_dir", lambda: tmp_path / "ray")
    (tmp_path / "ray").mkdir()
    ended, log = threading.Event(), tmp_path / "ray/start.log"
    children: list[psutil.Process] = []

    def end_when_it_runs():
        while not log.exists() or not log.read_text().endswith("\n"):
            time.sleep(0.05)
        children.append(psutil.Process(int(log.read_text().split()[-1])))
        ended.set()

    threading.Thread(target=end_when_it_runs).start()
    assert node._run([sys.executable, "-c", PARENT, "--"], {}, "n1", ended)
    assert not is_running(children[0])
    assert not (tmp_path / "ray").exists()


def test_ray_that_ends_by_itself_says_why(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(node, "make_temp_dir", lambda: tmp_path)
    assert not node._run([sys.executable, "-c", "print('no room'); exit(3)"], {}, "n1", threading.Event())
    assert capsys.readouterr().out == "[slurm] n1: Ray ended with status 3\nno room\n"


@pytest.mark.parametrize("wanted", [True, False, None], ids=["wanted", "cancelled", "unknown"])
def test_nodes_without_their_head_put_the_job_back(monkeypatch, wanted):
    def is_running(self):
        if wanted is None:
            raise InputError("squeue", "Socket timed out", "Try again later.")
        return wanted

    requeued = []
    allocation = Allocation(job_id=7, name="7", nodes=("n1", "n2"), head="n2")
    monkeypatch.setattr(Allocation, "of_this_process", classmethod(lambda cls: allocation))
    monkeypatch.setattr(Allocation, "is_running", is_running)
    monkeypatch.setattr(Allocation, "requeue", lambda self: requeued.append(self.name))
    node._requeue("n1")
    assert requeued == ([] if wanted is False else ["7"])


WAITING = """
import signal
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
print("ready", flush=True)
signal.sigwait({signal.SIGTERM})
"""


def test_the_launcher_hears_of_what_slurm_sends_to_the_steps():
    launcher = subprocess.Popen([sys.executable, "-c", WAITING], stdout=subprocess.PIPE, text=True)
    assert launcher.stdout is not None
    assert launcher.stdout.readline() == "ready\n"
    node._tell(launcher.pid)
    assert launcher.wait(30) == 0
    launcher.stdout.close()
    node._tell(launcher.pid)  # gone: no error
