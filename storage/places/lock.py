"""One ingest per store, and one job per run, at a time: locks that the system releases when their holder dies.

The driver of an ingest holds one lock and writes a token of its own into it. Its workers, which may outlive it by a
moment, share a second lock while they write, and stop when the token is no longer theirs. A new driver waits until
no worker of a dead one writes.

In an object store an object is the lock (:mod:`storage.places.s3.lease`): one whose holder dies is free after a while
of silence, by when no worker of a dead driver is left.
"""

import errno
import fcntl
import secrets
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from filelock import FileLock, Timeout

from storage.errors import InputError
from storage.places.base import Location
from storage.places.folder import Folder
from storage.places.s3.bucket import Bucket
from storage.places.s3.lease import LOCK, holds, leased

_DRIVER, _WRITERS = ".ingest.lock", ".writers.lock"
LOCKS = (_DRIVER, _WRITERS, LOCK)
"""Files or objects of a store by which ingests keep out of each other's way."""
_RUN = ".run.lock"
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
        with leased(_bucket(root), problem, remedy, wait_seconds=0) as held:
            yield held.token
        return
    with ExitStack() as held:
        with root.writing("a lock"):
            held.enter_context(_locked(root, _DRIVER, problem, remedy))
            token = secrets.token_hex(_TOKEN_BYTES)
            (root.path / _DRIVER).write_text(token)
            straggler = "a worker of an ingest that was killed still writes to it"
            with _locked(root, _WRITERS, straggler, _REMEDY, wait_seconds=_WAIT_SECONDS):
                pass
        yield token


@contextmanager
def only_job(run: Location) -> Iterator[Callable[[], None]]:
    """Lock a run for this job while the block runs; waits a while for a job that is about to end.

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
        with leased(_bucket(run), problem, _REMEDY, wait_seconds=_WAIT_SECONDS) as held:
            yield held.confirm
        return
    notice = f"[run] another job is at work in {run}; waits for its end"
    with ExitStack() as held:
        with run.writing("a lock"):
            run.path.mkdir(parents=True, exist_ok=True)
            held.enter_context(_locked(run, _RUN, problem, _REMEDY, wait_seconds=_WAIT_SECONDS, notice=notice))
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
        bucket = _bucket(root)

        def confirm() -> None:
            if not holds(bucket, token):
                raise ended

        confirm()
        yield confirm
        return
    with (root.path / _WRITERS).open("a+") as writers:
        with _tolerant():
            fcntl.flock(writers, fcntl.LOCK_SH)  # many at once, which filelock's locks of the system are not
        if (root.path / _DRIVER).read_text() != token:
            raise ended
        yield lambda: None


def _bucket(place: Location) -> Bucket:
    assert isinstance(place, Bucket)
    return place


@contextmanager
def _locked(
    root: Folder, name: str, problem: str, remedy: str, *, wait_seconds: float = 0, notice: str = ""
) -> Iterator[None]:
    """Hold a file's lock while the block runs; `notice` is printed when that takes waiting."""
    lock = FileLock(root.path / name, fallback_to_soft=False)
    try:
        with _tolerant():
            try:
                lock.acquire(timeout=0)
            except Timeout:
                if notice:
                    print(notice, flush=True)
                lock.acquire(timeout=wait_seconds)
    except Timeout:
        raise InputError(str(root), problem, remedy) from None
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _tolerant() -> Iterator[None]:
    """Go on without a lock on a file system that has none."""
    try:
        yield
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        print("[lock] this file system has no locks: see that nothing else writes to the same folder", flush=True)
