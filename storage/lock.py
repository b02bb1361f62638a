"""One ingest per store, and one job per run, at a time: locks that the system releases when their holder dies.

The driver of an ingest holds one lock and writes a token of its own into it. Its workers, which may outlive it by a
moment, share a second lock while they write, and stop when the token is no longer theirs. A new driver waits until
no worker of a dead one writes.

Object stores have no such locks: there, whoever starts an ingest or a job sees to it that no other is running.
"""

import errno
import fcntl
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from storage.errors import InputError
from storage.location import LOCKS, Folder, Location

_DRIVER, _WRITERS = LOCKS
_RUN = ".run.lock"
_HELD = (errno.EAGAIN, errno.EACCES)
_NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS)
_TOKEN_BYTES = 8
_WAIT_SECONDS = 120.0


@contextmanager
def only_ingest(root: Location) -> Iterator[str]:
    """Keep other ingests out of a store while the block runs.

    Yields
    ------
    str
        Token for :func:`writing`; empty where there are no locks.

    Raises
    ------
    InputError
        When another ingest runs, or the folder cannot be written.
    """
    if not isinstance(root, Folder):
        yield ""
        return
    with ExitStack() as held:
        with root.writing("a lock"):
            driver = held.enter_context(_opened(root, _DRIVER))
            if not _lock(driver, fcntl.LOCK_EX):
                raise InputError(str(root), "another ingest is writing to this store", "Wait for it, or end it.")
            token = secrets.token_hex(_TOKEN_BYTES)
            os.pwrite(driver, token.encode(), 0)
            with _opened(root, _WRITERS) as writers:
                _wait(writers, root, "a worker of an ingest that was killed still writes to it")
        yield token


@contextmanager
def only_job(run: Location) -> Iterator[None]:
    """Keep other jobs out of a run while the block runs; waits a while for one that is about to end.

    Raises
    ------
    InputError
        When another job is at work there, or the folder cannot be written.
    """
    if not isinstance(run, Folder):
        yield
        return
    with ExitStack() as held:
        with run.writing("a lock"):
            run.path.mkdir(parents=True, exist_ok=True)
            handle = held.enter_context(_opened(run, _RUN))
            if not _lock(handle, fcntl.LOCK_EX):
                print(f"[run] another job is at work in {run}; waits for its end", flush=True)
                _wait(handle, run, "another job is at work in this run")
        yield


@contextmanager
def writing(root: Location, token: str) -> Iterator[None]:
    """Write to a store as a worker of the ingest that holds `token`.

    Raises
    ------
    InputError
        When that ingest is gone and another one has begun.
    """
    if not isinstance(root, Folder) or not token:
        yield
        return
    with _opened(root, _WRITERS) as writers, _opened(root, _DRIVER) as driver:
        _lock(writers, fcntl.LOCK_SH, wait=True)
        if os.pread(driver, len(token), 0).decode() != token:
            raise InputError(str(root), "the ingest of this worker has ended", "Nothing to do.")
        yield


@contextmanager
def _opened(root: Folder, name: str) -> Iterator[int]:
    handle = os.open(root.path / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        yield handle
    finally:
        os.close(handle)


def _lock(handle: int, kind: int, *, wait: bool = False) -> bool:
    try:
        fcntl.flock(handle, kind if wait else kind | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _HELD:
            return False
        if error.errno not in _NO_LOCKS:
            raise
        print("[lock] this file system has no locks: see that nothing else writes to the same folder", flush=True)
    return True


def _wait(handle: int, root: Folder, problem: str) -> None:
    """Return when nobody else holds a lock any more."""
    deadline = time.monotonic() + _WAIT_SECONDS
    while not _lock(handle, fcntl.LOCK_EX):
        if time.monotonic() > deadline:
            raise InputError(str(root), problem, "Wait for its end, or end it.")
        time.sleep(0.1)
