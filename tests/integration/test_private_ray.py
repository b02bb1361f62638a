"""The Ray of one job alone is as closed as a cluster (docs/security.md)."""

import contextlib
import os
import stat
from pathlib import Path

import psutil
import pytest

pytestmark = [pytest.mark.integration, pytest.mark.slow]


def test_it_listens_on_loopback_alone_and_its_token_is_private(private_ray):
    import ray

    ray.get([ray.remote(lambda: 1).remote() for _ in range(2)])
    token = Path(os.environ["RAY_AUTH_TOKEN_PATH"])
    processes = {each for child in psutil.Process().children() if _knows(child, token) for each in _family(child)}
    assert {"gcs_server", "raylet", "ray::DashboardAgent"} <= {process.name() for process in processes}
    assert {address for process in processes for address in _listens_on(process)} == {"127.0.0.1"}
    assert [stat.S_IMODE(path.stat().st_mode) for path in (token, token.parent)] == [0o600, 0o700]


def _knows(process: psutil.Process, token: Path) -> bool:
    """Whether a process is of this Ray, not of another test's."""
    with contextlib.suppress(psutil.Error):
        return process.environ().get("RAY_AUTH_TOKEN_PATH") == str(token)
    return False


def _family(process: psutil.Process) -> list[psutil.Process]:
    """A process with its agents and workers, whose titles Ray writes over their environment."""
    return [process, *process.children(recursive=True)]


def _listens_on(process: psutil.Process) -> set[str]:
    connections = process.net_connections("inet")
    return {each.laddr.ip.removeprefix("::ffff:") for each in connections if each.status == psutil.CONN_LISTEN}
