"""A lock in a bucket: an object that its holder rewrites every few seconds, and only over its own last version.

It needs a server with conditional PUTs (``If-None-Match: *`` and ``If-Match``), as Amazon's and most others have.
Clocks of hosts are never compared: a waiting process measures with its own clock whether the object changes.
"""

import secrets
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from types import FrameType
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from storage.errors import InputError
from storage.places.s3 import access
from storage.places.s3.access import Unconditional

if TYPE_CHECKING:
    from storage.places.s3.bucket import Bucket

LOCK = "LOCK.json"
"""Key of the lock below the locked prefix."""
_BEATS = 6
"""Number of missed renewals after which another process may take over the lock."""
_INTERRUPT = signal.SIGUSR2
_RELEASE_SECONDS = 10.0
_TOKEN_BYTES = 16


class Lease(BaseModel):
    """Content of the lock object.

    Attributes
    ----------
    holder : str, optional
        Random token; None when nobody holds the lock.
    started : str
        When it was taken, by the holder's clock: for people.
    seconds : float
        Interval between the holder's renewals.
    beat : int
        Number of renewals so far, so that no two versions are equal.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    holder: str | None
    started: str
    seconds: float = Field(gt=0)
    beat: int = Field(0, ge=0)

    @property
    def silence_seconds(self) -> float:
        """Time without a change after which the holder is assumed dead."""
        return _BEATS * self.seconds

    def next(self) -> "Lease":
        """Return the next version."""
        return self.model_copy(update={"beat": self.beat + 1})

    def content(self) -> bytes:
        """Return the bytes of the object."""
        return self.model_dump_json().encode()


@dataclass(frozen=True)
class Held:
    """A held lock.

    Attributes
    ----------
    token : str
        For `holds`; empty where the server has no conditional PUTs, and there is no lock.
    confirm : callable
        Raises `InputError` when the lock is lost; asks no server.
    """

    token: str
    confirm: Callable[[], None]


@contextmanager
def leased(bucket: "Bucket", problem: str, remedy: str, *, wait_seconds: float) -> Iterator[Held]:
    """Hold the lock of a prefix while the block runs.

    The lock is lost when it was not renewed for so long that another process has taken it over, or may do so. The
    block is then interrupted if it is in the main thread; otherwise the error is raised at its end.

    Parameters
    ----------
    bucket : Bucket
        The prefix.
    problem, remedy : str
        Texts of the refusal while another process holds the lock.
    wait_seconds : float
        How long to wait for a live holder, recognised by its renewals.

    Yields
    ------
    Held
        Tells whether the lock is still held. If the server has no conditional PUTs, and so no locks, that is printed.

    Raises
    ------
    InputError
        When another holds the lock, or it was lost.
    """
    mine = Lease(
        holder=secrets.token_hex(_TOKEN_BYTES),
        started=datetime.now(UTC).isoformat(timespec="seconds"),
        seconds=access.lease_seconds() / _BEATS,
    )
    taken = _take(bucket, mine, problem, remedy, wait_seconds)
    if taken is None:
        print(f"[lock] {bucket}: this server has no locks: see that nothing else writes there", flush=True)
        yield Held("", lambda: None)
        return
    heart = _Heart(bucket, mine.next(), taken)
    try:
        with heart.beating():
            yield Held(str(mine.holder), heart.confirm)
    except KeyboardInterrupt:
        if heart.lost is None:
            raise
    if heart.lost is not None:
        raise heart.lost


def holds(bucket: "Bucket", token: str) -> bool:
    """Whether the lock is held by the process that got this token."""
    try:
        return _read(bucket)[0].holder == token
    except FileNotFoundError:
        return False


@dataclass(frozen=True)
class _Taken:
    """The version that made the lock ours: its tag, and when writing it began, by `time.monotonic`."""

    tag: str
    written: float


def _take(bucket: "Bucket", mine: Lease, problem: str, remedy: str, wait_seconds: float) -> _Taken | None:
    """Return the object's second version once it is ours; None on a server without conditional PUTs."""
    started = changed = time.monotonic()
    last, is_alive = "", False
    while True:
        try:
            if made := bucket.write_if(LOCK, mine.content(), None):
                if bucket.write_if(LOCK, mine.next().content(), None):
                    bucket.remove(LOCK)
                    return None
                if taken := _replace(bucket, mine.next(), made):
                    return taken
            found, there = _read(bucket)
            now = time.monotonic()
            if there != last:
                if last == "" and found.holder:
                    print(f"[lock] {bucket}: {problem} (since {found.started}); waits for its end", flush=True)
                last, changed, is_alive = there, now, last != ""
            is_dead = now - changed >= found.silence_seconds
            if found.holder is None or is_dead:
                if taken := _replace(bucket, mine.next(), there):
                    if is_dead:
                        silence = f"its holder was silent for {found.silence_seconds:.0f} s"
                        print(f"[lock] {bucket}: {silence}; takes over", flush=True)
                    return taken
                continue
        except Unconditional:
            return None
        except FileNotFoundError:
            continue  # it was removed between the two requests
        if now - started >= wait_seconds and is_alive and now - changed < 2 * found.seconds:
            raise InputError(str(bucket), f"{problem} (since {found.started})", remedy)
        time.sleep(min(bucket.seconds_between_looks, found.seconds))


def _replace(bucket: "Bucket", lease: Lease, tag: str) -> _Taken | None:
    """Write over the version of this tag; None when another was faster.

    Raises
    ------
    Unconditional
        When the server cannot do that, or overwrites whatever is there; the object, which locks nothing, is removed.
    """
    written = time.monotonic()
    try:
        new = bucket.write_if(LOCK, lease.content(), tag)
        if new and bucket.write_if(LOCK, lease.next().content(), tag):  # the tag is stale by now
            raise Unconditional
    except Unconditional:
        bucket.remove(LOCK)
        raise
    return _Taken(new, written) if new else None


def _read(bucket: "Bucket") -> tuple[Lease, str]:
    content, tag = bucket.read_version(LOCK)
    try:
        return Lease.model_validate_json(content), tag
    except ValidationError:
        place = f"{bucket}/{LOCK}"
        raise InputError(place, "is not a lock of this version", "Remove it when no job is running there.") from None


class _Heart:
    """Renews the object in a thread; another thread watches the time, since a request may hang."""

    def __init__(self, bucket: "Bucket", lease: Lease, taken: _Taken) -> None:
        self._bucket, self._lease, self._tag, self._written = bucket, lease, taken.tag, taken.written
        self._silence = lease.silence_seconds
        self._trouble = "the server does not answer"
        self._ended, self._losing = threading.Event(), threading.Lock()
        self._is_main = threading.current_thread() is threading.main_thread()
        self.lost: InputError | None = None

    @contextmanager
    def beating(self) -> Iterator[None]:
        """Renew the lease while the block runs, then let it go; interrupts the main thread when it is lost."""
        previous = signal.signal(_INTERRUPT, _interrupt) if self._is_main else None
        threads = [threading.Thread(target=work, daemon=True) for work in (self._watch, self._beat)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._ended.set()
            try:
                for thread in threads:
                    thread.join(
                        _RELEASE_SECONDS
                    )  # without an answer: the lock is free when it has been silent for long
            finally:
                if self._is_main:
                    signal.signal(_INTERRUPT, previous)

    def confirm(self) -> None:
        """Raise `InputError` when the lease is lost, or may be."""
        if self.lost is not None:
            raise self.lost
        if time.monotonic() >= self._written + self._silence:
            raise self._lapsed()

    def _beat(self) -> None:
        while not self._ended.wait(self._lease.seconds):
            if self.lost is None and not self._write(self._lease.next()):
                problem = f"another has taken over: nothing was heard of this one for {self._silence:.0f} s"
                self._lose(InputError(str(self._bucket), problem, "Nothing to do: the other one goes on."))
                return
        self._write(self._lease.next().model_copy(update={"holder": None}))

    def _watch(self) -> None:
        while (left := self._written + self._silence - time.monotonic()) > 0:
            if self._ended.wait(left):
                return
        self._lose(self._lapsed())

    def _lapsed(self) -> InputError:
        problem = f"the lock could not be renewed for {self._silence:.0f} s ({self._trouble}), and another may hold it"
        return InputError(str(self._bucket), problem, "Start it again.")

    def _lose(self, error: InputError) -> None:
        with self._losing:
            if self.lost is not None or self._ended.is_set():
                return
            self.lost = error
            if self._is_main:
                signal.pthread_kill(threading.main_thread().ident or 0, _INTERRUPT)

    def _write(self, lease: Lease) -> bool:
        """Write the next version; False if the last one is not ours. Failures are retried."""
        begun = time.monotonic()
        try:
            tag = self._bucket.write_if(LOCK, lease.content(), self._tag)
        except Exception as error:
            self._trouble = error.problem if isinstance(error, InputError) else type(error).__name__
            return True
        if tag is None:
            return False
        self._lease, self._tag, self._written = lease, tag, begun
        return True


def _interrupt(number: int, frame: FrameType | None) -> None:
    """Interrupt as Ctrl-C does, the only way that Ray passes on while waiting. Ray Train handles SIGINT itself."""
    raise KeyboardInterrupt
