"""Ending a run early: a signal to the launcher becomes a request that the workers see."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

from storage.errors import InputError
from storage.location import Folder, locate
from storage.repeating import repeated

_STOP = "stop"


class Stopped(Exception):
    """A run ended early because it was asked to; started again, it goes on from its newest checkpoint."""


class StopRequest:
    """A request in the run's folder, or bucket.

    Its file always exists while a run does and is opened to be read: network file systems then ask their server, where
    they would remember for a while that a file is missing.

    Parameters
    ----------
    run : str or Path
        A folder that all nodes see, or a URL.

    Attributes
    ----------
    is_final : bool
        In the launcher: whether no other workers are to follow.
    """

    def __init__(self, run: str | Path) -> None:
        self._place = locate(run)
        self.is_final = False

    def withdraw(self) -> None:
        """Let the workers go on, whatever was asked of earlier ones."""
        self._place.write(_STOP, b"")

    def make(self) -> None:
        """Ask the workers for a checkpoint of the step in progress, and their end."""
        self._place.write(_STOP, b"stop\n")

    def make_final(self) -> None:
        """Ask for the end of the run, too."""
        self.is_final = True
        self.make()

    def is_made(self) -> bool:
        """Whether the workers were asked to end."""
        return bool(self._place.read(_STOP))

    @contextmanager
    def watched(self) -> Iterator[Callable[[], bool]]:
        """While the block runs, yield what tells whether the workers were asked to end, without waiting for a bucket.

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
    """While the block runs, the first SIGTERM or SIGUSR1 calls `action`; the next one does what it did before."""
    previous: dict[int, Any] = {}

    def restore() -> None:
        for number, handler in previous.items():
            signal.signal(number, handler)

    def handle(number: int, frame: FrameType | None) -> None:
        restore()
        action()

    if threading.current_thread() is threading.main_thread():
        previous.update({number: signal.signal(number, handle) for number in (signal.SIGTERM, signal.SIGUSR1)})
    try:
        yield
    finally:
        restore()
