"""Multiple choice: every cyclic order of the options, which distractors, and what order and letters do to answers."""

from collections import Counter

import numpy as np
import pandas as pd
import pytest

from e2llm_core.evaluation.metrics import Answers
from e2llm_core.tasks.choice import CONSISTENCY, MULTIPLE_CHOICE
from e2llm_core.tasks.circumplex import AFFECTS
from e2llm_core.tasks.corpus.choice import CHOICE
from e2llm_core.tasks.corpus.mapped import MAPPED
from e2llm_core.tasks.letters import LETTERS, unlettered
from e2llm_core.tasks.registry import trained_tasks
from storage.errors import InputError
from storage.labels import FACED, SEED, SEED_VII
from tests.unit.language.test_sets import Shown

LABELS = SEED_VII.names
ORDER, FIRST, LAST = CONSISTENCY
BY_NAME = {task.name: task for task in MULTIPLE_CHOICE}


def size(task) -> int:
    return len(task.options(LABELS))


@pytest.mark.parametrize("task", MULTIPLE_CHOICE, ids=BY_NAME)
def test_every_item_is_asked_in_all_cyclic_orders(task):
    source, number = Shown(), size(task)
    items = task.items(source, 28 * number, 0)
    assert len(items.windows) == 28 * number
    for at in range(0, len(items.windows), number):
        orders = [unlettered(listed) for listed in items.listed[at : at + number]]
        (window,) = set(items.windows[at : at + number, 0].tolist())
        assert orders == [(*orders[0][turn:], *orders[0][:turn]) for turn in range(number)]
        truths = items.table["label"].iloc[at : at + number]
        label = source.label(window)
        assert [order[LETTERS.index(truth)] for order, truth in zip(orders, truths, strict=True)] == [label] * number
        assert len(set(orders[0])) == number
    assert len(set(items.table["item_id"])) == len(items.table)


def test_distractors_are_of_the_session_or_nearest_in_meaning():
    class TwoSessions(Shown):
        def __init__(self) -> None:
            super().__init__()
            late = self.trials["session"] == "2"
            kept = ~late | self.trials["label"].isin(("happy", "sad", "fear", "neutral"))
            self.trials = self.trials[kept].reset_index(drop=True)
            self.ends = 4 * np.arange(1, len(self.trials) + 1)

    source = TwoSessions()
    for task, others in (("MC-4-session", {"happy", "sad", "fear", "neutral"}), ("MC-4-uniform", set(LABELS))):
        items = BY_NAME[task].items(source, 400, 0)
        late = items.table["session"] == "2"
        offered = {text for listed in items.table.loc[late, "listed"] for text in unlettered(listed)}
        assert offered == others
    pairs = {frozenset(unlettered(listed)) for listed in BY_NAME["MC-2-nearest"].items(source, 400, 0).listed}
    assert {frozenset(("fear", "anger")), frozenset(("happy", "surprise"))} <= pairs
    assert frozenset(("happy", "sad")) not in pairs


@pytest.mark.parametrize("task", MULTIPLE_CHOICE, ids=BY_NAME)
def test_the_options_do_not_give_the_answer_away(task):
    """Whoever knows how often each label is true among the same options answers no better than by chance."""
    source, number = Shown(), size(task)
    items = task.items(source, 4000 * number, 0)
    sets = [tuple(sorted(unlettered(listed))) for listed in items.listed[::number]]
    truths = [source.label(int(window)) for window in items.windows[::number, 0]]
    true = Counter(zip(sets[:2000], truths[:2000], strict=True))
    guesses = [max(some, key=lambda label, some=some: true[some, label]) for some in sets[2000:]]
    assert np.mean(np.array(guesses) == truths[2000:]) == pytest.approx(1 / number, abs=0.04)


def test_a_session_without_enough_labels_is_refused():
    source = Shown()
    source.trials = source.trials[source.trials["label"].isin(("happy", "sad"))].reset_index(drop=True)
    source.ends = 4 * np.arange(1, len(source.trials) + 1)
    with pytest.raises(InputError, match="task MC-4-session: no session has trials of 4 labels"):
        BY_NAME["MC-4-session"].items(source, 8, 0)


def test_labels_that_nobody_was_tested_on_are_offered_all_the_same():
    source = Shown()
    source.trials = source.trials[source.trials["label"] != "fear"].reset_index(drop=True)
    source.ends = 4 * np.arange(1, len(source.trials) + 1)
    items = BY_NAME["MC-all"].items(source, 84, 0)
    assert all(sorted(unlettered(listed)) == sorted(LABELS) for listed in items.listed)
    assert "fear" not in {source.label(int(window)) for window in items.windows[:, 0]}


def test_labels_that_cannot_be_offered_are_refused():
    with pytest.raises(InputError, match="tasks: MC-4-uniform: 3 labels, but it offers 4"):
        BY_NAME["MC-4-uniform"].check_labels(SEED.names, "tasks")
    with pytest.raises(InputError, match="no valence and arousal are known of"):
        BY_NAME["MC-2-nearest"].check_labels(FACED.names, "tasks")
    BY_NAME["MC-2-uniform"].check_labels(FACED.names, "tasks")
    BY_NAME["MC-all"].check_labels(FACED.names, "tasks")


@pytest.mark.parametrize("task", MULTIPLE_CHOICE, ids=BY_NAME)
def test_probabilities_of_the_labels_imply_those_of_the_letters(task):
    rows, items = np.random.default_rng(0).dirichlet(np.ones(7), size=(28, 1)), task.items(Shown(), 28, 0)
    found = task.composed(rows[: len(items.windows)], LABELS, items.listed)
    for row, listed, chances in zip(rows[:, 0], items.listed, found, strict=False):
        own = [row[LABELS.index(text)] for text in unlettered(listed)]
        assert chances == pytest.approx(np.array(own) / sum(own))


def test_no_multiple_choice_is_trained_with_eeg():
    assert not set(BY_NAME) & set(trained_tasks())


def answers(given: list[str | None], subjects: list[str] | None = None) -> Answers:
    """Answers to items of three options in all cyclic orders, of which the first is true at first."""
    truth = ["A", "C", "B"] * (len(given) // 3)
    rows = {"truth": truth, "answer": given, "subject": subjects or ["s"] * len(given)}
    return Answers(pd.DataFrame(rows).assign(labels=[("A", "B", "C")] * len(given)))


@pytest.mark.parametrize(
    ("given", "consistency", "first", "last"),
    [
        (["A", "C", "B"], 1.0, 1 / 3, 1 / 3),
        (["B", "A", "C"], 1.0, 1 / 3, 1 / 3),
        (["A", "A", "A"], 0.0, 1.0, 0.0),
        (["A", "C", None], 0.0, 1 / 3, 1 / 3),
        ([None, None, None], 0.0, 0.0, 0.0),
        (["A", "C", "B", "C", "C", "C"], 0.5, 1 / 6, 2 / 3),
    ],
)
def test_consistency_names_one_option_and_letters_are_counted(given, consistency, first, last):
    found = [metric.score(answers(given)).pooled for metric in (ORDER, FIRST, LAST)]
    assert found == pytest.approx([consistency, first, last])


def test_consistency_counts_each_subject_alone():
    given = ["A", "C", "B", "A", "A", "A"]
    scores = ORDER.score(answers(given, ["s1"] * 3 + ["s2"] * 3))
    assert scores.by_subject.tolist() == [1.0, 0.0]
    assert scores.resampled(np.array([[2, 0], [1, 1], [0, 2]])).tolist() == [1.0, 0.5, 0.0]
    assert [metric.chance(answers(given)) for metric in CONSISTENCY] == pytest.approx([1 / 9, 1 / 3, 1 / 3])


def test_items_that_are_not_in_all_orders_have_no_consistency():
    rows = pd.DataFrame({"truth": ["A", "A"], "answer": ["A", "A"], "subject": ["s", "s"]})
    with pytest.raises(ValueError, match="order_consistency: the items are not in all 2 orders"):
        ORDER.score(Answers(rows.assign(labels=[("A", "B")] * 2)))


def test_in_words_the_letter_is_that_of_the_label():
    for number in range(300):
        dialogue = CHOICE.in_words(LABELS[: 2 + number % 6], np.random.default_rng(number))
        offered = unlettered(dialogue.user)
        state = offered[LETTERS.index(dialogue.answer)]
        assert f"[points to {state};" in dialogue.user
        named = ", ".join(f"{text} is {letter}" for letter, text in zip(LETTERS, offered, strict=False))
        assert dialogue.thinking in (None, f"This points to {state}. {named}: {state} is {dialogue.answer}.")


def test_in_words_a_state_is_mapped_by_its_valence():
    seen = set()
    for number in range(600):
        dialogue = MAPPED.in_words(("any",), np.random.default_rng(number))
        (state,) = [label for label in AFFECTS if f"[points to {label};" in dialogue.user]
        valence = AFFECTS[state].valence
        seen.add((state, dialogue.answer))
        words = {1: ("positive", "pleasant"), -1: ("negative", "unpleasant"), 0: ("neutral",)}
        assert dialogue.answer in words[int(np.sign(valence))]
        assert dialogue.thinking is None or dialogue.thinking.endswith(f"{state} is {dialogue.answer}.")
    assert len(seen) == 2 * 6 + 1
