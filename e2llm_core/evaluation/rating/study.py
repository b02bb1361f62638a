"""A study of human judgement: blinded examples, the key that unblinds them, and raters' answers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, TypeVar

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from storage.errors import InputError
from storage.places.files import write_bytes

SCALES = {
    "faithfulness": "What the rationale says about the signal can be seen in the signal.",
    "plausibility": "The rationale makes the answer convincing.",
}
"""Scales from 1 to 5 on which each response is rated, with the statement that raters agree or disagree with."""

_T = TypeVar("_T", bound=BaseModel)

Rating = Annotated[int, Field(ge=1, le=5)]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Response(_Frozen):
    """What a system said about a window."""

    rationale: str
    answer: str


@dataclass(frozen=True)
class Pair:
    """A window, and what two systems said about it.

    Attributes
    ----------
    item_id
        Identifier of the item that shows the window.
    subject
        Subject that the window comes from.
    truth
        True label of the window; no rater sees it.
    picture
        The EEG as inline SVG.
    responses
        Responses of the first and of the second system.
    """

    item_id: str
    subject: str
    truth: str
    picture: str
    responses: tuple[Response, Response]


class KeyEntry(_Frozen):
    """The item behind an example, and which system gave which response.

    Attributes
    ----------
    order
        Systems (0 is the first of the study) in the order in which the page shows their responses.
    """

    item_id: str
    subject: str
    truth: str
    order: tuple[int, int]


class StudyKey(_Frozen):
    """Key that unblinds a page; raters must not see it."""

    study: str
    seed: int
    systems: tuple[str, str]
    examples: dict[str, KeyEntry]

    def write(self, path: Path) -> None:
        """Write as JSON, atomically."""
        write_bytes(path, (self.model_dump_json(indent=2) + "\n").encode())

    @classmethod
    def read(cls, path: Path) -> StudyKey:
        """Read what `write` wrote; raises InputError for anything else."""
        return _read(cls, path, "the key of a study", "Name the .key.json file that was written beside the page.")


@dataclass(frozen=True)
class BlindedExample:
    """An example as raters see it: its responses in the order of the key."""

    name: str
    picture: str
    responses: tuple[Response, Response]


def blinded(pairs: Sequence[Pair], systems: tuple[str, str], seed: int) -> tuple[list[BlindedExample], StudyKey]:
    """Shuffle the examples, and the systems within each, so that half of the examples show the first system first.

    Parameters
    ----------
    pairs
        Pairs to be rated.
    systems
        Names of the two systems in the results.
    seed
        Seed of the order; the same seed gives the same page.
    """
    rng = np.random.default_rng([seed, len(pairs)])
    first = rng.permutation(np.arange(len(pairs)) % 2)
    examples, entries = [], {}
    for number, (place, one) in enumerate(zip(rng.permutation(len(pairs)), first, strict=True), start=1):
        pair, order = pairs[place], (int(one), 1 - int(one))
        name = f"example-{number:02d}"
        examples.append(BlindedExample(name, pair.picture, (pair.responses[order[0]], pair.responses[order[1]])))
        entries[name] = KeyEntry(item_id=pair.item_id, subject=pair.subject, truth=pair.truth, order=order)
    shown = [(each.name, each.picture, [response.model_dump() for response in each.responses]) for each in examples]
    study = hashlib.sha256(json.dumps(shown).encode()).hexdigest()[:16]
    return examples, StudyKey(study=study, seed=seed, systems=systems, examples=entries)


class ExampleAnswer(_Frozen):
    """A rater's answer on one example; numbers and ratings refer to the places on the page."""

    example: str
    preference: Literal[1, 2]
    faithfulness: tuple[Rating, Rating]
    plausibility: tuple[Rating, Rating]


class RaterAnswers(_Frozen):
    """A rater's file, as the page's button saves it."""

    study: str
    rater: str = Field(min_length=1, max_length=60)
    answers: tuple[ExampleAnswer, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _each_once(self) -> RaterAnswers:
        names = [answer.example for answer in self.answers]
        if double := [name for name in names if names.count(name) > 1]:
            raise ValueError(f"{double[0]} is answered twice")
        return self

    @classmethod
    def read(cls, path: Path, key: StudyKey) -> RaterAnswers:
        """Read a rater's file.

        Raises
        ------
        InputError
            If it is not a rater's file, or belongs to another page.
        """
        given = _read(cls, path, "a rater's answers", "Ask the rater to save them again.")
        if given.study != key.study:
            problem = f"answers the page {given.study}, but the key is for {key.study}"
            raise InputError(str(path), problem, "Give the key that was written with the raters' page.")
        if unknown := sorted({answer.example for answer in given.answers} - set(key.examples)):
            raise InputError(str(path), f"answers {unknown[0]}, which the page does not show", "Ask the rater again.")
        return given


def _read(model: type[_T], path: Path, what: str, remedy: str) -> _T:
    try:
        return model.model_validate_json(path.read_bytes())
    except OSError as error:
        raise InputError(str(path), f"cannot be read ({error.strerror})", remedy) from None
    except ValidationError as error:
        first = error.errors()[0]
        keys = ".".join(map(str, first["loc"]))
        raise InputError(str(path), f"is not {what} ({keys}: {first['msg']})", remedy) from None
