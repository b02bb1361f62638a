"""One Ray cluster for all tests that need a cluster, and one private Ray for all that need only Ray."""

import os
import secrets
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest

from cluster.session import ray_session
from cluster.start import local
from cluster.start.local import ClusterInfo

ROOT = Path(__file__).resolve().parents[2]
SHARED = ("one_cluster", "private_ray")
"""In this order tests that share come last: by then no other test of the session starts a Ray in this process."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Order the tests; where several processes share them, one gets all of a module, or all that share a Ray."""
    items.sort(key=lambda item: [name in getattr(item, "fixturenames", ()) for name in reversed(SHARED)])
    for item in items:
        shared = [name for name in SHARED if name in getattr(item, "fixturenames", ())]
        item.add_marker(pytest.mark.xdist_group(shared[0] if shared else item.path.stem))


def pytest_collection_finish(session: pytest.Session) -> None:
    """Refuse to run when groups are lost: each process would set up everything again, and no test would fail."""
    if session.config.getoption("loadgroup", False):
        grouped = [item.nodeid for item in session.items if item.get_closest_marker("xdist_group")]
        if lost := [name for name in grouped if "@" not in name]:
            raise pytest.UsageError(f"pytest-xdist lost the groups of {len(lost)} tests, {lost[0]} among them")


@pytest.fixture(scope="session")
def told_secrets() -> dict[str, str]:
    """Variables of the shell in which the cluster is started, whose values must show nowhere."""
    names = {"E2LLM_SERVE_TOKEN": "serve", "AWS_SECRET_ACCESS_KEY": "aws", "HF_TOKEN": "hf"}
    return {name: f"{kind}-{secrets.token_hex(12)}" for name, kind in names.items()}


@pytest.fixture(scope="session")
def one_cluster(told_secrets: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClusterInfo]:
    """Provide a cluster of `e2llm cluster up`, with two CPUs; who uses it leaves nothing running there."""
    directory = tmp_path_factory.mktemp("one") / "cluster"
    with pytest.MonkeyPatch.context() as patch:
        for name, value in told_secrets.items():
            patch.setenv(name, value)
        patch.setenv("PYTHONPATH", f"{ROOT}:{os.environ.get('PYTHONPATH', '')}")  # nodes have the code, as in an image
        started = local.up(directory, num_cpus=2, root=ROOT)
    try:
        yield started
    finally:
        local.down(directory)


@pytest.fixture(scope="session")
def private_ray() -> Iterator[None]:
    """Connect this process to a Ray of its own, as `--local` does; Ray was imported before, as other tests have it."""
    import ray  # noqa: F401

    with ray_session(ROOT, local=True):
        yield


@pytest.fixture
def connected(private_ray: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have jobs that run in this process use its Ray."""
    monkeypatch.setattr("cluster.session.ray_session", lambda *arguments, **settings: nullcontext())
