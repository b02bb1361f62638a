"""A side of a split, selected by subjects, sessions and clips, and the resolved split."""

import hashlib
import json
from typing import Any, Literal

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, SerializerFunctionWrapHandler, model_serializer

Axis = Literal["subject", "session", "clip", "recording"]

AXES: dict[Axis, str] = {"subject": "subject", "session": "session", "clip": "clip", "recording": "recording_id"}
"""Axes on which sides can be disjoint, and their columns in a trial table.

A session is identified by its name over all subjects: sides that are disjoint on it share no day of the protocol.
"""

Protocol = Literal[
    "by-subject",
    "k-fold-by-subject",
    "leave-one-subject-out",
    "official-folds",
    "held-out-session",
    "subject-and-clip",
    "custom",
]


def without_empty(content: dict[str, Any], key: str) -> dict[str, Any]:
    """The same without a key whose value is empty."""
    return {name: value for name, value in content.items() if name != key or value}


class Side(BaseModel):
    """Trials of these subjects, sessions and clips, None means all of them, without those of some labels."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    subjects: tuple[str, ...]
    sessions: tuple[str, ...] | None = None
    clips: tuple[int, ...] | None = None
    without: tuple[str, ...] = ()

    def holds(self, table: pd.DataFrame) -> np.ndarray:
        """Mark the rows (trials or windows: `subject`, `session`, `clip`, `label`) that belong to this side."""
        held = table["subject"].isin(self.subjects).to_numpy()
        if self.sessions is not None:
            held = held & table["session"].isin(self.sessions).to_numpy()
        if self.clips is not None:
            held = held & table["clip"].isin(self.clips).to_numpy()
        if self.without:
            held = held & ~table["label"].isin(self.without).to_numpy()
        return np.asarray(held, dtype=bool)

    def rows(self, trials: pd.DataFrame) -> pd.DataFrame:
        """Keep this side's rows of a trial table, in its order, re-indexed."""
        return trials[self.holds(trials)].reset_index(drop=True)

    def of(self, subjects: tuple[str, ...]) -> "Side":
        """Side with the same sessions, clips and labels but other subjects."""
        return self.model_copy(update={"subjects": subjects})

    def in_order(self) -> "Side":
        """The same side with subjects, sessions and clips in sorted order."""
        return Side(
            subjects=tuple(sorted(self.subjects)),
            sessions=None if self.sessions is None else tuple(sorted(self.sessions)),
            clips=None if self.clips is None else tuple(sorted(self.clips)),
            without=tuple(sorted(self.without)),
        )

    @model_serializer(mode="wrap")
    def _without_nothing(self, plain: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """As it was before sides could be without labels, where this one is not: digests depend on it."""
        return without_empty(plain(self), "without")


class Split(BaseModel):
    """A resolved split.

    Attributes
    ----------
    name, fold
        The protocol and, in cross-validation, its fold.
    disjoint_on
        Axes on which no two sides share a value; enforced on the trials.
    shared
        Axes on which the test side shares values with the sides that train or select the model.
    labels_missing_in_train
        Labels of the test side that no training trial has.
    train, validation, test
        The sides; no trial is on two of them.
    reserved
        Subjects of `train` that stage 1 does not fit.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Protocol
    fold: int | None = None
    disjoint_on: tuple[Axis, ...]
    shared: tuple[Axis, ...] = ()
    labels_missing_in_train: tuple[str, ...] = ()
    train: Side
    reserved: tuple[str, ...] = ()
    validation: Side | None = None
    test: Side

    @property
    def sides(self) -> dict[str, Side]:
        """The sides by name: train, validation (if there is one) and test."""
        named = {"train": self.train, "validation": self.validation, "test": self.test}
        return {name: side for name, side in named.items() if side is not None}

    @property
    def seen(self) -> tuple[Side, ...]:
        """Sides whose trials are used to train or select a model."""
        return tuple(side for name, side in self.sides.items() if name != "test")

    @property
    def fitted_by_stage1(self) -> Side:
        """The training side without the reserved subjects."""
        return self.train.of(tuple(name for name in self.train.subjects if name not in self.reserved))

    @property
    def reserved_side(self) -> Side | None:
        """The training side of the reserved subjects; None if there are none."""
        return self.train.of(self.reserved) if self.reserved else None

    @property
    def digest(self) -> str:
        """First 16 hex digits of the SHA-256 of the split's canonical JSON, with names and clips in sorted order."""
        plain = self.model_dump(mode="json") | {"reserved": sorted(self.reserved)}
        plain |= {name: side.in_order().model_dump(mode="json") for name, side in self.sides.items()}
        text = json.dumps(plain, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]
