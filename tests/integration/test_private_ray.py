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
    token, found = Path(os.environ["RAY_AUTH_TOKEN_PATH"]), set()
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if process.environ().get("RAY_AUTH_TOKEN_PATH") == str(token):  # not the daemons of other tests
                listens = [each for each in process.net_connections("inet") if each.status == psutil.CONN_LISTEN]
                found |= {each.laddr.ip.removeprefix("::ffff:") for each in listens}
    assert found == {"127.0.0.1"}
    assert [stat.S_IMODE(path.stat().st_mode) for path in (token, token.parent)] == [0o600, 0o700]
