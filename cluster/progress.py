"""Progress of remote work."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import islice
from typing import Any

from storage.errors import InputError
from storage.places.base import Location
from storage.places.repeating import repeated
from storage.progress import Progress

_READ_BYTES = 1 << 16


@contextmanager
def follow(place: Location, key: str) -> Iterator[None]:
    """Print the lines that workers append to a file while the block runs."""
    read = len(place.read(key)) if place.exists(key) else 0

    def copy() -> None:
        nonlocal read
        with suppress(FileNotFoundError, InputError):  # nothing yet, or no answer for a while
            while lines := _whole_lines(place.read_range(key, read, read + _READ_BYTES)):
                print(lines.decode(errors="replace"), end="", flush=True)
                read += len(lines)

    with repeated(copy, place.seconds_between_looks):
        yield


def _whole_lines(text: bytes) -> bytes:
    return text[: text.rfind(b"\n") + 1]


@contextmanager
def watch(name: str, total: int, count: Callable[[], int], seconds: float) -> Iterator[None]:
    """Print how many of `total` pieces are done, with an ETA, whenever `count` changes while the block runs.

    It is asked for every so many `seconds`.
    """
    shown = count()
    progress = Progress(name, total, shown)

    def show() -> None:
        nonlocal shown
        if (done := count()) > shown:
            progress.show(done)
            shown = done

    with repeated(show, seconds):
        yield


def gather(name: str, tasks: list[Any]) -> list[Any]:
    """Wait for Ray tasks, printing how many are done and an ETA; results in the order of `tasks`.

    An exception of a task is raised once it is met; the others are cancelled.
    """
    import ray

    progress, pending = Progress(name, len(tasks)), list(tasks)
    try:
        while pending:
            done, pending = ray.wait(pending, num_returns=1)
            ray.get(done)
            progress.show(len(tasks) - len(pending))
    finally:
        for task in pending:
            ray.cancel(task, force=False)
    return ray.get(tasks)


def gather_responses(name: str, method: Any, question: Any, requests: Sequence[Any], in_flight: int) -> Iterator[Any]:
    """Send requests to a Serve deployment, `in_flight` at a time; yield the answers in order and print how many."""
    progress, waiting = Progress(name, len(requests)), iter(requests)
    asked = deque(method.remote(question, request) for request in islice(waiting, in_flight))
    for number in range(1, len(requests) + 1):
        answer = asked.popleft().result()
        asked.extend(method.remote(question, request) for request in islice(waiting, 1))
        progress.show(number)
        yield answer
