"""Splits as data: which subjects train, validate and test, with a digest that every result carries."""

import hashlib
import json
from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated, Literal

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, model_validator

from storage.errors import InputError
from storage.store import subjects_of

Role = Annotated[int, Field(ge=0, strict=True)] | tuple[str, ...]
"""Subjects of one side: how many to draw, or their names."""


class SplitConfig(BaseModel):
    """Subjects by role, as lists of names or as numbers drawn with `seed`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    train: Role = 12
    validation: Role = 3
    test: Role = 5
    reserved: int = Field(0, ge=0, description="training subjects that stage 1 does not fit; stages 2-3 see them")
    seed: int = Field(0, ge=0)

    @model_validator(mode="after")
    def _one_kind(self) -> "SplitConfig":
        if len({type(role) for role in (self.train, self.validation, self.test)}) > 1:
            raise ValueError("train, validation and test must all be numbers or all be lists of subjects")
        return self


class Split(BaseModel):
    """A resolved split: disjoint on the axis `subject`; sessions and clips are shared and said to be."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Literal["by-subject"] = "by-subject"
    disjoint_on: tuple[str, ...] = ("subject", "recording")
    shared: tuple[str, ...]
    train: tuple[str, ...]
    reserved: tuple[str, ...]
    validation: tuple[str, ...]
    test: tuple[str, ...]

    @property
    def fitted_by_stage1(self) -> tuple[str, ...]:
        """Training subjects that stage 1 fits."""
        return tuple(subject for subject in self.train if subject not in self.reserved)

    @property
    def digest(self) -> str:
        """First 16 hex digits of the SHA-256 of the split's canonical JSON."""
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def resolve_split(config: SplitConfig, trials: pd.DataFrame) -> Split:
    """Turn a split's description into subjects of a store.

    Raises
    ------
    InputError
        When subjects are missing, shared between roles, or too few.
    """
    subjects = subjects_of(trials)
    roles = _drawn(config, subjects) if isinstance(config.train, int) else _listed(config, subjects)
    train, validation, test = roles
    if not train or not test:
        raise InputError("split", "train and test need at least one subject each", "Raise their numbers.")
    if config.reserved >= len(train):
        raise InputError(
            "split.reserved", f"{config.reserved} of {len(train)} training subjects", "Leave some to stage 1."
        )
    used = trials[trials["subject"].isin([*train, *validation, *test])]
    shared = tuple(axis for axis in ("session", "clip") if _overlaps(used, axis, train, test))
    reserved = train[len(train) - config.reserved :]
    return Split(shared=shared, train=train, reserved=reserved, validation=validation, test=test)


def _drawn(config: SplitConfig, subjects: Sequence[str]) -> list[tuple[str, ...]]:
    sizes = [size for size in (config.train, config.validation, config.test) if isinstance(size, int)]
    if sum(sizes) > len(subjects):
        raise InputError(
            "split",
            f"asks for {sum(sizes)} subjects, the store has {len(subjects)}",
            "Lower train, validation or test.",
        )
    order = [subjects[place] for place in np.random.default_rng(config.seed).permutation(len(subjects))]
    edges = np.cumsum([0, *sizes])
    return [tuple(order[start:stop]) for start, stop in pairwise(edges)]


def _listed(config: SplitConfig, subjects: Sequence[str]) -> list[tuple[str, ...]]:
    roles = [role for role in (config.train, config.validation, config.test) if not isinstance(role, int)]
    named = [subject for role in roles for subject in role]
    if unknown := sorted(set(named) - set(subjects)):
        raise InputError("split", f"no subject {', '.join(unknown)} in the store", f"It has: {', '.join(subjects)}.")
    if double := sorted({subject for subject in named if named.count(subject) > 1}):
        raise InputError("split", f"subject {', '.join(double)} has two roles", "Name every subject once.")
    return roles


def _overlaps(trials: pd.DataFrame, axis: str, train: Sequence[str], test: Sequence[str]) -> bool:
    sides = (set(trials.loc[trials["subject"].isin(side), axis]) for side in (train, test))
    return bool(set.intersection(*sides))
