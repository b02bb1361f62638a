"""Evaluations and scorings in processes that kill themselves, as `kill -9` would, at a given event."""

import os
import signal
import zlib
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pandas as pd

from cluster.batch import scoring
from e2llm_core.evaluation import answers, run
from e2llm_core.evaluation.config import EvaluationPlan
from e2llm_core.evaluation.items import Forced, Request
from e2llm_core.inference.config import ScoringPlan
from e2llm_core.inference.predictor import Generated
from e2llm_core.tasks.question import Question

PER_REQUEST = 3
_THOUGHT = "Beta power over the left frontal region is above the session average."


class Death:
    """Counts answers, and the moments before and after a file gets its name; kills this process at one of them."""

    def __init__(self, at: int | None) -> None:
        self._left = at

    def event(self) -> None:
        """One more; the last one, maybe."""
        if self._left is not None:
            self._left -= 1
            if self._left < 0:
                os.kill(os.getpid(), signal.SIGKILL)

    def in_writes(self) -> None:
        """Have files written under its eyes, from now on."""
        plain = Path.replace

        def replace(path: Path, target: Path) -> Path:
            self.event()
            done = plain(path, target)
            self.event()
            return done

        Path.replace = replace  # type: ignore[assignment, method-assign]


class FakeClient:
    """Answers by the numbers alone, and writes down what it was asked."""

    def __init__(self, log: Path, death: Death) -> None:
        self._log, self._death = log, death

    def likelihood(self, name: str, question: Question, requests: Sequence[Request]) -> Iterator[np.ndarray]:
        """Random probabilities."""
        for request in requests:
            drawn = self._random(name, request).random((len(request.items), len(question.options)))
            yield (drawn / drawn.sum(axis=1, keepdims=True)).astype(np.float32)

    def generate(self, name: str, question: Question, requests: Sequence[Request]) -> Iterator[list[Generated]]:
        """Random answers, some of them none."""
        for request in requests:
            drawn = self._random(name, request).choice([*question.options, None], len(request.items))
            yield [Generated(f"<think>{_THOUGHT}</think>{answer}", answer) for answer in drawn]

    def forced(self, name: str, question: Question, requests: Sequence[Forced]) -> Iterator[np.ndarray]:
        """Random likelihoods."""
        for request in requests:
            shape = (len(request.items), len(request.continuations[0]))
            yield self._random(name, request).random(shape).astype(np.float32)

    def _random(self, name: str, request: Request | Forced) -> np.random.Generator:
        with self._log.open("a") as log:
            log.write(f"{name} {request.items[0]}\n")
        self._death.event()
        return np.random.default_rng([zlib.crc32(name.encode()), int(request.items[0])])


def evaluate(plan: EvaluationPlan, folder: Path, log: Path, at: int | None = None) -> None:
    """Evaluate with answers of a `FakeClient`; the page is left out, drawing takes seconds."""
    run.write_report = lambda folder: folder / "report.html"
    answers.ITEMS_PER_REQUEST = PER_REQUEST
    death = Death(at)
    death.in_writes()
    run.evaluate(plan, folder, lambda one: nullcontext(FakeClient(log, death)), {})


class FakeScorer:
    """Scores windows by their numbers alone."""

    def __init__(self, plan: ScoringPlan) -> None:
        pass

    def score(self, numbers: np.ndarray) -> pd.DataFrame:
        """One row each."""
        return pd.DataFrame({"window": numbers, "score": np.sqrt(numbers)})


def score(plan: ScoringPlan, folder: Path, log: Path, at: int | None = None) -> None:
    """Score with a `FakeScorer`, stretch by stretch, as one of Ray's workers does."""
    scoring._WINDOWS_PER_BATCH = PER_REQUEST
    scoring.WindowScorer = FakeScorer  # type: ignore[assignment, misc]
    death = Death(at)
    death.in_writes()
    stretches, _ = scoring.missing_stretches(plan, folder)
    writer = scoring.ScoreWriter(plan, str(folder))
    for stretch in stretches:
        with log.open("a") as file:
            file.write(f"{stretch['first']}\n")
        death.event()
        writer({name: np.array([number]) for name, number in stretch.items()})
