"""What Ray does not promise to keep is where `cluster.ray_private` expects it, and used nowhere else."""

import ast
import inspect
import re
import tomllib
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import pytest
from packaging.requirements import Requirement
from ray._private import state

ROOT = Path(__file__).resolve().parents[3]
PRIVATE = re.compile(r"ray\.(.*\.)?_|ray\.train\.v2\b")


class Interface(NamedTuple):
    module: str
    name: str
    call: tuple[tuple[object, ...], dict[str, object]] | None
    """Arguments as this project gives them; None for what is not called, or written in C++."""
    depends: str

    @property
    def problem(self) -> str:
        """What has moved, and what depends on it; empty when nothing has."""
        label = f"{self.module}.{self.name} of Ray {version('ray')}"
        found: object = import_module(self.module)
        for part in self.name.split("."):
            if not hasattr(found, part):
                return f"{label} is gone: {self.depends} depends on it (cluster/ray_private.py)"
            found = getattr(found, part)
        try:
            if self.call is not None:
                inspect.signature(found).bind(*self.call[0], **self.call[1])  # type: ignore[arg-type]
        except TypeError as error:
            return f"{label} takes other arguments ({error}): {self.depends} depends on it (cluster/ray_private.py)"
        return ""


TRAIN = "ray.train.v2._internal"
WALK = ((Path(), [], print), {"include_gitignore": True, "logger": None})
INTERFACES = (
    Interface("ray._private.state", "available_resources_per_node", ((), {}), "an elastic run that looks for room"),
    Interface(
        "ray.train.v2.api.data_parallel_trainer",
        "DataParallelTrainer",
        (
            (print,),
            dict.fromkeys(("backend_config", "train_loop_config", "scaling_config", "run_config")),
        ),
        "every training job",
    ),
    Interface(f"{TRAIN}.execution.context", "get_train_context", ((), {}), "a checkpoint before a node is taken"),
    Interface(f"{TRAIN}.execution.preemption", "PreemptionContext.preemption_info", None, "the same checkpoint"),
    Interface(f"{TRAIN}.exceptions", "WorkerGroupStartupTimeoutError", None, "an elastic run on a shrinking cluster"),
    Interface(
        "ray._private.ray_constants", "get_runtime_env_default_excludes", ((), {}), "the size of what is shipped"
    ),
    Interface("ray._private.ray_constants", "ENABLE_RAY_CLUSTER", None, "a private Ray on loopback alone (--local)"),
    Interface("ray._private.runtime_env.packaging", "_get_excludes", ((Path(), []), {}), "the size of what is shipped"),
    Interface("ray._private.runtime_env.packaging", "_dir_travel", WALK, "the size of what is shipped"),
    Interface("ray.serve._private.replica", "add_port_to_grpc_server", ((None, ""), {}), "a replica's own address"),
    Interface("ray._private.worker", "print_to_stdstream", (({}, False), {}), "a job's output without Ray's"),
    Interface("ray._raylet", "Config.initialize", None, "a private Ray's settings (--local)"),
    Interface("ray._raylet", "AuthenticationTokenLoader.instance", None, "a private Ray's token (--local)"),
    Interface("ray._raylet", "AuthenticationTokenLoader.reset_cache", None, "a private Ray's token (--local)"),
    Interface("ray._raylet", "GcsClient", None, "a SLURM job that watches its nodes"),
    Interface("ray._raylet", "InnerGcsClient.get_all_node_info", None, "a SLURM job that watches its nodes"),
)


@pytest.mark.parametrize("interface", INTERFACES, ids=lambda interface: f"{interface.module}.{interface.name}")
def test_it_is_where_it_was(interface: Interface) -> None:
    assert not interface.problem


def test_a_training_worker_finds_the_preemption_in_its_context() -> None:
    assert "preemption_context" in import_module(f"{TRAIN}.execution.context").TrainContext.__annotations__


def test_a_private_ray_is_given_its_address_and_folder() -> None:
    """`ray.init` takes them by keyword, and refuses keywords that it does not know."""
    import ray

    from cluster.ray_private import private_init

    for name in private_init("127.0.0.1", Path("ray")).keys() - {"address"}:
        assert f'"{name}"' in inspect.getsource(ray.init), f"ray.init has no {name}: --local depends on it"


def test_ray_tells_of_failed_tasks_on_standard_error(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    """Read from the source, since only its listener calls it: this is how it does."""
    from ray._private import worker

    from cluster.ray_private import errors_go_to_stderr

    assert '"is_err": False' in inspect.getsource(worker.listen_error_messages)
    monkeypatch.setattr(worker, "print_to_stdstream", worker.print_to_stdstream)
    errors_go_to_stderr()
    message = {"lines": ["Task ServeController.graceful_shutdown failed"], "pid": "raylet", "is_err": False}
    worker.print_to_stdstream(message, ignore_prefix=False)
    said = capsys.readouterr()
    assert not said.out
    assert "graceful_shutdown" in said.err


def test_what_moves_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    interface = INTERFACES[0]
    monkeypatch.setattr(state, interface.name, lambda of_node: {})
    assert "takes other arguments (missing a required argument: 'of_node'): an elastic run" in interface.problem
    monkeypatch.delattr(state, interface.name)
    assert interface.problem.startswith("ray._private.state.available_resources_per_node of Ray ")
    assert "is gone: an elastic run that looks for room depends on it (cluster/ray_private.py)" in interface.problem


def private_imports(path: Path) -> set[str]:
    """Modules and names below Ray's private ones that a file imports."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in found if PRIVATE.match(name)}


def test_nothing_else_uses_it_and_nothing_is_forgotten() -> None:
    sources = [path for floor in ("storage", "e2llm_core", "cluster", "jobs") for path in (ROOT / floor).rglob("*.py")]
    users = {path.relative_to(ROOT).as_posix(): found for path in sources if (found := private_imports(path))}
    assert users.keys() == {"cluster/ray_private.py"}
    modules = users["cluster/ray_private.py"]
    assert modules <= {interface.module for interface in INTERFACES}


def test_ray_is_bounded_to_the_minor_version_that_was_checked() -> None:
    """As `cluster/ray_private.py` says, and as `constraints.txt` pins."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = {found.name: found.specifier for found in map(Requirement, project["dependencies"])}
    pinned = dict(re.findall(r"(?m)^([\w-]+)==(\S+)$", (ROOT / "constraints.txt").read_text(encoding="utf-8")))
    for name in ("ray", "deepspeed"):
        major, minor, *_ = map(int, pinned[name].split("."))
        assert wanted[name].contains(pinned[name])
        assert not wanted[name].contains(f"{major}.{minor + 1}.0")
    text = (ROOT / "cluster/ray_private.py").read_text(encoding="utf-8")
    assert f"checked with Ray {pinned['ray'].rpartition('.')[0]}." in text
