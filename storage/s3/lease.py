"""A lock in a bucket: an object that its holder writes anew every few seconds, and only over its own last version.

It needs a server that knows conditional PUTs (``If-None-Match: *`` and ``If-Match``), as Amazon's and most others do.
Clocks of hosts are never compared: who waits sees by its own whether the object changes.
"""

import secrets
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from types import FrameType
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from storage.errors import InputError
from storage.s3 import access
from storage.s3.access import Unconditional

if TYPE_CHECKING:
    from storage.s3.bucket import Bucket

LOCK = "LOCK.json"
"""Its key below the prefix that is locked."""
_BEATS = 6
"""So many times without a sign of life, and another may take the lock over."""
_INTERRUPT = signal.SIGUSR2
_RELEASE_SECONDS = 10.0
_TOKEN_BYTES = 16


class Lease(BaseModel):
    """What the object says.

    Attributes
    ----------
    holder : str, optional
        Random token; None when nobody holds the lock.
    started : str
        When it was taken, by the holder's clock: for people.
    seconds : float
        How often the holder writes it anew.
    beat : int
        How often it has: no two versions are alike.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    holder: str | None
    started: str
    seconds: float = Field(gt=0)
    beat: int = Field(0, ge=0)

    @property
    def silence_seconds(self) -> float:
        """Time without a change after which the holder is taken for dead."""
        return _BEATS * self.seconds

    def next(self) -> "Lease":
        """Return the next version."""
        return self.model_copy(update={"beat": self.beat + 1})

    def content(self) -> bytes:
        """Return the bytes of the object."""
        return self.model_dump_json().encode()


@contextmanager
def leased(bucket: "Bucket", problem: str, remedy: str, *, wait_seconds: float) -> Iterator[str]:
    """Hold the lock of a prefix while the block runs.

    When another takes it over, since this process was not heard of for too long, the block is interrupted if it is in
    the main thread; else it is told of at its end.

    Parameters
    ----------
    bucket : Bucket
        The prefix.
    problem, remedy : str
        Of the refusal while another holds it.
    wait_seconds : float
        How long to wait for a holder that lives, which is seen by its next sign of life.

    Yields
    ------
    str
        Token for `holds`; empty where the server has no conditional PUTs: there is no lock then, which is printed.

    Raises
    ------
    InputError
        When another holds the lock, or has taken it over.
    """
    mine = Lease(
        holder=secrets.token_hex(_TOKEN_BYTES),
        started=datetime.now(UTC).isoformat(timespec="seconds"),
        seconds=access.lease_seconds() / _BEATS,
    )
    tag = _take(bucket, mine, problem, remedy, wait_seconds)
    if tag is None:
        print(f"[lock] {bucket}: this server has no locks: see that nothing else writes there", flush=True)
        yield ""
        return
    heart = _Heart(bucket, mine.next(), tag)
    try:
        with heart.beating():
            yield str(mine.holder)
    except KeyboardInterrupt:
        if not heart.is_lost:
            raise
    if heart.is_lost:
        lost = f"another has taken over: nothing was heard of this one for {mine.silence_seconds:.0f} s"
        raise InputError(str(bucket), lost, "Nothing to do: the other one goes on.")


def holds(bucket: "Bucket", token: str) -> bool:
    """Whether the lock is held by the process that got this token."""
    try:
        return _read(bucket)[0].holder == token
    except FileNotFoundError:
        return False


def _take(bucket: "Bucket", mine: Lease, problem: str, remedy: str, wait_seconds: float) -> str | None:
    """Return the tag of the object's second version once it is ours; None on a server without conditional PUTs."""
    started = changed = time.monotonic()
    last, is_alive = "", False
    while True:
        try:
            if made := bucket.write_if(LOCK, mine.content(), None):
                if bucket.write_if(LOCK, mine.next().content(), None):
                    return None
                return bucket.write_if(LOCK, mine.next().content(), made)
            found, there = _read(bucket)
        except Unconditional:
            return None
        except FileNotFoundError:
            continue  # it was removed between the two requests
        now = time.monotonic()
        if there != last:
            if last == "" and found.holder:
                print(f"[lock] {bucket}: {problem} (since {found.started}); waits for its end", flush=True)
            last, changed, is_alive = there, now, last != ""
        is_dead = now - changed >= found.silence_seconds
        if found.holder is None or is_dead:
            if taken := bucket.write_if(LOCK, mine.next().content(), there):
                if is_dead:
                    silence = f"its holder was silent for {found.silence_seconds:.0f} s"
                    print(f"[lock] {bucket}: {silence}; takes over", flush=True)
                return taken
        elif now - started >= wait_seconds and is_alive and now - changed < 2 * found.seconds:
            raise InputError(str(bucket), f"{problem} (since {found.started})", remedy)
        else:
            time.sleep(min(bucket.seconds_between_looks, found.seconds))


def _read(bucket: "Bucket") -> tuple[Lease, str]:
    content, tag = bucket.read_version(LOCK)
    try:
        return Lease.model_validate_json(content), tag
    except ValidationError:
        place = f"{bucket}/{LOCK}"
        raise InputError(place, "is no lock of this version", "Remove it when nothing is at work there.") from None


class _Heart:
    """Writes the object anew in a thread."""

    def __init__(self, bucket: "Bucket", lease: Lease, tag: str) -> None:
        self._bucket, self._lease, self._tag = bucket, lease, tag
        self._ended = threading.Event()
        self.is_lost = False

    @contextmanager
    def beating(self) -> Iterator[None]:
        """Renew the lease while the block runs, then let it go; interrupts the main thread when it is lost."""
        is_main = threading.current_thread() is threading.main_thread()
        previous = signal.signal(_INTERRUPT, _interrupt) if is_main else None
        thread = threading.Thread(target=self._beat, args=(is_main,), daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._ended.set()
            try:
                thread.join(_RELEASE_SECONDS)  # without an answer: the lock is free when it has been silent for long
            finally:
                if is_main:
                    signal.signal(_INTERRUPT, previous)

    def _beat(self, is_main: bool) -> None:
        while not self._ended.wait(self._lease.seconds):
            if not self._write(self._lease.next()):
                self.is_lost = True
                if is_main and not self._ended.is_set():
                    signal.pthread_kill(threading.main_thread().ident or 0, _INTERRUPT)
                return
        self._write(self._lease.next().model_copy(update={"holder": None}))

    def _write(self, lease: Lease) -> bool:
        """Write the next version; False when the last one is not ours. A server that does not answer is asked again."""
        with suppress(InputError):
            tag = self._bucket.write_if(LOCK, lease.content(), self._tag)
            if tag is None:
                return False
            self._lease, self._tag = lease, tag
        return True


def _interrupt(number: int, frame: FrameType | None) -> None:
    """As Ctrl-C does: the one exception that Ray hands on while it waits. SIGINT itself is answered by Ray Train."""
    raise KeyboardInterrupt
