"""Resolving a protocol into the sides of a split, on the trials of one store."""

from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from storage.datasets import seed_vii
from storage.errors import InputError
from storage.splits.checks import checked, listed
from storage.splits.config import (
    BySubject,
    Clips,
    Custom,
    HeldOutSession,
    KFoldBySubject,
    LeaveOneSubjectOut,
    Names,
    OfficialFolds,
    SideConfig,
    SubjectAndClip,
)
from storage.splits.sides import Axis, Side, Split

_BY_SUBJECT: tuple[Axis, ...] = ("subject", "recording")


def resolve_split(config: Any, trials: pd.DataFrame) -> Split:
    """Resolve a split's configuration into sides of a store's trials.

    Parameters
    ----------
    config : SplitConfig
        Any protocol.
    trials : pandas.DataFrame
        `Store.trials`.

    Raises
    ------
    InputError
        When a side is empty or names something that the store does not have, the data set does not have these folds, or
        the sides are not as disjoint as the split declares.
    """
    split: Split = _RESOLVERS[type(config)](config, trials)
    if config.left_out:
        split = _without(split, config.left_out, trials)
    return checked(split, trials)


def _without(split: Split, labels: tuple[str, ...], trials: pd.DataFrame) -> Split:
    """The same split with no trial of these labels on the sides that train or select a model."""
    if unknown := sorted(set(labels) - set(trials["label"].dropna())):
        known = sorted(set(trials["label"].dropna()))
        problem = f"no trial of the label {listed(unknown)} in the store"
        raise InputError("split.left_out", problem, f"It has: {listed(known, 20)}.")
    if untested := sorted(set(labels) - set(split.test.rows(trials)["label"])):
        problem = f"the test side has no trial of the label {listed(untested)}"
        raise InputError("split.left_out", problem, "Leave out labels that are tested.")
    sides = {name: side.model_copy(update={"without": labels}) for name, side in split.sides.items() if name != "test"}
    return split.model_copy(update=sides)


def _by_subject(config: BySubject, trials: pd.DataFrame) -> Split:
    train, validation, test = _roles(config, trials)
    return Split(
        name="by-subject",
        disjoint_on=_BY_SUBJECT,
        train=Side(subjects=train),
        reserved=_reserved(config.reserved, train),
        validation=Side(subjects=validation) if validation else None,
        test=Side(subjects=test),
    )


def _k_fold(config: KFoldBySubject, trials: pd.DataFrame) -> Split:
    order = _shuffled(_values(trials, "subject"), config.seed)
    if config.num_folds > len(order):
        raise InputError(
            "split.num_folds",
            f"asks for {config.num_folds} folds of {len(order)} subjects",
            "Use at most one per subject.",
        )
    folds = [list(part) for part in np.array_split(np.array(order, dtype=object), config.num_folds)]
    rest = [name for part in (*folds[config.fold :], *folds[: config.fold - 1]) for name in part]
    return _hold_out(config, folds[config.fold - 1], rest)


def _leave_one_out(config: LeaveOneSubjectOut, trials: pd.DataFrame) -> Split:
    subjects = _values(trials, "subject")
    if config.fold is not None and config.fold > len(subjects):
        raise InputError("split.fold", f"asks for subject {config.fold} of {len(subjects)}", "Subjects count from 1.")
    subject = config.subject if config.fold is None else subjects[config.fold - 1]
    rest = [name for name in _shuffled(subjects, config.seed) if name != subject]
    return _hold_out(config, [str(subject)], rest)


def _hold_out(config: KFoldBySubject | LeaveOneSubjectOut, test: list[str], rest: list[str]) -> Split:
    """Split the subjects that are not tested, in their order: validation first, then training, reserved ones last."""
    if config.validation >= len(rest):
        raise InputError(
            "split.validation", f"asks for {config.validation} of {len(rest)} subjects that are not tested", "Lower it."
        )
    train = tuple(rest[config.validation :])
    validation = tuple(rest[: config.validation])
    return Split(
        name=config.protocol,
        fold=config.fold,
        disjoint_on=_BY_SUBJECT,
        train=Side(subjects=train),
        reserved=_reserved(config.reserved, train),
        validation=Side(subjects=validation) if validation else None,
        test=Side(subjects=tuple(test)),
    )


def _official(config: OfficialFolds, trials: pd.DataFrame) -> Split:
    _assert_seed_vii(trials)
    clips = _values(trials, "clip")
    test = tuple(clip for clip in clips if seed_vii.fold_of(clip) == config.fold)
    rest = [clip for clip in clips if clip not in test]
    validation = _drawn_clips(config.validation, rest, trials, config.seed, "split.validation")
    subjects = config.subjects or tuple(_shuffled(_values(trials, "subject"), config.seed))
    return Split(
        name="official-folds",
        fold=config.fold,
        disjoint_on=("clip",),
        train=Side(subjects=subjects, clips=tuple(clip for clip in rest if clip not in validation)),
        reserved=_reserved(config.reserved, subjects),
        validation=Side(subjects=subjects, clips=validation) if validation else None,
        test=Side(subjects=subjects, clips=test),
    )


def _held_out_session(config: HeldOutSession, trials: pd.DataFrame) -> Split:
    sessions = _values(trials, "session")
    rest = [name for name in sessions if name not in config.test]
    if isinstance(config.validation, int):
        if config.validation and config.validation >= len(rest):
            raise InputError(
                "split.validation",
                f"asks for {config.validation} of {len(rest)} sessions that are not tested",
                "Lower it.",
            )
        validation = tuple(sorted(_shuffled(rest, config.seed)[: config.validation]))
    else:
        validation = config.validation
    subjects = tuple(_shuffled(_values(trials, "subject"), config.seed))
    return Split(
        name="held-out-session",
        disjoint_on=("session", "recording"),
        train=Side(subjects=subjects, sessions=tuple(name for name in rest if name not in validation)),
        reserved=_reserved(config.reserved, subjects),
        validation=Side(subjects=subjects, sessions=validation) if validation else None,
        test=Side(subjects=subjects, sessions=config.test),
    )


def _subject_and_clip(config: SubjectAndClip, trials: pd.DataFrame) -> Split:
    train, validation, test = _roles(config, trials)
    clips = _values(trials, "clip")
    tested = _drawn_clips(config.test_clips, clips, trials, config.seed, "split.test_clips")
    rest = [clip for clip in clips if clip not in tested]
    checking = _drawn_clips(config.validation_clips, rest, trials, config.seed, "split.validation_clips")
    if bool(validation) != bool(checking):
        raise InputError(
            "split.validation_clips",
            f"there are {len(validation)} validation subjects but {len(checking)} validation clips",
            "Give validation both subjects and clips, or set both to 0.",
        )
    return Split(
        name="subject-and-clip",
        disjoint_on=("subject", "clip", "recording"),
        train=Side(subjects=train, clips=tuple(clip for clip in rest if clip not in checking)),
        reserved=_reserved(config.reserved, train),
        validation=Side(subjects=validation, clips=checking) if validation else None,
        test=Side(subjects=test, clips=tested),
    )


def _custom(config: Custom, trials: pd.DataFrame) -> Split:
    subjects = tuple(_values(trials, "subject"))

    def side(given: SideConfig) -> Side:
        chosen = given.subjects if given.subjects is not None else subjects
        return Side(subjects=chosen, sessions=given.sessions, clips=given.clips)

    train = side(config.train)
    return Split(
        name="custom",
        disjoint_on=config.disjoint_on,
        train=train,
        reserved=_reserved(config.reserved, train.subjects),
        validation=None if config.validation is None else side(config.validation),
        test=side(config.test),
    )


_RESOLVERS: dict[type, Callable[..., Split]] = {
    BySubject: _by_subject,
    KFoldBySubject: _k_fold,
    LeaveOneSubjectOut: _leave_one_out,
    OfficialFolds: _official,
    HeldOutSession: _held_out_session,
    SubjectAndClip: _subject_and_clip,
    Custom: _custom,
}


def _values(trials: pd.DataFrame, axis: str) -> list[Any]:
    return [value.item() if isinstance(value, np.generic) else value for value in sorted(trials[axis].unique())]


def _shuffled(values: Sequence[Any], seed: int) -> list[Any]:
    return [values[place] for place in np.random.default_rng(seed).permutation(len(values))]


def _reserved(number: int, train: tuple[str, ...]) -> tuple[str, ...]:
    if number and number >= len(train):
        raise InputError(
            "split.reserved", f"reserves {number} of {len(train)} training subjects", "Leave some for stage 1."
        )
    return train[len(train) - number :]


def _roles(config: BySubject | SubjectAndClip, trials: pd.DataFrame) -> list[tuple[str, ...]]:
    """Subjects of the train, validation and test sides."""
    roles: list[Names] = [config.train, config.validation, config.test]
    subjects = _values(trials, "subject")
    named = [role for role in roles if not isinstance(role, int)]
    if not named:
        sizes = [size for size in roles if isinstance(size, int)]
        if sum(sizes) > len(subjects):
            raise InputError(
                "split",
                f"asks for {sum(sizes)} subjects, but the store has {len(subjects)}",
                "Lower train, validation or test.",
            )
        order = _shuffled(subjects, config.seed)
        named = [tuple(order[start:stop]) for start, stop in pairwise(np.cumsum([0, *sizes]))]
    used = [subject for role in named for subject in role]
    if unknown := sorted(set(used) - set(subjects)):
        raise InputError("split", f"no subject {listed(unknown)} in the store", f"It has: {', '.join(subjects)}.")
    if double := sorted({subject for subject in used if used.count(subject) > 1}):
        raise InputError("split", f"subject {listed(double)} has two roles", "Name every subject once.")
    if not named[0] or not named[2]:
        raise InputError(
            "split", "train and test need at least one subject each", "Raise their numbers, or name subjects."
        )
    return named


def _drawn_clips(wanted: Clips, clips: Iterable[int], trials: pd.DataFrame, seed: int, place: str) -> tuple[int, ...]:
    """Return the named clips, or draw clips in rounds that take one of every label."""
    clips = list(clips)
    if not isinstance(wanted, int):
        if unknown := sorted(set(wanted) - set(clips)):
            raise InputError(place, f"clip {listed(unknown)} is not available", f"Choose from {listed(clips, 100)}.")
        return wanted
    if wanted >= len(clips):
        raise InputError(place, f"asks for {wanted} of {len(clips)} clips", "Lower it: training needs clips too.")
    label_of = trials.dropna(subset=["label"]).drop_duplicates("clip").set_index("clip")["label"]
    order = pd.DataFrame({"clip": _shuffled(clips, seed)})
    order["label"] = [str(label_of.get(clip, "")) for clip in order["clip"]]
    order["round"] = order.groupby("label").cumcount()
    first = order.sort_values("round", kind="stable")["clip"].head(wanted)
    return tuple(sorted(int(clip) for clip in first))


def _assert_seed_vii(trials: pd.DataFrame) -> None:
    shown = trials[["clip", "label"]].drop_duplicates()
    for clip, label in zip(shown["clip"], shown["label"], strict=True):
        if not (1 <= clip <= len(seed_vii.CLIP_LABELS) and seed_vii.CLIP_LABELS[clip - 1] == label):
            raise InputError(
                "split.protocol",
                f"official-folds are those of SEED-VII, but clip {clip} with label {label} is not one of its clips",
                "Use k-fold-by-subject, leave-one-subject-out or custom.",
            )
