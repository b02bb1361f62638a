"""Tasks about several segments of a session: sorting by valence, and matching with a described state."""

from itertools import product
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from e2llm_core.tasks.eim import OPTIONS, IndividualMatching, matching
from e2llm_core.tasks.epc import PairComparison
from e2llm_core.tasks.ess import ORDERS, TAU, SequenceSorting, levels_of, ordered
from e2llm_core.tasks.letters import LETTERS
from storage.errors import InputError
from storage.labels import FACED, SEED_VII

LABELS = SEED_VII.names
SORTING, MATCHING, PAIRS = SequenceSorting(), IndividualMatching(), PairComparison()


class Shown:
    """Windows of two people and two sessions: four per trial, every label in both sessions."""

    labels = LABELS

    def __init__(self, labels: tuple[str, ...] = LABELS) -> None:
        rows = [
            {"recording_id": f"{subject}-{session}", "subject": subject, "session": session, "trial": trial,
             "clip": trial, "position": trial, "label": label}
            for subject, session in product(("s0", "s1"), ("1", "2"))
            for trial, label in enumerate(labels, start=1)
        ]  # fmt: skip
        self.trials, self.store = pd.DataFrame(rows), SimpleNamespace(label_set=SimpleNamespace(names=labels))
        self.ends = 4 * np.arange(1, len(rows) + 1)

    def label(self, window: int) -> str:
        return str(self.trials["label"].iloc[window // 4])

    def facts(self, window: int) -> Any:
        return SimpleNamespace(label=self.label(window))

    def describe(self, windows: np.ndarray) -> pd.DataFrame:
        shown = self.trials.iloc[np.asarray(windows) // 4].reset_index(drop=True)
        return shown.assign(start=np.asarray(windows) * 100, stop=np.asarray(windows) * 100 + 100)


def test_states_of_nearly_equal_valence_are_on_one_level():
    levels = levels_of(LABELS)
    assert {label for label in LABELS if levels[label] == 0} == {"fear", "sad", "disgust", "anger"}
    assert [levels[label] for label in ("neutral", "surprise", "happy")] == [1, 2, 3]


def test_labels_without_valence_cannot_be_sorted():
    with pytest.raises(InputError, match="task ESS: no valence and arousal are known of amusement"):
        SORTING.items(Shown(FACED.names), 6, 0)


@pytest.mark.parametrize(("task", "labels"), [(SORTING, ("fear", "sad", "happy")), (MATCHING, ("sad", "happy"))])
def test_a_session_must_have_enough_states(task, labels):
    with pytest.raises(
        InputError, match=rf"task {task.name}: no session has trials of 3 states.*Leave {task.name} out"
    ):
        task.items(Shown(labels), 6, 0)


@pytest.mark.parametrize("task", [SORTING, MATCHING], ids=lambda task: task.name)
def test_items_are_balanced_of_one_session_and_follow_from_the_seed(task):
    source = Shown()
    items, again, other = (task.items(source, 60, seed) for seed in (0, 0, 1))
    assert items.windows.tolist() == again.windows.tolist() != other.windows.tolist()
    assert items.listed == again.listed
    counts = items.table["label"].value_counts()
    assert counts.to_dict() == dict.fromkeys(task.options(LABELS), 60 // len(task.options(LABELS)))
    for segments in items.table["segments"]:
        assert len({(one["subject"], one["session"]) for one in segments}) == 1
        assert len({one["trial"] for one in segments}) == 3


def test_the_true_order_is_that_of_the_labels():
    source = Shown()
    items = SORTING.items(source, 60, 0)
    for windows, truth in zip(items.windows, items.table["label"], strict=True):
        labels = [source.label(window) for window in windows]
        assert ordered(labels) == truth
        assert len({levels_of(LABELS)[label] for label in labels}) == 3


def test_the_true_segment_is_the_only_one_of_the_state():
    source = Shown()
    items = MATCHING.items(source, 60, 0)
    for windows, truth, state in zip(items.windows, items.table["label"], items.listed, strict=True):
        labels = [source.label(window) for window in windows]
        assert labels.count(state) == 1
        assert matching(labels, state) == truth


@pytest.mark.parametrize("task", [SORTING, MATCHING], ids=lambda task: task.name)
def test_dialogues_say_what_is_true_and_half_of_them_think(task):
    source, rng = Shown(), np.random.default_rng(0)
    draw, thinking = task.sampler(source), 0
    for _ in range(300):
        windows = draw(0, rng)
        labels = [source.label(window) for window in windows]
        dialogue = task.dialogue(source, windows, rng)
        if task is SORTING:
            assert dialogue.answer == ordered(labels)
        else:
            (state,) = [label for label in LABELS if label in dialogue.user]
            assert labels[LETTERS.index(dialogue.answer)] == state
        if dialogue.thinking is not None:
            thinking += 1
            named = ", ".join(f"{label} is {letter}" for letter, label in zip("ABC", labels, strict=True))
            assert dialogue.thinking.startswith(f"{named}: ")
    assert 100 < thinking < 200


def test_tau_is_that_of_orders_and_silence_is_wrong():
    assert TAU.of(["A, B, C"], ["A, B, C"]) == 1
    assert TAU.of(["A, B, C"], ["C, B, A"]) == -1
    assert TAU.of(["A, B, C"], ["A, C, B"]) == pytest.approx(1 / 3)
    assert TAU.of(["A, B, C"] * 2, ["A, B, C", None]) == 0
    assert TAU.of(["A, B, C"] * len(ORDERS), ORDERS) == pytest.approx(0)


probabilities = st.lists(st.lists(st.floats(0.01, 1), min_size=7, max_size=7), min_size=3, max_size=3)


def enumerated(task, rows: np.ndarray, state: str) -> np.ndarray:
    """Probability of each option, counted over all labels that three segments can have."""
    found = dict.fromkeys(task.options(LABELS), 0.0)
    levels = levels_of(LABELS)
    for ids in product(range(7), repeat=3):
        labels = [LABELS[number] for number in ids]
        chance = float(np.prod([rows[place, number] for place, number in enumerate(ids)]))
        if task is SORTING and len({levels[label] for label in labels}) == 3:
            found[ordered(labels)] += chance
        elif task is MATCHING and labels.count(state) == 1:
            found[matching(labels, state)] += chance
    values = np.array(list(found.values()))
    return values / values.sum()


@settings(max_examples=20, deadline=None)
@given(probabilities, st.sampled_from(LABELS))
@pytest.mark.parametrize("task", [SORTING, MATCHING], ids=lambda task: task.name)
def test_answers_composed_of_label_probabilities_are_those_of_counting(task, rows, state):
    each = np.array(rows)
    each /= each.sum(axis=1, keepdims=True)
    found = task.composed(each[None], LABELS, (state,))
    np.testing.assert_allclose(found[0], enumerated(task, each, state), rtol=1e-6)


def test_certain_labels_compose_to_the_answer():
    for labels in (("sad", "happy", "neutral"), ("surprise", "fear", "happy")):
        certain = np.eye(7)[[LABELS.index(label) for label in labels]][None]
        assert ORDERS[SORTING.composed(certain, LABELS, ()).argmax()] == ordered(labels)
        for label in labels:
            assert OPTIONS[MATCHING.composed(certain, LABELS, (label,)).argmax()] == matching(labels, label)


def test_pairs_are_compared_at_the_odds_at_which_they_are_drawn():
    """Posteriors of a blurred reading are right about balanced pairs at least as often as the labels they favour."""
    rng, count = np.random.default_rng(0), 20_000
    same = np.arange(count) % 2 == 0
    first = rng.integers(7, size=count)
    second = np.where(same, first, (first + rng.integers(1, 7, size=count)) % 7)
    seen = np.eye(7)[np.stack([first, second], axis=1)] + rng.normal(0, 0.7, (count, 2, 7))
    likelihood = np.exp(seen / 0.7**2)
    posterior = likelihood / likelihood.sum(axis=2, keepdims=True)
    right = (PAIRS.composed(posterior, LABELS, ())[:, 0] > 0.5) == same
    favoured = posterior.argmax(axis=2)
    assert right.mean() > ((favoured[:, 0] == favoured[:, 1]) == same).mean() + 0.02
    assert 0.4 < (PAIRS.composed(posterior, LABELS, ())[:, 0] > 0.5).mean() < 0.6


def test_the_schedule_of_clips_gives_both_away():
    """Every subject sees the same clips in the same order."""
    source = Shown()
    for task in (SORTING, MATCHING):
        items, (control,) = task.items(source, 60, 0), task.controls
        assert (control.answers(source.trials, items.table) == items.table["label"]).all()
        expected = control.expected(source.trials, items.table)
        assert {name: expected[name] for name in expected if name in ("balanced_accuracy", "kendall_tau")} == (
            dict.fromkeys(("balanced_accuracy", "kendall_tau")[: 1 + (task is SORTING)], 1.0)
        )
