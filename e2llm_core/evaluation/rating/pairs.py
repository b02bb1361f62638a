"""Examples for raters: the same windows, as two systems described them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from e2llm_core.evaluation.counting import counted
from e2llm_core.evaluation.predictions import matching
from e2llm_core.evaluation.rating.study import Pair, Response
from e2llm_core.evaluation.report.eeg_figures import eeg_trace
from e2llm_core.evaluation.report.pictures import examples_of
from e2llm_core.llm.families.base import Family
from e2llm_core.stages.data import EEGData
from e2llm_core.tasks.items import EEG
from e2llm_core.tasks.registry import TASKS
from storage.errors import InputError

OTHER_WINDOW = "another window"
"""Name of the second system if none is given: the first system's words about another window."""


@dataclass(frozen=True)
class System:
    """A model's generated answers.

    Attributes
    ----------
    name
        Name of the system in the results of the study.
    predictions
        Predictions of its evaluation, with the columns of `predictions.COLUMNS`.
    model
        Name of the model in the predictions.
    family
        Family of its language model, which defines how its texts are parsed.
    """

    name: str
    predictions: pd.DataFrame
    model: str
    family: Family

    def rationales(self) -> pd.DataFrame:
        """Answers about one window that count and give a rationale: one row per item, with `rationale`.

        Raises
        ------
        InputError
            If there are none, or they are to a task that is not registered.
        """
        wanted = {"readout": "generation", "condition": EEG, "model": self.model}
        table = matching(self.predictions, wanted)
        if unknown := sorted(set(table["task"]) - set(TASKS)):
            problem = f"has answers to tasks that this version does not know: {', '.join(unknown)}"
            raise InputError(self.name, problem, f"It knows {', '.join(TASKS)}.")
        table = counted(table)
        alike = (table["segments"].map(len) == 1) & table["listed"].isna()  # all asked the same about one window
        rows = table[alike & table["answer"].notna() & table["text"].notna()]
        rows = rows[rows["task"] == rows["task"].iloc[0]] if len(rows) else rows
        rows = rows.assign(rationale=[self.family.split(text)[0] for text in rows["text"]])
        rows = rows[rows["rationale"].notna()]
        if rows.empty:
            problem = f"no answer of {self.model} about one window gives a rationale"
            raise InputError(self.name, problem, "Name an evaluation with generated answers.")
        return rows.set_index("item_id")


def chosen_pairs(data: EEGData, first: System, second: System | None, number: int, seed: int) -> list[Pair]:
    """Draw windows, evenly over their labels, with what two systems said about them.

    Windows about which both say the same are left out: nobody can prefer one of two equal descriptions.

    Parameters
    ----------
    data : EEGData
        Data that both systems were tested on.
    first, second : System
        Systems to compare. Without a second one, the first system's words about a window are compared with its words
        about another window of the same subject with the same answer: what phrases that merely go with the answer are
        worth.
    number : int
        Number of windows to draw; fewer if there are not enough.
    seed : int
        Seed of the draw.

    Raises
    ------
    InputError
        If the systems have no window in common, or say the same about each.
    """
    rng = np.random.default_rng([seed, number])
    ours = first.rationales()
    theirs = _about_other_windows(ours, rng) if second is None else _of_the_same(ours, second.rationales(), second.name)
    theirs = theirs.loc[[item for item in theirs.index if _response(theirs.loc[item]) != _response(ours.loc[item])]]
    if theirs.empty:
        problem = "says the same as the first system about every window"
        raise InputError(second.name if second else OTHER_WINDOW, problem, "Name another evaluation in --other.")
    common = ours.loc[theirs.index]
    drawn = common.loc[evenly(common["truth"], number, rng)]
    examples = examples_of(data, drawn.reset_index(), first.family)
    return [
        Pair(
            item_id=str(item),
            subject=str(drawn.loc[item, "subject"]),
            truth=str(drawn.loc[item, "truth"]),
            picture=eeg_trace(example, f"eeg-{place}"),
            responses=(_response(drawn.loc[item]), _response(theirs.loc[item])),
        )
        for place, (item, example) in enumerate(zip(drawn.index, examples, strict=True), start=1)
    ]


def evenly(labels: pd.Series, number: int, rng: np.random.Generator) -> list[str]:
    """Draw from the index of `labels` in rounds, each of which takes one item of every label."""
    order = labels.iloc[rng.permutation(len(labels))]
    rounds = order.groupby(order, sort=False).cumcount()
    return list(rounds.sort_values(kind="stable").index[:number])


def _of_the_same(ours: pd.DataFrame, theirs: pd.DataFrame, name: str) -> pd.DataFrame:
    """Rows of another system about the windows that both systems described."""
    common = [item for item in theirs.index if item in ours.index and _window(ours, item) == _window(theirs, item)]
    if not common:
        problem = "describes none of the windows that the first system describes"
        raise InputError(name, problem, "Name two evaluations on one store with one split.")
    return theirs.loc[common]


def _window(rows: pd.DataFrame, item: str) -> tuple[str, int, int]:
    (segment,) = rows.loc[item, "segments"]
    return str(segment["recording_id"]), int(segment["start"]), int(segment["stop"])


def _about_other_windows(rows: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """For each item, the row of another item of the same subject with the same answer; left out if there is none."""
    foils: dict[str, pd.Series] = {}
    for _, group in rows.groupby(["subject", "answer"]):
        cycle: Sequence[str] = [group.index[place] for place in rng.permutation(len(group))]
        for item, other in zip(cycle, np.roll(np.array(cycle, dtype=object), 1), strict=True):
            if item != other:
                foils[item] = group.loc[other]
    if not foils:
        problem = "no subject has two windows with the same answer, so there is nothing to compare with"
        raise InputError(OTHER_WINDOW, problem, "Name a second evaluation in --other.")
    return pd.DataFrame(foils).T


def _response(row: pd.Series) -> Response:
    return Response(rationale=str(row["rationale"]), answer=str(row["answer"]))
