"""Progress of remote work, one plain line at a time."""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from e2llm_core.training.metrics import clock

_IN_FLIGHT = 8


@contextmanager
def follow(path: Path) -> Iterator[None]:
    """Print the lines that workers append to `path` while the block runs."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    file = path.open()
    file.seek(0, 2)

    def copy() -> None:
        for line in file:
            print(line, end="", flush=True)

    with file, _repeated(copy, seconds=0.2):
        yield


@contextmanager
def watch(name: str, total: int, count: Callable[[], int]) -> Iterator[None]:
    """Print how many of `total` pieces are done, with an ETA, whenever `count` changes while the block runs."""
    started, shown = time.monotonic(), 0

    def show() -> None:
        nonlocal shown
        if (done := count()) > shown:
            left = (time.monotonic() - started) / done * (total - done)
            print(f"[{name}] {done}/{total}  eta {clock(left)}", flush=True)
            shown = done

    with _repeated(show, seconds=1.0):
        yield


@contextmanager
def _repeated(action: Callable[[], None], seconds: float) -> Iterator[None]:
    """Call `action` every so often in a thread while the block runs, and once more at its end."""
    ended = threading.Event()

    def loop() -> None:
        while not ended.wait(seconds):
            action()

    thread = threading.Thread(target=loop, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        action()


def gather(name: str, tasks: list[Any]) -> list[Any]:
    """Wait for Ray tasks, printing how many are done and an ETA; results in the order of `tasks`.

    An exception of a task is raised once it is met; the others are cancelled.
    """
    import ray

    started, pending = time.monotonic(), list(tasks)
    try:
        while pending:
            done, pending = ray.wait(pending, num_returns=1)
            ray.get(done)
            finished = len(tasks) - len(pending)
            left = (time.monotonic() - started) / finished * len(pending)
            print(f"[{name}] {finished}/{len(tasks)}  eta {clock(left)}", flush=True)
    finally:
        for task in pending:
            ray.cancel(task, force=False)
    return ray.get(tasks)


def gather_responses(name: str, method: Any, question: Any, batches: list[Any]) -> list[Any]:
    """Send requests to a Serve deployment, a few in flight at a time, printing how many are answered."""
    responses: list[Any] = []
    started = time.monotonic()
    in_flight: deque[Any] = deque()
    for number, batch in enumerate([*batches, *[None] * _IN_FLIGHT]):
        if batch is not None:
            in_flight.append(method.remote(question, batch))
        if number >= _IN_FLIGHT and in_flight:
            responses.append(in_flight.popleft().result())
            left = (time.monotonic() - started) / len(responses) * (len(batches) - len(responses))
            print(f"[{name}] {len(responses)}/{len(batches)}  eta {clock(left)}", flush=True)
    return responses
