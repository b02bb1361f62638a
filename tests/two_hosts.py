"""Two hosts on one machine: each in a network, a process table and a shared memory of its own; needs root."""

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

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
