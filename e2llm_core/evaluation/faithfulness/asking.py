"""Requests to a hosted model with a changed signal, or with an answer that has already begun."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import asdict, dataclass
from functools import cache
from typing import Protocol

import numpy as np

from e2llm_core.evaluation.answers import Client, KeptAnswers, array_bytes, array_of
from e2llm_core.evaluation.faithfulness.edits import BandEdit
from e2llm_core.evaluation.items import Forced, Request
from e2llm_core.inference.predictor import Generated
from e2llm_core.tasks.items import EEG
from e2llm_core.tasks.question import Question

Edits = Sequence[BandEdit | None]
Host = Callable[[], AbstractContextManager[Client]]


class Asking(Protocol):
    """Answers about windows of one task that shows one segment."""

    def likelihoods(
        self,
        check: str,
        windows: np.ndarray,
        prefixes: Sequence[str],
        continuations: Sequence[Sequence[str]],
        edits: Edits = (),
    ) -> np.ndarray:
        """Negative log-likelihoods (items, continuations) of what follows each prefix, in nats."""

    def texts(self, check: str, windows: np.ndarray, edits: Edits) -> list[str]:
        """Generated texts, one per window."""


@dataclass(frozen=True)
class KeptAsking:
    """Asks the replicas; saved answers are not asked for again.

    Attributes
    ----------
    kept : KeptAnswers
        Saved answers of this model.
    task : str
        Name of the task.
    question : Question
        Question of the task.
    host : callable
        Gives the client.
    size : int
        Windows per request.
    """

    kept: KeptAnswers
    task: str
    question: Question
    host: Host
    size: int

    def likelihoods(
        self,
        check: str,
        windows: np.ndarray,
        prefixes: Sequence[str],
        continuations: Sequence[Sequence[str]],
        edits: Edits = (),
    ) -> np.ndarray:
        """Negative log-likelihoods (items, continuations) of what follows each prefix, in nats."""
        requests = {
            name: Forced(
                request,
                tuple(prefixes[item] for item in request.items),
                tuple(tuple(continuations[item]) for item in request.items),
            )
            for name, request in self._requests(check, windows, edits).items()
        }

        def ask(client: Client, missing: list[Forced]) -> Iterator[bytes]:
            for nll in client.forced(f"{self.task} {check}", self.question, missing):
                yield array_bytes(nll)

        contents = self.kept.contents(requests, ask, self.host)
        return np.concatenate([array_of(content) for content in contents])

    def texts(self, check: str, windows: np.ndarray, edits: Edits) -> list[str]:
        """Generated texts, one per window."""

        def ask(client: Client, missing: list[Request]) -> Iterator[bytes]:
            for generated in client.generate(f"{self.task} {check}", self.question, missing):
                yield json.dumps([asdict(one) for one in generated]).encode()

        contents = self.kept.contents(self._requests(check, windows, edits), ask, self.host)
        return [Generated(**one).text for content in contents for one in json.loads(content)]

    def _requests(self, check: str, windows: np.ndarray, edits: Edits) -> dict[str, Request]:
        numbers = np.arange(len(windows))
        parts = [numbers[at : at + self.size] for at in range(0, len(numbers), self.size)]
        changes = [tuple(edits[item] for item in part) if edits else () for part in parts]
        return {
            f"{self.task}/{check}/{number:06d}": Request(EEG, part, windows[part, None], change)
            for number, (part, change) in enumerate(zip(parts, changes, strict=True))
        }


@contextmanager
def hosted_once(deploy: Host) -> Iterator[Host]:
    """Host a model at its first request and until the block ends, whatever the number of requests."""
    with ExitStack() as stack:
        client = cache(lambda: stack.enter_context(deploy()))
        yield lambda: nullcontext(client())
