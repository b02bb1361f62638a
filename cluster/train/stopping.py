"""Stop a run early: a signal to the launcher becomes a request that the workers read."""

import secrets
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from queue import SimpleQueue
from types import FrameType
from typing import Any

from storage.errors import InputError
from storage.places.folder import Folder
from storage.places.location import locate
from storage.places.repeating import repeated

_STOP = "stop"
_AGAIN_SECONDS = 1.0


class Stopped(Exception):
    """A run ended early on request; started again, it resumes from its newest checkpoint."""


class StopRequest:
    """A request in the run's folder, or bucket.

    The file exists throughout a run, and a check opens and reads it. Network file systems then ask their server; they
    would cache for a while that a file is missing.

    Parameters
    ----------
    run : str or Path
        A folder that all nodes see, or a URL.
    attempt : str
        In a worker: what `begin` returned.

    Attributes
    ----------
    is_final : bool
        In the launcher: whether no other workers are to follow.
    """

    def __init__(self, run: str | Path, attempt: str = "") -> None:
        self._place, self._attempt = locate(run), attempt
        self.is_final = False

    def begin(self) -> str:
        """Let new workers run, and end those of earlier attempts that may still run on a lost node."""
        self._attempt = secrets.token_hex(8)
        self._place.write(_STOP, self._attempt.encode())
        return self._attempt

    def make(self) -> None:
        """Ask the workers to finish the current step, write a checkpoint and end."""
        self._place.write(_STOP, b"stop")

    def make_final(self) -> None:
        """Also request the end of the run; retried until the request can be written."""
        self.is_final = True
        while True:
            with suppress(InputError, OSError):
                return self.make()
            time.sleep(_AGAIN_SECONDS)

    def is_made(self) -> bool:
        """Whether the workers of this attempt were asked to end."""
        return self._place.read(_STOP).decode() != self._attempt

    @contextmanager
    def watched(self) -> Iterator[Callable[[], bool]]:
        """While the block runs, yield a check of whether the workers were asked to end that never waits for a bucket.

        A bucket is asked every few seconds, in a thread; one that does not answer is asked again.
        """
        if isinstance(self._place, Folder):
            yield self.is_made
            return
        made = threading.Event()

        def look() -> None:
            with suppress(InputError, FileNotFoundError):
                if self.is_made():
                    made.set()

        with repeated(look, self._place.seconds_between_looks):
            yield made.is_set


@contextmanager
def first_signal(action: Callable[[], None]) -> Iterator[None]:
    """While the block runs, the first SIGTERM or SIGUSR1 calls `action`; the next one has its previous effect.

    A thread calls it: a handler would make the block wait for a file system or a bucket.
    """
    previous: dict[int, Any] = {}
    seen: SimpleQueue[bool] = SimpleQueue()  # the one queue that a handler may put into

    def restore() -> None:
        for number, handler in previous.items():
            signal.signal(number, handler)

    def handle(number: int, frame: FrameType | None) -> None:
        restore()
        seen.put(True)

    def answer() -> None:
        if seen.get():
            action()

    if threading.current_thread() is threading.main_thread():
        previous.update({number: signal.signal(number, handle) for number in (signal.SIGTERM, signal.SIGUSR1)})
    threading.Thread(target=answer, daemon=True).start()
    try:
        yield
    finally:
        restore()
        seen.put(False)
