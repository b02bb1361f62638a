"""Predictors that see no EEG, and the expected score of each.

If the order of clips is fixed, the *schedule* of an experiment gives the label away. These controls measure by how
much. Their expected values follow from the table of trials alone. If the design is balanced, so that every subject saw
the same trials and has equally many windows of each, any other measured value is a bug.

Balanced accuracy for the published order of SEED-VII (4 sessions of 20 clips, 5 of 7 emotions per session):

=====================  ==========  ==========================================================================
``session_only``       0.20-0.238  0.20 guessing among the session's emotions, 5/21 with the best one of each
``session_position``   1.0         the order is the same for everybody: a shortcut *ceiling*, not chance
``nearest_trial``      1.0         for a new subject, the nearest training trial is the same clip of somebody else
uninformative answer   1/7         kappa 0
=====================  ==========  ==========================================================================

Tables have one row per item (a trial, or a window of it) with the columns ``subject, session, label`` and,
for the position, ``position`` (of the trial in its session). An item may have several `segments`; its ``label`` is then
the answer about all of them, such as ``same`` or ``different``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from e2llm_core.evaluation.metrics import PointsMetric
from e2llm_core.evaluation.scores import confusion_counts, scores_from_counts
from e2llm_core.tasks.items import shown


def _require(table: pd.DataFrame, columns: Sequence[str]) -> None:
    missing = [name for name in columns if name not in table]
    if missing:
        raise ValueError(f"the table lacks the columns {missing}")
    if table.empty:
        raise ValueError("the table is empty")


def _best_label_per_session(train: pd.DataFrame) -> dict[Any, str]:
    """Label of each session with the largest share n(session, label) / n(label), as balanced accuracy sums these.

    Among equally frequent labels of a session, this picks the one that is rarest elsewhere; remaining ties go to the
    first in alphabetical order.
    """
    counts = pd.crosstab(train["session"], train["label"])
    return dict((counts / counts.sum(axis=0)).idxmax(axis=1))


def session_only(train: pd.DataFrame, test: pd.DataFrame) -> NDArray[np.object_]:
    """Predict from the session alone, with the largest balanced accuracy that this allows.

    Parameters
    ----------
    train, test
        Tables with the columns ``session, label`` and ``session``, respectively. Pairs use the same function.

    Returns
    -------
    array of str, one per row of `test`
        A session that training never saw gets the most frequent training label.
    """
    _require(train, ["session", "label"])
    _require(test, ["session"])
    best = _best_label_per_session(train)
    default = train["label"].value_counts().sort_index().idxmax()
    return np.array([best.get(session, default) for session in test["session"]], dtype=object)


def expected_session_only(table: pd.DataFrame) -> dict[str, float]:
    """Scores of `session_only` that the design of `table` implies.

    Raises
    ------
    ValueError
        If a column is missing or the table is empty.
    """
    _require(table, ["session", "label"])
    labels = sorted(table["label"].unique())
    counts = np.zeros((len(labels), len(labels) + 1))
    for session, label in _best_label_per_session(table).items():
        shown = table.loc[table["session"] == session, "label"].value_counts()
        counts[:, labels.index(label)] += shown.reindex(labels, fill_value=0).to_numpy()
    return {name: float(value) for name, value in scores_from_counts(counts).items()}


def session_only_range(table: pd.DataFrame) -> tuple[float, float]:
    """Balanced accuracy of guessing evenly among the session's labels, and of the best label per session.

    For the order of SEED-VII this is (0.20, 0.238).
    """
    _require(table, ["session", "label"])
    counts = pd.crosstab(table["session"], table["label"]).to_numpy(dtype=float)
    evenly = 1.0 / (counts > 0).sum(axis=1, keepdims=True)
    shares = counts / counts.sum(axis=0, keepdims=True)
    return float((shares * evenly).sum() / counts.shape[1]), float(shares.max(axis=1).sum() / counts.shape[1])


def _most_frequent(train: pd.DataFrame, keys: list[str]) -> dict[tuple[Any, ...], str]:
    counts = train.groupby([*keys, "label"], sort=True).size().reset_index(name="count")
    best = counts.sort_values("count", ascending=False, kind="stable").drop_duplicates(keys)
    return {tuple(row): label for row, label in zip(best[keys].itertuples(index=False), best["label"], strict=True)}


def session_position(train: pd.DataFrame, test: pd.DataFrame) -> NDArray[np.object_]:
    """Predict from the session and the position of the trial in it.

    If the order of clips is the same for everybody, this is right on every item: it is the ceiling of what a model can
    score by recognising *when* a window was recorded.

    Parameters
    ----------
    train, test
        Tables with the columns ``session, position, label`` and ``session, position``, respectively.

    Returns
    -------
    array of str, one per row of `test`
        A position that training never saw is answered as by `session_only`.
    """
    _require(train, ["session", "position", "label"])
    _require(test, ["session", "position"])
    known = _most_frequent(train, ["session", "position"])
    backed_off = session_only(train, test)
    places = zip(test["session"], test["position"], strict=True)
    return np.array([known.get(key, other) for key, other in zip(places, backed_off, strict=True)], dtype=object)


LabelsAnswer = Callable[[Sequence[str], str], str]
"""From the labels of an item's segments, and its own part of the question, to the answer that they imply."""


def answers_by_position(answer: LabelsAnswer, train_trials: pd.DataFrame, items: pd.DataFrame) -> NDArray[np.object_]:
    """Answer by the labels that `session_position` gives to the trials of each item.

    Parameters
    ----------
    answer
        The answer that labels imply.
    train_trials
        Single trials or windows of the training subjects: ``session, position, label`` (the emotion).
    items
        Items with equally many `segments` each; ``listed``, where their question has a part of its own.

    Returns
    -------
    array of str
        One answer per item.
    """
    _require(items, ["segments"])
    places = range(len(items["segments"].iloc[0]))
    labels = zip(*(session_position(train_trials, shown(items, place)) for place in places), strict=True)
    own = items["listed"] if "listed" in items else [""] * len(items)
    return np.array([answer(found, listed) for found, listed in zip(labels, own, strict=True)], dtype=object)


def nearest_trial(train: pd.DataFrame, test: pd.DataFrame) -> NDArray[np.object_]:
    """Answer with the label of the training trial that is nearest in time, in the same session.

    Candidates are the subject's own trials if training has any of that session, otherwise those of all training
    subjects; distance is the difference of positions. Of several equally near trials, the most frequent label is taken;
    ties go to the label of the earliest trial, then to the first in alphabetical order.

    Parameters
    ----------
    train, test
        Tables with the columns ``subject, session, position, label`` and ``subject, session, position``, respectively.

    Returns
    -------
    array of str, one per row of `test`
        A session that training never saw is answered as by `session_only`.
    """
    _require(train, ["subject", "session", "position", "label"])
    _require(test, ["subject", "session", "position"])
    own, everybody = (_votes(train, keys) for keys in (["subject", "session"], ["session"]))
    answers, backed_off = [], session_only(train, test)
    places = zip(test["subject"], test["session"], test["position"], backed_off, strict=True)
    known: dict[tuple[Any, ...], str] = {}
    for subject, session, position, other in places:
        votes = own.get((subject, session), everybody.get((session,)))
        place = (subject, session, position)
        if place not in known:
            known[place] = other if votes is None else _nearest(votes, position)
        answers.append(known[place])
    return np.array(answers, dtype=object)


def _votes(train: pd.DataFrame, keys: list[str]) -> dict[tuple[Any, ...], dict[int, Counter[str]]]:
    """Count of each label at each position, by the values of the columns `keys`."""
    votes: dict[tuple[Any, ...], dict[int, Counter[str]]] = {}
    columns = [train[name] for name in (*keys, "position", "label")]
    for *key, position, label in zip(*columns, strict=True):
        votes.setdefault(tuple(key), {}).setdefault(position, Counter())[label] += 1
    return votes


def _nearest(votes: dict[int, Counter[str]], position: int) -> str:
    distance = min(abs(other - position) for other in votes)
    near = [votes[other] for other in (position - distance, position + distance) if other in votes]
    total = sum(near, Counter()) if distance else near[0]
    most = max(total.values())
    first = next(some for some in near if any(total[label] == most for label in some))
    return min(label for label in first if total[label] == most)


def expected_nearest_trial(trials: pd.DataFrame) -> dict[str, float]:
    """Expected scores of `nearest_trial` on a new subject, computed by leaving out one subject at a time.

    Raises
    ------
    ValueError
        If a column is missing, the table is empty, or it holds one subject only.
    """
    _require(trials, ["subject", "session", "position", "label"])
    if trials["subject"].nunique() < 2:
        raise ValueError("the order of clips can only be compared between at least two subjects")
    labels = sorted(trials["label"].unique())
    counts = np.zeros((len(labels), len(labels) + 1))
    for subject, own in trials.groupby("subject"):
        others = trials[trials["subject"] != subject]
        counts += confusion_counts(own["label"], nearest_trial(others, own), labels)
    return {name: float(value) for name, value in scores_from_counts(counts).items()}


def expected_without_order(train: pd.DataFrame, test: pd.DataFrame) -> dict[str, float]:
    """Expected scores of `nearest_trial` if the order of a session's trials is random.

    The nearest training trial is then a random one of the candidates, and an item's label is the answer as often as it
    occurs among them. A measured value above this shows that neighbours in time share labels.

    Parameters
    ----------
    train, test
        Tables with the columns ``subject, session, label``; one row per trial and per item, respectively.
    """
    _require(train, ["subject", "session", "label"])
    _require(test, ["subject", "session", "label"])
    labels = sorted({*train["label"], *test["label"]})
    counts = np.zeros((len(labels), len(labels) + 1))
    for (subject, session), items in test.groupby(["subject", "session"]):
        own = train[train["session"] == session]
        own = own[own["subject"] == subject] if (own["subject"] == subject).any() else own
        shares = (own if len(own) else train)["label"].value_counts(normalize=True).reindex(labels, fill_value=0.0)
        truth = items["label"].value_counts().reindex(labels, fill_value=0)
        counts[:, :-1] += np.outer(truth, shares)
    return {name: float(value) for name, value in scores_from_counts(counts).items()}


def _held_out_hits(trials: pd.DataFrame) -> pd.DataFrame:
    """Probability that the majority of the *other* subjects gives each label at its session and position."""
    subjects = trials.groupby(["session", "position", "label"])["subject"].nunique()
    n_labels = trials["label"].nunique()
    hits = []
    for place, votes in subjects.groupby(level=["session", "position"]):
        by_label = votes.droplevel(["session", "position"])
        for label in by_label.index:
            others = by_label.copy()
            others[label] -= 1
            top = others[others == others.max()]
            known = others.max() > 0
            hit = (1.0 / len(top) if label in top.index else 0.0) if known else 1.0 / n_labels
            hits.append((*place, label, hit))
    return pd.DataFrame(hits, columns=["session", "position", "label", "hit"])


def expected_session_position(table: pd.DataFrame) -> dict[str, float]:
    """Expected balanced accuracy and accuracy of `session_position` on a new subject.

    Counted from the table by leaving out one subject at a time: 1.0 if everybody saw the same order, about 1/K if each
    subject saw an order of their own.

    Parameters
    ----------
    table
        Columns ``subject, session, position, label`` of at least two subjects, with one label per subject, session and
        position.

    Raises
    ------
    ValueError
        If a column is missing, the table is empty, or it holds one subject only.
    """
    _require(table, ["subject", "session", "position", "label"])
    if table["subject"].nunique() < 2:
        raise ValueError("the order of clips can only be compared between at least two subjects")
    scored = table.merge(_held_out_hits(table), on=["session", "position", "label"], how="left")
    expected = {
        "balanced_accuracy": float(scored.groupby("label")["hit"].mean().mean()),
        "accuracy": float(scored["hit"].mean()),
    }
    if expected["accuracy"] == 1.0:
        expected |= {"cohen_kappa": 1.0, "weighted_f1": 1.0}
    return expected


def expected_by_position(
    answer: LabelsAnswer,
    options: Sequence[str],
    metrics: Sequence[PointsMetric],
    trials: pd.DataFrame,
    items: pd.DataFrame,
) -> dict[str, float]:
    """Expected scores of `answers_by_position`, computed by leaving out one subject at a time.

    Parameters
    ----------
    answer
        The answer that labels imply.
    options
        All answers.
    metrics
        Metrics beside those of closed questions.
    trials
        Columns ``subject, session, position, label`` of all subjects.
    items
        Items with `segments` and ``subject, label``; their subjects occur in `trials`.

    Raises
    ------
    ValueError
        If a column is missing, a table is empty, or there is one subject only.
    """
    _require(trials, ["subject", "session", "position", "label"])
    _require(items, ["subject", "segments", "label"])
    if trials["subject"].nunique() < 2:
        raise ValueError("the order of clips can only be compared between at least two subjects")
    truth: list[str] = []
    given: list[str] = []
    for subject, part in items.groupby("subject"):
        truth += part["label"].tolist()
        given += answers_by_position(answer, trials[trials["subject"] != subject], part).tolist()
    scores = scores_from_counts(confusion_counts(truth, given, options)).items()
    others = {metric.name: metric.of(truth, given) for metric in metrics}
    return {name: float(value) for name, value in scores} | others


@dataclass(frozen=True)
class Control:
    """A predictor that sees no EEG, for the tasks that name it.

    Attributes
    ----------
    name : str
        Name in the results, of both model and condition.
    title : str
        Name in the report.
    meaning : str
        What it knows and what its score would mean, for the report.
    answers : callable
        From the training trials and a table of items to one answer per item.
    expected : callable
        From all trials and a table of items to the scores, by metric, that the order of trials implies for any new
        subject.
    expected_elsewhere : callable
        From the training trials and a table of items to the scores under splits that do not test new subjects on known
        clips; empty if nothing predicts them.
    """

    name: str
    title: str
    meaning: str
    answers: Callable[[pd.DataFrame, pd.DataFrame], NDArray[np.object_]]
    expected: Callable[[pd.DataFrame, pd.DataFrame], dict[str, float]]
    expected_elsewhere: Callable[[pd.DataFrame, pd.DataFrame], dict[str, float]] = lambda train, items: {}


SESSION_ONLY = Control(
    name="session_only",
    title="session only",
    meaning="knows the session, sees no EEG; this is what recognising the recording day alone would score",
    answers=session_only,
    expected=lambda trials, items: expected_session_only(items),
)
SESSION_POSITION = Control(
    name="session_position",
    title="session + position",
    meaning="knows the session and the position of the trial in it, sees no EEG; a shortcut "
    "ceiling, not a chance level: if everybody saw the same order of clips, it is right on every item",
    answers=lambda train, items: session_position(train, shown(items)),
    expected=lambda trials, items: expected_session_position(trials),
)


def session_position_of(answer: LabelsAnswer, options: Sequence[str], metrics: Sequence[PointsMetric] = ()) -> Control:
    """The control `SESSION_POSITION` for items whose answer follows from the labels of their segments."""
    return replace(
        SESSION_POSITION,
        answers=partial(answers_by_position, answer),
        expected=partial(expected_by_position, answer, options, metrics),
    )


NEAREST_TRIAL = Control(
    name="nearest_trial",
    title="nearest training trial",
    meaning="answers with the label of the training trial nearest in time, sees no EEG; for a new subject, that is "
    "the trial at the same position in other subjects' sessions",
    answers=lambda train, items: nearest_trial(train, shown(items)),
    expected=lambda trials, items: expected_nearest_trial(trials),
    expected_elsewhere=lambda train, items: expected_without_order(
        train, shown(items).assign(label=items["label"].values)
    ),
)
