"""A real SLURM cluster on this machine: munged, slurmctld, and a slurmd for each node in namespaces of its own.

Each node has its own name, address and process numbers; ending the first process of its namespace ends all that ran
on it, which is how a node is lost here. Nothing is added to the machine's own network.
"""

import os
import secrets
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

NEEDED = ("munged", "slurmctld", "slurmd", "sbatch", "scontrol", "unshare", "nsenter", "ip", "mknod")
CONTROLLER = "ctl"
_GPUS = 8
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_SECONDS = 60.0

_CONFIGURATION = """
ClusterName=tests
SlurmctldHost={controller}(10.77.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/run/socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/log/slurmctld.log
SlurmdLogFile={folder}/log/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=bf_interval=1,sched_interval=1
SlurmdParameters=config_overrides
ReturnToService=2
SlurmdTimeout=20
KillWait=60
MailProg=/bin/true
GresTypes=gpu
NodeName=DEFAULT CPUs=2 RealMemory=4000 Gres=gpu:{gpus} State=UNKNOWN
{nodes}
PartitionName=debug Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def obstacle() -> str:
    """Why no such cluster can run here; empty when one can."""
    absent = [name for name in NEEDED if shutil.which(name, path=_PATH) is None]
    if absent:
        return f"needs {', '.join(absent)}: apt-get install slurm-wlm munge iproute2"
    if os.geteuid() != 0:
        return "needs to be root, to make namespaces"
    tried = subprocess.run(["unshare", "--net", "--uts", "--mount", "--pid", "--fork", "true"], capture_output=True)
    return "" if tried.returncode == 0 else f"needs namespaces: {tried.stderr.decode().strip()}"


class SlurmCluster:
    """A controller and some nodes.

    Parameters
    ----------
    folder : Path
        Configuration, state and logs.
    nodes : sequence of str
        Their names.
    """

    def __init__(self, folder: Path, nodes: Sequence[str] = ("n1", "n2")) -> None:
        self.folder, self.nodes = folder, tuple(nodes)
        self._first: dict[str, subprocess.Popen[bytes]] = {}
        self._munged: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start all daemons and wait until every node is idle."""
        self._configure()
        key = self.folder / "munge/munge.key"
        options = {
            "key-file": key,
            "socket": self.folder / "run/socket",
            "pid-file": self.folder / "munge/pid",
            "log-file": self.folder / "munge/log",
            "seed-file": self.folder / "munge/seed",
        }
        command = ["munged", "--foreground", "--force", *(f"--{name}={value}" for name, value in options.items())]
        self._munged = subprocess.Popen(command, env={"PATH": _PATH}, stderr=subprocess.DEVNULL)
        wait(options["socket"].exists)
        self._enclose(CONTROLLER)
        bridge = "ip link add br0 type bridge && ip addr add 10.77.0.1/24 dev br0 && ip link set br0 up"
        self._network(CONTROLLER, bridge)
        self._inside(CONTROLLER, "slurmctld")
        for name in self.nodes:
            self.repair(name)
        wait(lambda: self.states() == dict.fromkeys(self.nodes, "idle"))

    def repair(self, name: str) -> None:
        """Start a node that was lost, or never was there."""
        self._enclose(name)
        cable = f"v{self.nodes.index(name)}"
        ends = f"{cable} type veth peer name eth0 netns {self._first[name].pid}"
        self._network(CONTROLLER, f"ip link add {ends} && ip link set {cable} master br0 up")
        self._network(name, f"ip addr add {self._address(name)}/24 dev eth0 && ip link set eth0 up")
        self._inside(name, f"slurmd -N {name}")

    def lose(self, name: str) -> None:
        """Take a node away, and all that runs on it, without a word."""
        first = self._first.pop(name)
        first.kill()
        first.wait()

    def stop(self) -> None:
        """End everything."""
        for name in [*self._first]:
            self.lose(name)
        if self._munged is not None:
            self._munged.terminate()
            self._munged.wait()

    def run(
        self, *command: str | Path, cwd: Path | None = None, env: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a command on the login node, which is the controller's; never fails by itself."""
        return subprocess.run(
            [*self._enter(CONTROLLER), f"--wdns={cwd or self.folder}", *map(str, command)],
            env=self.environment | (env or {}),
            capture_output=True,
            text=True,
            check=False,
        )

    def output(self, *command: str | Path, cwd: Path | None = None, env: dict[str, str] | None = None) -> str:
        """What a command says that must succeed."""
        done = self.run(*command, cwd=cwd, env=env)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.strip()

    @property
    def environment(self) -> dict[str, str]:
        """In which SLURM's commands reach this cluster; nothing of another SLURM or Ray is in it."""
        foreign = ("RAY_", "SLURM_", "SBATCH_")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
        return kept | {"SLURM_CONF": str(self.folder / "slurm.conf"), "PATH": f"{_PATH}:{kept.get('PATH', '')}"}

    def states(self) -> dict[str, str]:
        """State of each node."""
        lines = self.run("sinfo", "--noheader", "--Node", "--format=%N %t").stdout.splitlines()
        return dict(line.split() for line in lines)

    def job(self, number: str) -> dict[str, str]:
        """All that SLURM says of a job."""
        fields = self.output("scontrol", "show", "job", "--oneliner", number).split()
        return dict(field.partition("=")[::2] for field in fields)

    def processes(self, name: str) -> list[str]:
        """Command lines of all that runs on a node, but for its daemon and the namespace's first process."""
        script = "for f in /proc/[0-9]*/cmdline; do tr '\\0' ' ' < $f; echo; done"
        lines = self._inside(name, script).splitlines()
        own = ("sleep infinity", "slurmd", "bash -c", "tr ")
        return [line for line in lines if line.strip() and not line.startswith(own)]

    def _configure(self) -> None:
        (self.folder / "run").mkdir(parents=True)
        for name in ("munge", "state", "log", "dev", *(f"spool/{node}" for node in self.nodes)):
            (self.folder / name).mkdir(parents=True, mode=0o700)
        key = self.folder / "munge/munge.key"
        key.write_bytes(secrets.token_bytes(1024))
        key.chmod(0o400)
        for number in range(_GPUS):  # SLURM asks that a GPU is a character device, and looks no closer
            subprocess.run(["mknod", self.folder / f"dev/nvidia{number}", "c", "1", "3"], check=True)
        (self.folder / "gres.conf").write_text(f"Name=gpu File={self.folder}/dev/nvidia[0-{_GPUS - 1}]\n")
        nodes = "\n".join(f"NodeName={name} NodeAddr={self._address(name)}" for name in self.nodes)
        (self.folder / "slurm.conf").write_text(
            _CONFIGURATION.format(controller=CONTROLLER, folder=self.folder, gpus=_GPUS, nodes=nodes)
        )
        hosts = ["127.0.0.1 localhost", f"10.77.0.1 {CONTROLLER}", *(f"{self._address(n)} {n}" for n in self.nodes)]
        (self.folder / "hosts").write_text("\n".join(hosts) + "\n")

    def _address(self, name: str) -> str:
        return f"10.77.0.{11 + self.nodes.index(name)}"

    def _enclose(self, name: str) -> None:
        """Start the first process of new namespaces; when it is killed the kernel kills all the others in them."""
        ready = self.folder / f"{name}.ready"
        ready.unlink(missing_ok=True)
        script = (
            f"hostname {name} && mount --bind {self.folder}/hosts /etc/hosts && mount -t tmpfs tmpfs /dev/shm"
            f" && ip link set lo up && touch {ready} && exec sleep infinity"
        )
        options = [
            "--net",
            "--uts",
            "--mount",
            "--pid",
            "--fork",
            "--kill-child",
            "--mount-proc",
            "--propagation=private",
        ]
        command = ["unshare", *options, "bash", "-c", script]
        self._first[name] = subprocess.Popen(command, env={"PATH": _PATH}, stdin=subprocess.DEVNULL)
        wait(ready.exists)

    def _enter(self, name: str) -> list[str]:
        outer = self._first[name].pid
        (first,) = Path(f"/proc/{outer}/task/{outer}/children").read_text().split()
        return ["nsenter", "--target", first, "--net", "--uts", "--mount", "--pid"]

    def _inside(self, name: str, script: str) -> str:
        return self._checked([*self._enter(name), "bash", "-c", script])

    def _network(self, name: str, script: str) -> str:
        """Change a node's network, with the machine's own process numbers."""
        return self._checked(["nsenter", "--target", str(self._first[name].pid), "--net", "bash", "-c", script])

    def _checked(self, command: Sequence[str]) -> str:
        env = {"PATH": _PATH, "SLURM_CONF": str(self.folder / "slurm.conf")}
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


def wait(until: Callable[[], object], seconds: float = _SECONDS, why: Callable[[], str] = str) -> None:
    """Wait until something is true."""
    deadline = time.monotonic() + seconds
    while not until():
        assert time.monotonic() < deadline, why()
        time.sleep(0.1)
