"""One cluster of two hosts, each with an address, a process table and a temporary folder of its own."""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from tests.tiny_jobs import ROOT, TinyJobs
from tests.two_hosts import Host, two_hosts

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(1200)]
BIN = Path(sys.executable).parent


class OneOfTwo:
    """A host with a state folder and a temporary folder."""

    def __init__(self, host: Host, folder: Path, temporary: Path) -> None:
        self._host, self.folder, self.temporary = host, folder, temporary
        self.address = host.address
        self.state = folder / "state"
        temporary.mkdir()
        self.env = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        self.env |= {"TMPDIR": str(temporary), "OMP_NUM_THREADS": "1"}

    def run(self, *words: str) -> "subprocess.CompletedProcess[str]":
        return self._host.run(words, self.env)

    def cluster(self, *words: str) -> str:
        """Output of `e2llm cluster` with these words, which must succeed."""
        done = self.run(str(BIN / "e2llm"), "cluster", *words, "--dir", str(self.state))
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def hosts(tmp_path_factory):
    with (
        two_hosts() as pair,
        pytest.MonkeyPatch.context() as patch,
        tempfile.TemporaryDirectory(prefix="h-", dir="/tmp") as short,  # for the names of sockets
    ):
        patch.chdir(ROOT)
        yield [
            OneOfTwo(host, tmp_path_factory.mktemp("host"), Path(short) / str(number))
            for number, host in enumerate(pair, 1)
        ]


@pytest.fixture(scope="module")
def joined(hosts):
    """The head's and the node's words when they were started as the head says."""
    head, node = hosts
    said = head.cluster("up", "--host", head.address, "--num-cpus", "1", "--ports", "21000-21099")
    (line,) = [line for line in said.splitlines() if "e2llm cluster join" in line]
    words = line.removeprefix("#").split()
    assert words == ["e2llm", "cluster", "join", f"{head.address}:21000", "--token", "e2llm.token"]
    token = node.folder / "e2llm.token"
    shutil.copy(head.state / "token", token)
    assert token.stat().st_mode & 0o777 == 0o600
    answer = node.cluster("join", words[3], "--token", str(token), "--num-cpus", "1", "--ports", "21000-21099")
    head.env |= dict(
        line.removeprefix("export ").replace("'", "").split("=", 1)
        for line in said.splitlines()
        if line.startswith("export ")
    )
    return said, answer


def wait_for_status(head, text):
    deadline = time.monotonic() + 240
    while text not in (said := head.cluster("status")):
        assert time.monotonic() < deadline, said
        time.sleep(0.5)


def test_the_head_lists_both_hosts_and_the_ports_to_open(hosts, joined):
    head, node = hosts
    said, answer = joined
    assert f"dashboard http://{head.address}:21001" in said
    assert "port 21000, dashboard-port 21001" in said
    assert f"this host is a node of {head.address}:21000" in answer
    assert "workers 210" in answer
    wait_for_status(head, f"# node {node.address}: 1 CPUs, 0 GPUs\n")
    assert f"# head {head.address}: 1 CPUs, 0 GPUs\n" in head.cluster("status")
    for host in hosts:
        assert len(list(host.temporary.glob("e2-*"))) == 1
        assert (host.state / "token").stat().st_mode & 0o777 == 0o600


def test_a_token_of_another_cluster_is_refused(hosts, joined):
    head, node = hosts
    wrong = node.folder / "wrong.token"
    wrong.touch(0o600)
    wrong.write_text("0" * 64)
    options = ["--token", str(wrong), "--dir", str(node.folder / "other")]
    done = node.run(str(BIN / "e2llm"), "cluster", "join", f"{head.address}:21000", *options)
    assert done.returncode == 2
    assert done.stderr == f"error: --token: is not that of {head.address}:21000. Copy it from the head again.\n"
    assert not (node.folder / "other").exists()


def test_a_training_job_runs_on_both(hosts, joined, tmp_path):
    """With one CPU each, two workers that need one are on both."""
    head, _ = hosts
    jobs = TinyJobs(tmp_path)
    spec = jobs.write("tiny-llm", resources={"workers": 2})
    done = head.run(sys.executable, "-m", "ray.scripts.scripts", "job", "submit", "--", str(spec))
    assert done.returncode == 0, done.stdout + done.stderr
    run = jobs.run("tiny-llm")
    assert "on 2 workers" in (run / "progress.log").read_text()
    assert (run / "DONE.json").exists()


def test_each_host_ends_what_it_started_and_no_more(hosts, joined):
    head, node = hosts
    assert "processes ended" in node.cluster("down")
    assert not node.state.exists()
    assert not list(node.temporary.glob("e2-*"))
    wait_for_status(head, f"# node {node.address}: 1 CPUs, 0 GPUs, lost\n")
    assert int(head.cluster("down").split()[0]) > 5
    assert not list(head.temporary.glob("e2-*"))
