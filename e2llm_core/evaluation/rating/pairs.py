"""Examples for raters: the same windows, as two systems described them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from e2llm_core.evaluation.rating.study import Pair, Response
from e2llm_core.evaluation.report.eeg_figures import eeg_trace
from e2llm_core.evaluation.report.pictures import examples_of
from e2llm_core.llm.families.base import Family
from e2llm_core.stages.data import EEGData
from e2llm_core.tasks.items import EEG
from storage.errors import InputError

OTHER_WINDOW = "another window"
"""What the second system is called where there is none: the first one's words about another window."""


@dataclass(frozen=True)
class System:
    """A model's generated answers.

    Attributes
    ----------
    name
        What results call it.
    predictions
        Of its evaluation: the columns of `predictions.COLUMNS`.
    model
        Its name in the predictions.
    family
        Says how its texts are read.
    """

    name: str
    predictions: pd.DataFrame
    model: str
    family: Family

    def rationales(self) -> pd.DataFrame:
        """Answers about one window that give a rationale: one row per item, with `rationale`.

        Raises
        ------
        InputError
            When there is none.
        """
        table = self.predictions
        generated = (table["readout"] == "generation") & (table["condition"] == EEG) & (table["model"] == self.model)
        rows = table[generated & (table["segments"].map(len) == 1) & table["answer"].notna() & table["text"].notna()]
        rows = rows[rows["task"] == rows["task"].iloc[0]] if len(rows) else rows
        rows = rows.assign(rationale=[self.family.split(text)[0] for text in rows["text"]])
        rows = rows[rows["rationale"].notna()]
        if rows.empty:
            problem = f"no answer of {self.model} about one window gives a rationale"
            raise InputError(self.name, problem, "Name an evaluation with generated answers.")
        return rows.set_index("item_id")


def chosen_pairs(data: EEGData, first: System, second: System | None, number: int, seed: int) -> list[Pair]:
    """Draw windows, evenly over their labels, with what two systems said of them.

    Windows of which both say the same are left out: nobody can prefer one of two equal descriptions.

    Parameters
    ----------
    data : EEGData
        What both were tested on.
    first, second : System
        Whose words are compared; without a second, the first one's words about the window with those that it found for
        another window of the same subject with the same answer: what phrases that merely go with the answer are worth.
    number : int
        Of windows; fewer where there are fewer.
    seed : int
        Of the draw.

    Raises
    ------
    InputError
        When the systems have no window in common, or say the same of each.
    """
    rng = np.random.default_rng([seed, number])
    ours = first.rationales()
    theirs = _about_other_windows(ours, rng) if second is None else _of_the_same(ours, second.rationales(), second.name)
    theirs = theirs.loc[[item for item in theirs.index if _response(theirs.loc[item]) != _response(ours.loc[item])]]
    if theirs.empty:
        problem = "says the same as the first system of every window"
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
    """Draw from an index in rounds that take one of every label."""
    order = labels.iloc[rng.permutation(len(labels))]
    rounds = order.groupby(order, sort=False).cumcount()
    return list(rounds.sort_values(kind="stable").index[:number])


def _of_the_same(ours: pd.DataFrame, theirs: pd.DataFrame, name: str) -> pd.DataFrame:
    """Another system's rows about windows that both described."""
    common = [item for item in theirs.index if item in ours.index and _window(ours, item) == _window(theirs, item)]
    if not common:
        problem = "describes none of the windows that the first system describes"
        raise InputError(name, problem, "Name two evaluations on one store with one split.")
    return theirs.loc[common]


def _window(rows: pd.DataFrame, item: str) -> tuple[str, int, int]:
    (segment,) = rows.loc[item, "segments"]
    return str(segment["recording_id"]), int(segment["start"]), int(segment["stop"])


def _about_other_windows(rows: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """For each item, the row of another one of the same subject with the same answer; without one it is left out."""
    foils: dict[str, pd.Series] = {}
    for _, group in rows.groupby(["subject", "answer"]):
        cycle: Sequence[str] = [group.index[place] for place in rng.permutation(len(group))]
        for item, other in zip(cycle, np.roll(np.array(cycle, dtype=object), 1), strict=True):
            if item != other:
                foils[item] = group.loc[other]
    if not foils:
        problem = "no subject has two windows with one answer, so nothing can stand beside them"
        raise InputError(OTHER_WINDOW, problem, "Name a second evaluation in --other.")
    return pd.DataFrame(foils).T


def _response(row: pd.Series) -> Response:
    return Response(rationale=str(row["rationale"]), answer=str(row["answer"]))
