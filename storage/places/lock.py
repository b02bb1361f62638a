"""One ingest per store, and one job per run, at a time: locks that the system releases when their holder dies.

The driver of an ingest holds one lock and writes a token of its own into it. Its workers, which may outlive it by a
moment, share a second lock while they write, and stop when the token is no longer theirs. A new driver waits until
no worker of a dead one writes.

In an object store an object is the lock (:mod:`storage.places.s3.lease`): one whose holder dies is free after a while
of silence, by when no worker of a dead driver is left.
"""

import errno
import fcntl
import os
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import TYPE_CHECKING

from storage.errors import InputError
from storage.places.location import LOCKS, Folder, Location

if TYPE_CHECKING:
    from storage.places.s3.bucket import Bucket
    from storage.places.s3.lease import Held

_DRIVER, _WRITERS = LOCKS
_RUN = ".run.lock"
_HELD = (errno.EAGAIN, errno.EACCES)
_NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS)
_TOKEN_BYTES = 8
_WAIT_SECONDS = 120.0
_REMEDY = "Wait for its end, or end it."


@contextmanager
def only_ingest(root: Location) -> Iterator[str]:
    """Keep other ingests out of a store while the block runs.

    Yields
    ------
    str
        Token for :func:`writing`; empty on an object store without locks.

    Raises
    ------
    InputError
        When another ingest runs, or the folder cannot be written.
    """
    problem, remedy = "another ingest is writing to this store", "Wait for it, or end it."
    if not isinstance(root, Folder):
        with _leased(root, problem, remedy, 0) as held:
            yield held.token
        return
    with ExitStack() as files:
        with root.writing("a lock"):
            driver = files.enter_context(_opened(root, _DRIVER))
            if not _lock(driver, fcntl.LOCK_EX):
                raise InputError(str(root), problem, remedy)
            token = secrets.token_hex(_TOKEN_BYTES)
            os.pwrite(driver, token.encode(), 0)
            with _opened(root, _WRITERS) as writers:
                _wait(writers, root, "a worker of an ingest that was killed still writes to it")
        yield token


@contextmanager
def only_job(run: Location) -> Iterator[Callable[[], None]]:
    """Keep other jobs out of a run while the block runs; waits a while for one that is about to end.

    Yields
    ------
    callable
        Raises `InputError` when the run is no longer this job's, as may be in an object store.

    Raises
    ------
    InputError
        When another job is at work there, or the folder cannot be written.
    """
    problem = "another job is at work in this run"
    if not isinstance(run, Folder):
        with _leased(run, problem, _REMEDY, _WAIT_SECONDS) as held:
            yield held.confirm
        return
    with ExitStack() as files:
        with run.writing("a lock"):
            run.path.mkdir(parents=True, exist_ok=True)
            handle = files.enter_context(_opened(run, _RUN))
            if not _lock(handle, fcntl.LOCK_EX):
                print(f"[run] another job is at work in {run}; waits for its end", flush=True)
                _wait(handle, run, problem)
        yield lambda: None


@contextmanager
def writing(root: Location, token: str) -> Iterator[Callable[[], None]]:
    """Write to a store as a worker of the ingest that holds `token`.

    Yields
    ------
    callable
        Raises as below; asked before what was written is published, since no worker keeps an ingest out of an
        object store.

    Raises
    ------
    InputError
        When that ingest is gone and another one has begun.
    """
    if not token:
        yield lambda: None
        return
    ended = InputError(str(root), "the ingest of this worker has ended", "Nothing to do.")
    if not isinstance(root, Folder):
        from storage.places.s3.lease import holds

        bucket = _bucket(root)

        def confirm() -> None:
            if not holds(bucket, token):
                raise ended

        confirm()
        yield confirm
        return
    with _opened(root, _WRITERS) as writers, _opened(root, _DRIVER) as driver:
        _lock(writers, fcntl.LOCK_SH, wait=True)
        if os.pread(driver, len(token), 0).decode() != token:
            raise ended
        yield lambda: None


def _leased(place: Location, problem: str, remedy: str, wait_seconds: float) -> AbstractContextManager["Held"]:
    from storage.places.s3.lease import leased

    return leased(_bucket(place), problem, remedy, wait_seconds=wait_seconds)


def _bucket(place: Location) -> "Bucket":
    from storage.places.s3.bucket import Bucket

    assert isinstance(place, Bucket)
    return place


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
            raise InputError(str(root), problem, _REMEDY)
        time.sleep(0.1)
