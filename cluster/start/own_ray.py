"""A private Ray for one process, protected like a cluster of ``e2llm cluster up``.

By itself `ray.init` listens on the machine's address, opens its folder in ``/tmp`` to everybody and keeps its token in
the home folder.
"""

import os
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cluster.ray_private import private_init, read_token_again, replaces_loopback
from cluster.start.ray_start import RAY_FOLDER, cluster_variables, make_temp_dir, write_private

_HOST = "127.0.0.1"
_REMOVALS, _PAUSE_SECONDS = 50, 0.1
OF_A_CLUSTER = ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")
"""Environment variables that connect a shell to a cluster."""


@contextmanager
def own_ray() -> Iterator[dict[str, Any]]:
    """Prepare `ray.init` on the loopback address, ignoring the shell's cluster variables; yields its arguments.

    Logs and sockets go with the block.
    """
    folder = make_temp_dir()
    token = folder / "token"
    write_private(token, secrets.token_hex(32))
    variables = cluster_variables(_HOST, token)
    before = {name: os.environ.pop(name, None) for name in {*OF_A_CLUSTER, *variables}}
    os.environ |= variables
    replaced = replaces_loopback(False)
    try:
        read_token_again()
        yield private_init(_HOST, folder / RAY_FOLDER)
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
        replaces_loopback(replaced)
        read_token_again()
        _remove(folder)


def _remove(folder: Path) -> None:
    """Remove a folder; workers and agents, which end shortly after Ray, may still write to it."""
    for _ in range(_REMOVALS):
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            return
        time.sleep(_PAUSE_SECONDS)
