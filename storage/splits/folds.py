"""Whole protocols and their folds; the `SplitConfig` of a fold is what a job on one fold takes."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import pandas as pd
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from storage.errors import InputError
from storage.splits.checks import listed
from storage.splits.config import (
    BySubject,
    Clips,
    Count,
    Custom,
    HeldOutSession,
    KFoldBySubject,
    LeaveOneSubjectOut,
    LeavingOut,
    Names,
    OfficialFolds,
    SideConfig,
    SplitConfig,
    SubjectAndClip,
    assert_one_kind,
    by_subject_unless_named,
)
from storage.splits.sides import Axis

NUM_OFFICIAL_FOLDS = 4
_FEWEST_SUBJECTS, _FEWEST_SESSIONS = 2, 2


class Fold(BaseModel):
    """One fold of a protocol.

    Attributes
    ----------
    name
        Name of the fold within its protocol.
    split
        The same protocol restricted to this fold, as the spec of a stage takes it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    split: SplitConfig


class _Folds(LeavingOut):
    reserved: int = Field(0, ge=0, description="training subjects that stage 1 does not fit; stages 2-3 see them")
    seed: int = Field(0, ge=0)

    def shared(self) -> dict[str, Any]:
        """Keys that are passed on to the split of every fold."""
        return {"reserved": self.reserved, "seed": self.seed, "left_out": self.left_out}


class _Numbered(_Folds):
    """A protocol with numbered folds."""

    only: tuple[Annotated[int, Field(ge=1)], ...] | None = Field(
        None, min_length=1, description="only these folds; null: all"
    )


class _Draws(_Folds):
    """A protocol that draws its sides at random, once or several times."""

    train: Names = 12
    validation: Names = 3
    test: Names = 5
    draws: int = Field(1, ge=1, description="number of draws, each one fold; their seeds count up from `seed`")

    @model_validator(mode="after")
    def _drawn_if_repeated(self) -> "_Draws":
        assert_one_kind(self.train, self.validation, self.test)
        if self.draws > 1 and not isinstance(self.test, int):
            raise ValueError(f"{self.draws} draws of named subjects; give numbers of subjects, or one draw")
        return self


class BySubjectDraws(_Draws):
    """Subjects of each role, drawn once or several times."""

    protocol: Literal["by-subject"] = "by-subject"


class SubjectAndClipDraws(_Draws):
    """Tests on unseen subjects and unseen clips, drawn once or several times."""

    protocol: Literal["subject-and-clip"]
    test_clips: Clips = 20
    validation_clips: Clips = 14


class KFolds(_Numbered):
    """Subjects are dealt into folds with `seed`, and each fold is tested in turn."""

    protocol: Literal["k-fold-by-subject"]
    num_folds: int = Field(5, ge=2)
    validation: Count = 3


class EverySubjectOut(_Numbered):
    """Each subject is tested in turn; fold n tests the n-th subject in sorted order."""

    protocol: Literal["leave-one-subject-out"]
    validation: Count = 3


class AllOfficialFolds(_Numbered):
    """SEED-VII's four published folds of clips, each tested in turn."""

    protocol: Literal["official-folds"]
    subjects: tuple[str, ...] | None = None
    validation: Clips = 7


class EverySessionOut(_Folds):
    """Each session is tested in turn; a session is identified by its name over all subjects."""

    protocol: Literal["held-out-session"]
    only: tuple[str, ...] | None = Field(None, min_length=1, description="only these sessions; null: all")
    validation: Count = 0


class CustomSides(_Folds):
    """Sides given one by one; the protocol has one fold."""

    protocol: Literal["custom"]
    train: SideConfig
    validation: SideConfig | None = None
    test: SideConfig
    disjoint_on: tuple[Axis, ...] = Field(description="no two sides may share a value of these")


FoldsConfig = Annotated[
    Annotated[
        BySubjectDraws
        | KFolds
        | EverySubjectOut
        | AllOfficialFolds
        | EverySessionOut
        | SubjectAndClipDraws
        | CustomSides,
        Field(discriminator="protocol"),
    ],
    BeforeValidator(by_subject_unless_named),
]
"""Any protocol with all of its folds; by-subject if none is named."""


def folds_of(config: FoldsConfig, trials: pd.DataFrame, place: str = "folds") -> tuple[Fold, ...]:
    """List the folds of a protocol on a store.

    Parameters
    ----------
    config : FoldsConfig
        The protocol.
    trials : pandas.DataFrame
        `Store.trials`, which gives the subjects and sessions.
    place : str
        Key of the spec that error messages name.

    Returns
    -------
    tuple of Fold
        The folds in the protocol's order; `resolve_split` resolves and checks their splits.

    Raises
    ------
    InputError
        When a requested fold does not exist or is named twice, or the store has too few subjects or sessions.
    """
    match config:
        case KFolds():
            numbers = _numbers(config.only, config.num_folds, f"{place}.only")
            keys = config.shared() | {"num_folds": config.num_folds, "validation": config.validation}
            return tuple(
                Fold(name=str(n), split=KFoldBySubject(protocol=config.protocol, fold=n, **keys)) for n in numbers
            )
        case EverySubjectOut():
            subjects = sorted(trials["subject"].unique())
            if len(subjects) < _FEWEST_SUBJECTS:
                there = f"leave-one-subject-out with {len(subjects)} subject ({listed(subjects)})"
                raise InputError(f"{place}.protocol", there, "Use official-folds or held-out-session for one subject.")
            keys = config.shared() | {"validation": config.validation}
            return tuple(
                Fold(
                    name=f"{n} ({subjects[n - 1]})", split=LeaveOneSubjectOut(protocol=config.protocol, fold=n, **keys)
                )
                for n in _numbers(config.only, len(subjects), f"{place}.only")
            )
        case AllOfficialFolds():
            numbers = _numbers(config.only, NUM_OFFICIAL_FOLDS, f"{place}.only")
            keys = config.shared() | {"subjects": config.subjects, "validation": config.validation}
            return tuple(
                Fold(name=str(n), split=OfficialFolds(protocol=config.protocol, fold=n, **keys)) for n in numbers
            )
        case EverySessionOut():
            return _sessions(config, sorted(map(str, trials["session"].unique())), place)
        case BySubjectDraws() | SubjectAndClipDraws():
            return _draws(config)
        case CustomSides():
            return (Fold(name="custom", split=Custom.model_validate(config.model_dump())),)


def _numbers(only: tuple[int, ...] | None, count: int, place: str) -> tuple[int, ...]:
    """Numbers of the requested folds, out of 1 to `count`."""
    every = tuple(range(1, count + 1))
    return every if only is None else _existing(only, every, place)


def _existing(only: tuple[Any, ...], every: tuple[Any, ...], place: str) -> tuple[Any, ...]:
    if unknown := [name for name in only if name not in every]:
        raise InputError(place, f"there is no fold {listed(unknown)}", f"The protocol has {listed(every, 20)}.")
    if double := sorted({name for name in only if only.count(name) > 1}):
        raise InputError(place, f"fold {listed(double)} is given twice", "Name every fold once.")
    return only


def _sessions(config: EverySessionOut, sessions: list[str], place: str) -> tuple[Fold, ...]:
    if len(sessions) < _FEWEST_SESSIONS:
        there = f"held-out-session with {len(sessions)} session ({listed(sessions)})"
        raise InputError(f"{place}.protocol", there, "Use a protocol by subject or clip.")
    chosen = tuple(sessions) if config.only is None else _existing(config.only, tuple(sessions), f"{place}.only")
    keys = config.shared() | {"protocol": config.protocol, "validation": config.validation}
    return tuple(Fold(name=f"session {one}", split=HeldOutSession(test=(one,), **keys)) for one in chosen)


def _draws(config: BySubjectDraws | SubjectAndClipDraws) -> tuple[Fold, ...]:
    content: Mapping[str, Any] = config.model_dump(exclude={"draws"})
    kind: type[BySubject] | type[SubjectAndClip] = BySubject if isinstance(config, BySubjectDraws) else SubjectAndClip
    seeds = range(config.seed, config.seed + config.draws)
    return tuple(Fold(name=f"draw {seed}", split=kind.model_validate({**content, "seed": seed})) for seed in seeds)
