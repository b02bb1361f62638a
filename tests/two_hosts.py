"""Two hosts on one machine: each in a network, a process table and a shared memory of its own; needs root."""

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent
ADDRESSES = ("10.78.0.1", "10.78.0.2")
_READY = "ready"
_ENTER = ("--net", "--uts", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child", "--propagation", "private")
_SET_UP = """
hostname "$1"
mount -t tmpfs tmpfs /dev/shm
ip link set lo up
read -r go
ip addr add "$2/24" dev wire
ip link set wire up
echo ready
exec sleep infinity
"""


class Host:
    """One of the two."""

    def __init__(self, name: str, address: str) -> None:
        self.address = address
        command = ["unshare", *_ENTER, "bash", "-c", _SET_UP, "bash", name, address]
        self._outer = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.pid = 0

    def find(self) -> None:
        """Wait until it is there."""
        children = Path(f"/proc/{self._outer.pid}/task/{self._outer.pid}/children")
        while not (found := children.read_text().split()):
            assert self._outer.poll() is None
        self.pid = int(found[0])

    def open_link(self) -> None:
        """Give its end of the link an address."""
        assert self._outer.stdin is not None
        assert self._outer.stdout is not None
        self._outer.stdin.write("\n")
        self._outer.stdin.flush()
        assert self._outer.stdout.readline().strip() == _READY

    def command(self, *words: str) -> list[str]:
        """Return a command line that runs `words` on this host."""
        return ["nsenter", "--target", str(self.pid), "--all", f"--wd={Path.cwd()}", *words]

    def run(self, words: Sequence[str], env: dict[str, str], **options: object) -> subprocess.CompletedProcess[str]:
        """Run a command there to its end."""
        return subprocess.run(self.command(*words), env=env, capture_output=True, text=True, check=False, **options)

    def end(self) -> None:
        """End it and all that runs there."""
        self._outer.kill()
        self._outer.wait()


@contextlib.contextmanager
def two_hosts() -> Iterator[tuple[Host, Host]]:
    """Have two hosts with a link between them while the block runs."""
    tools = ("unshare", "nsenter", "ip", "bash", "mount")
    if (
        os.geteuid() != 0
        or not all(map(shutil.which, tools))
        or subprocess.run(["unshare", "--net", "true"]).returncode
    ):
        pytest.skip("needs to be root, to make networks of its own")
    with contextlib.ExitStack() as started:
        pair = tuple(Host(f"host{number}", address) for number, address in enumerate(ADDRESSES, 1))
        for host in pair:
            started.callback(host.end)
        for host in pair:
            host.find()
        first, second = pair
        ends = ["name", "wire", "netns", str(first.pid)], ["peer", "name", "wire", "netns", str(second.pid)]
        subprocess.run(["ip", "link", "add", *ends[0], "type", "veth", *ends[1]], check=True)
        for host in pair:
            host.open_link()
        yield first, second


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


@contextlib.contextmanager
def places_on_two_hosts(folder: Path) -> Iterator[list[OneOfTwo]]:
    """Have two hosts to work on while the block runs, their states in a folder."""
    with (
        two_hosts() as pair,
        pytest.MonkeyPatch.context() as patch,
        tempfile.TemporaryDirectory(prefix="h-", dir="/tmp") as short,  # for the names of sockets
    ):
        patch.chdir(ROOT)
        names = [str(number) for number, _ in enumerate(pair, 1)]
        for name in names:
            (folder / name).mkdir()
        yield [OneOfTwo(host, folder / name, Path(short) / name) for name, host in zip(names, pair, strict=True)]


def join(head: OneOfTwo, node: OneOfTwo) -> tuple[str, str]:
    """Start a cluster as a person would, doing what the head says; returns the head's and the node's words."""
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
