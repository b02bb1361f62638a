"""``e2llm rewrite``: rationales in other words, by a larger language model."""

import sys
import time
from pathlib import Path

from e2llm_core.rewriting.endpoint import Endpoint, read_key
from e2llm_core.rewriting.rewriter import rewrite

_REPORT_SECONDS = 10.0


class _Progress:
    """Prints how many lines there are, from time to time."""

    def __init__(self) -> None:
        self._next = time.monotonic() + _REPORT_SECONDS

    def __call__(self, done: int) -> None:
        if time.monotonic() >= self._next:
            print(f"{done} lines", file=sys.stderr, flush=True)
            self._next = time.monotonic() + _REPORT_SECONDS


def rewrite_file(
    source: Path, target: Path, url: str, model: str, key_file: Path | None, *, at_once: int, timeout_seconds: float
) -> None:
    """Rewrite a file and print how many lines were taken, and why others were not.

    Parameters
    ----------
    source, target : Path
        Files of JSON lines.
    url, model : str
        Endpoint and the model there.
    key_file : Path, optional
        Holds the key.
    at_once : int
        Requests at a time.
    timeout_seconds : float
        Of one reply.

    Raises
    ------
    InputError
        As `e2llm_core.rewriting.rewriter.rewrite` and `Endpoint` say.
    """
    endpoint = Endpoint(url, model, read_key(key_file), timeout_seconds)
    counted = rewrite(source, target, endpoint, at_once, _Progress())
    accepted = counted.pop("rewritten", 0)
    print(f"{target}: {accepted + counted.total()} lines, {accepted} rewritten, {counted.total()} kept as they were")
    for reason, number in counted.most_common():
        print(f"  {number} rewritings not taken: each {reason}")
