"""A model's answers to the items of a task: requested a few items at a time, each part saved as it arrives."""

import hashlib
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar, get_args

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from e2llm_core.evaluation.config import SINGLE, EvaluationPlan
from e2llm_core.evaluation.faithfulness.edits import edited
from e2llm_core.evaluation.items import Forced, Noise, Request, requests_of
from e2llm_core.evaluation.predictions import COLUMNS, encoded, from_parquet, prediction_rows, to_parquet
from e2llm_core.inference.predictor import Generated, Predictor
from e2llm_core.stages.data import EEGData
from e2llm_core.tasks.items import EEG, RANDOM_EEG, TEXT_ALONE, Condition, Items
from e2llm_core.tasks.question import Prompt, Question, Readout
from e2llm_core.tasks.registry import LABELLING, tasks_named
from e2llm_core.tasks.scenarios.scenario import held_out
from e2llm_core.tasks.task import Task
from storage.damage import damage_digest
from storage.places.parts import Parts, discard_parts

ANSWERS = "answers"
"""Folder of the saved answers, inside the run's folder; removed once the run is done."""
ITEMS_PER_REQUEST = 50


class Client(Protocol):
    """Sends requests to replicas of an `ItemAnswerer`; answers come in the order of the requests."""

    def likelihood(self, name: str, question: Question, requests: Sequence[Request]) -> Iterator[np.ndarray]:
        """Yield the probabilities (items, options) of each request; progress is reported under `name`."""

    def generate(self, name: str, question: Question, requests: Sequence[Request]) -> Iterator[list[Generated]]:
        """Yield the generated answers of each request, one per item."""

    def forced(self, name: str, question: Question, requests: Sequence[Forced]) -> Iterator[np.ndarray]:
        """Yield the negative log-likelihoods (items, continuations) of each request, in nats."""


Asked = TypeVar("Asked", Request, Forced)
Deploy = Callable[[EvaluationPlan], AbstractContextManager[Client]]
"""From a plan with one model to a context manager that hosts this model inside its block."""


class ItemAnswerer:
    """Answers questions about numbered items; holds one copy of the model and opens the store itself.

    Parameters
    ----------
    plan : EvaluationPlan
        Plan with exactly one model, which has a language model. Its paths are absolute.
    """

    def __init__(self, plan: EvaluationPlan) -> None:
        assert plan.model is not None
        self._predictor = Predictor(plan.model)
        data = EEGData.open(plan.data)
        self._source = data.windows(data.split.test)
        self._noise = Noise(self._source, plan.seed)

    def likelihood(self, question: Question, request: Request) -> np.ndarray:
        """Option probabilities (items, options)."""
        return self._predictor.likelihood(question, self._segments(request), request.listed)

    def generate(self, question: Question, request: Request) -> list[Generated]:
        """Generated answers, one per item."""
        return self._predictor.generate(question, self._segments(request), request.listed)

    def forced(self, question: Question, request: Forced) -> np.ndarray:
        """Negative log-likelihoods (items, continuations) after each item's prefix, in nats."""
        shown = request.request
        return self._predictor.forced_nll(
            question, self._segments(shown), request.prefixes, request.continuations, shown.listed
        )

    def _segments(self, request: Request) -> np.ndarray:
        """float32 (items, segments, n_chans, n_times)."""
        if request.condition == TEXT_ALONE:
            return np.empty((*request.windows.shape, len(self._source.channels), self._source.n_times), np.float32)
        if request.condition == RANDOM_EEG:
            return self._noise.segments(request)
        numbers, change = request.windows.ravel(), None
        if request.edits:
            edits = [edit for edit in request.edits for _ in range(request.windows.shape[1])]
            change = partial(edited, edits=edits, channels=self._source.channels, sfreq_hz=self._source.sfreq_hz)
        read = self._source.read(numbers, change=change)
        return read.reshape(*request.windows.shape, *read.shape[1:])


@dataclass(frozen=True)
class AnswerSet:
    """One set of answers: all items of a task under one condition, asked in one wording and read in one way."""

    task: str
    items: Items
    question: Question
    condition: Condition
    readout: Readout
    prompt: Prompt

    @property
    def name(self) -> str:
        """Name under which progress is reported."""
        return f"{self.task} {self.condition} {self.readout} {self.prompt}"

    def parts(self) -> dict[str, Request]:
        """Requests by the name of the file in which their answers are saved."""
        requests = requests_of(self.items, self.condition, ITEMS_PER_REQUEST)
        folder = f"{self.task}/{self.condition}/{self.readout}/{self.prompt}"
        return {f"{folder}/{number:06d}.parquet": request for number, request in enumerate(requests)}


def answer_sets(
    task: Task, items: Items, labels: Sequence[str], conditions: Sequence[Condition] | None = None
) -> list[AnswerSet]:
    """Sets of answers to request for one task: one per readout and condition (all of the task's, or `conditions`).

    A task that has a primary wording is asked in it; about the EEG, it is also asked in a trained one.
    """
    conditions = task.conditions if conditions is None else conditions
    asked = [(shown, task.prompt) for shown in conditions]
    asked += [(EEG, prompt) for prompt in task.prompts[1:] if EEG in conditions]
    return [
        AnswerSet(task.name, items, task.question(labels, prompt, shown), shown, way, prompt)
        for shown, prompt in asked
        for way in get_args(Readout)
    ]


class KeptAnswers:
    """Saved answers of one model, or predictions of the references; what is saved is not computed again.

    Rows are always built from what was read back, so that a run that was killed gives the rows of an undisturbed one.

    Parameters
    ----------
    run : str or Path
        The run's folder or URL.
    made_from : dict
        Digests of what the answers depend on, as returned by the function `made_from`.
    name : str
        Name of the model in the results, or `config.REFERENCES`.
    """

    def __init__(self, run: str | Path, made_from: dict[str, str], name: str = SINGLE) -> None:
        self._name, self._parts = name, Parts(run, f"{ANSWERS}/{name}", made_from)
        if self._parts.differs:
            what = f"the {', '.join(self._parts.differs)} differs from that of the saved answers"
            print(f"[evaluate] asks again: {what} of {name}", flush=True)
        elif self._parts:
            print(f"[evaluate] goes on: {len(self._parts)} parts of the answers of {name} are saved", flush=True)

    def ask(self, sets: Sequence[AnswerSet], deploy: Callable[[], AbstractContextManager[Client]]) -> None:
        """Obtain the missing answers of all sets; the model is hosted only if there are any."""
        missing = [(one, requests) for one in sets if (requests := self._missing(one))]
        if not missing:
            return
        with deploy() as client:
            for one, requests in missing:
                given = _tables(client, one, list(requests.values()))
                for name, table in zip(requests, given, strict=True):
                    self._parts.write(name, encoded(pa.table(table)))

    def rows(self, one: AnswerSet, seed: int) -> pd.DataFrame:
        """Predictions of a set whose answers are saved."""
        tables = [pq.read_table(pa.BufferReader(self._parts.read(name))) for name in one.parts()]
        answers = pa.concat_tables(tables).to_pydict()
        options = one.question.options
        probabilities = np.array(answers["probabilities"]) if one.readout == "likelihood" else None
        if probabilities is not None:
            answers["answer"] = np.array(options, dtype=object)[probabilities.argmax(axis=1)]
        return prediction_rows(
            one.items.table,
            task=one.task,
            model=self._name,
            condition=one.condition,
            labels=options,
            answers=answers["answer"],
            readout=one.readout,
            prompt=one.prompt,
            probabilities=probabilities,
            texts=answers.get("text"),
            seed=seed,
        )

    def contents(
        self,
        asked: Mapping[str, Asked],
        answer: Callable[[Client, list[Asked]], Iterator[bytes]],
        deploy: Callable[[], AbstractContextManager[Client]],
    ) -> list[bytes]:
        """Saved contents of requests, given by the names of their parts; asks for missing ones first."""
        missing = {name: request for name, request in asked.items() if name not in self._parts}
        if missing:
            with deploy() as client:
                for name, content in zip(missing, answer(client, list(missing.values())), strict=True):
                    self._parts.write(name, content)
        return [self._parts.read(name) for name in asked]

    def probabilities(
        self,
        name: str,
        question: Question,
        requests: Sequence[Request],
        deploy: Callable[[], AbstractContextManager[Client]],
    ) -> np.ndarray:
        """Option probabilities (items, options) of a question beside the sets of answers; `name` is its own."""

        def ask(client: Client, missing: list[Request]) -> Iterator[bytes]:
            return map(array_bytes, client.likelihood(name, question, missing))

        asked = {f"{name}/{number:06d}": request for number, request in enumerate(requests)}
        return np.concatenate([array_of(content) for content in self.contents(asked, ask, deploy)])

    def reference(self, name: str, make: Callable[[], pd.DataFrame]) -> pd.DataFrame:
        """Predictions of a reference or a control; `make` is called only if they are not saved."""
        key = f"{name}.parquet"
        if key not in self._parts:
            self._parts.write(key, to_parquet(make()))
        return from_parquet(self._parts.read(key))

    def _missing(self, one: AnswerSet) -> dict[str, Request]:
        return {name: request for name, request in one.parts().items() if name not in self._parts}


def discard_answers(run: str | Path) -> None:
    """Remove the saved answers of a run that is done."""
    discard_parts(run, ANSWERS)


def made_from(plan: EvaluationPlan, data: EEGData, model_digest: str) -> dict[str, str]:
    """Digests of all that answers and references depend on: the settings, and the content of model and store."""
    settings = plan.model_dump(mode="json", include={"tasks", "num_pairs", "seed", "faithfulness"})
    settings["data"] = plan.data.model_dump(mode="json", exclude={"store"})
    settings |= {"items_per_request": ITEMS_PER_REQUEST, "columns": COLUMNS}
    settings["scenarios"] = [(one.state, one.text) for one in held_out()]
    asked = [(task, prompt) for task in tasks_named(plan.tasks) for prompt in task.prompts]
    settings["questions"] = [task.question(data.labels, prompt).user for task, prompt in asked]
    maps = [task.text_map.question(data.labels) for task, _ in asked if task.text_map is not None]
    settings["looked_up"] = [question.user for question in (*maps, LABELLING.question(data.labels))] if maps else []
    damage = f" without {damage_digest(data.store)}" if plan.data.windows.damaged == "skip" else ""
    return {
        "model": model_digest,
        "store": data.store.digest + damage,
        "plan": hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest(),
    }


def array_bytes(array: np.ndarray) -> bytes:
    """An array as the content of an .npy file."""
    sink = io.BytesIO()
    np.save(sink, array, allow_pickle=False)
    return sink.getvalue()


def array_of(content: bytes) -> np.ndarray:
    """The array that `array_bytes` wrote."""
    found: np.ndarray = np.load(io.BytesIO(content), allow_pickle=False)
    return found


def _tables(client: Client, one: AnswerSet, requests: list[Request]) -> Iterator[dict[str, Any]]:
    """Columns of the answers to each request."""
    if one.readout == "likelihood":
        for probabilities in client.likelihood(one.name, one.question, requests):
            yield {"probabilities": pa.array(probabilities.astype(float).tolist(), pa.list_(pa.float64()))}
    else:
        for generated in client.generate(one.name, one.question, requests):
            yield {
                "answer": pa.array([each.answer for each in generated], pa.string()),
                "text": pa.array([each.text for each in generated], pa.string()),
            }
