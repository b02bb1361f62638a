"""Checks that every split must pass, whatever its protocol, made on the trials themselves."""

from collections.abc import Iterable
from itertools import combinations

import numpy as np
import pandas as pd

from storage.errors import InputError
from storage.splits.sides import AXES, Split

_SHOWN = 5


def checked(split: Split, trials: pd.DataFrame) -> Split:
    """Check a split against a trial table, and fill in `shared` and `labels_missing_in_train`.

    Raises
    ------
    InputError
        When a side is empty or names something that the store does not have, stage 1 has no training trial, a trial is
        on two sides, sides share a value of an axis that the split declares disjoint, the split declares clips disjoint
        but clip numbers do not identify stimuli, or trials of two sides overlap in one recording.
    """
    if "clip" in split.disjoint_on:
        _assert_clips_name_stimuli(trials)
    held = {name: side.holds(trials) for name, side in split.sides.items()}
    for name, side in split.sides.items():
        for values, axis in ((side.subjects, "subject"), (side.sessions, "session"), (side.clips, "clip")):
            _known(name, axis, values, trials[axis])
        if not held[name].any():
            raise InputError(
                "split", f"the {name} side has no trial", "Give it subjects, sessions or clips that have trials."
            )
    for (one, first), (other, second) in combinations(held.items(), 2):
        _apart(split, (one, other), trials[first], trials[second], trials[first & second])
    if not split.fitted_by_stage1.holds(trials).any():
        num = f"reserves {len(split.reserved)} of {len(split.train.subjects)} training subjects"
        raise InputError("split.reserved", num, "Leave some for stage 1.")
    _assert_no_overlap_in_time(trials, held)
    seen = trials[np.any([rows for name, rows in held.items() if name != "test"], axis=0)]
    test = trials[held["test"]]
    shared = tuple(axis for axis, column in AXES.items() if set(seen[column]) & set(test[column]))
    missing = sorted(set(test["label"].dropna()) - set(trials.loc[held["train"], "label"]))
    return split.model_copy(update={"shared": shared, "labels_missing_in_train": tuple(missing)})


def _assert_clips_name_stimuli(trials: pd.DataFrame) -> None:
    """Refuse clip numbers with several labels: a stimulus has one label."""
    labels = trials.dropna(subset=["label"]).groupby("clip")["label"].unique()
    if len(mixed := labels[labels.map(len) > 1]):
        raise InputError(
            "split",
            f"clip numbers of this store do not identify stimuli (clip {mixed.index[0]} has the labels "
            f"{listed(sorted(mixed.iloc[0]))}), so sides cannot be disjoint on clip",
            "Use a protocol by subject or session, or ingest with stimulus numbers in the label table's column `clip`.",
        )


def _known(name: str, axis: str, values: tuple[str, ...] | tuple[int, ...] | None, column: pd.Series) -> None:
    if values is None:
        return
    known = set(column)
    if unknown := [value for value in values if value not in known]:
        raise InputError(
            f"split.{name}", f"no {axis} {listed(unknown)} in the store", f"It has: {listed(sorted(known), 20)}."
        )


def _apart(split: Split, names: tuple[str, str], first: pd.DataFrame, second: pd.DataFrame, both: pd.DataFrame) -> None:
    if len(both):
        row = both.iloc[0]
        trial = f"trial {row['trial']} of subject {row['subject']}, session {row['session']}"
        raise InputError(
            "split", f"{trial} is on the sides {' and '.join(names)}", "Assign every trial to at most one side."
        )
    for axis in split.disjoint_on:
        common = set(first[AXES[axis]]) & set(second[AXES[axis]])
        if common:
            raise InputError(
                "split",
                f"{names[0]} and {names[1]} share {axis} {listed(sorted(common))} but are declared disjoint on it",
                "Change the sides, or leave the axis out of `disjoint_on`.",
            )


def _assert_no_overlap_in_time(trials: pd.DataFrame, held: dict[str, np.ndarray]) -> None:
    """Refuse trials of two sides that overlap: windows stay in their trial, so only then can windows overlap."""
    number = np.full(len(trials), -1)
    for place, rows in enumerate(held.values()):
        number[rows] = place
    used = trials.assign(side=number)[number >= 0].sort_values(["recording_id", "start"], kind="stable")
    for place in range(len(held)):
        others = used[used["side"] != place]
        reach = others.groupby("recording_id")["stop"].cummax()
        ahead = others.assign(reach=reach)[["recording_id", "start", "reach"]]
        own = used.loc[used["side"] == place, ["recording_id", "start", "stop"]]
        met = pd.merge_asof(
            own.sort_values("start"), ahead.sort_values("start"), on="start", by="recording_id", direction="backward"
        )
        if len(crossing := met[met["reach"] > met["start"]]):
            row = crossing.iloc[0]
            raise InputError(
                "split",
                f"trials of two sides overlap in recording {row['recording_id']} at sample {row['start']}",
                "Keep trials that overlap in time on one side.",
            )


def listed(values: Iterable[object], most: int = _SHOWN) -> str:
    """Join the first few values, and say how many more there are."""
    names = [str(value) for value in values]
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
