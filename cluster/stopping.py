"""Ending a run early: a signal to the launcher becomes a request that the workers see."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any


class Stopped(Exception):
    """A run ended early because it was asked to; started again, it goes on from its newest checkpoint."""


class StopRequest:
    """A request in the run's folder.

    Its file always exists while a run does and is opened to be read: network file systems then ask their server, where
    they would remember for a while that a file is missing.

    Parameters
    ----------
    run : Path
        On storage that all nodes see.

    Attributes
    ----------
    is_final : bool
        In the launcher: whether no other workers are to follow.
    """

    def __init__(self, run: Path) -> None:
        self._path = run / "stop"
        self.is_final = False

    def withdraw(self) -> None:
        """Let the workers go on, whatever was asked of earlier ones."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.write_text("")

    def make(self) -> None:
        """Ask the workers for a checkpoint of the step in progress, and their end."""
        self._path.write_text("stop\n")

    def make_final(self) -> None:
        """Ask for the end of the run, too."""
        self.is_final = True
        self.make()

    def is_made(self) -> bool:
        """Whether the workers were asked to end."""
        return bool(self._path.read_text())


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
