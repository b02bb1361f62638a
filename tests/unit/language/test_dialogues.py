"""Dialogues and the corpus: what is asked names every option, what is answered is one of them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from e2llm_core.claims.claims import statements_in
from e2llm_core.tasks.corpus.dialogues import CORPUS_FORMS, corpus_dialogue
from e2llm_core.tasks.dialogue import SEGMENT
from e2llm_core.tasks.epc import PairComparison
from e2llm_core.tasks.ied import BasicEmotion
from e2llm_core.tasks.pairs import DIFFERENT, SAME
from e2llm_core.tasks.registry import TASKS
from storage.labels import SEED_VII

LABELS = SEED_VII.names


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 100_000), st.integers(0, 100))
def test_a_corpus_dialogue_is_a_function_of_its_number_and_seed(number, seed):
    assert corpus_dialogue(number, LABELS, seed) == corpus_dialogue(number, LABELS, seed)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 100_000))
def test_the_corpus_shows_no_eeg_and_answers_with_an_option(number):
    dialogue = corpus_dialogue(number, LABELS, 0)
    assert SEGMENT not in dialogue.user
    options = CORPUS_FORMS[dialogue.task].options(LABELS)
    assert not options or dialogue.answer in options


def test_the_corpus_ties_no_claim_to_a_label():
    counts = {label: 0 for label in LABELS}
    for number in range(3000):
        dialogue = corpus_dialogue(number, LABELS, 0)
        if dialogue.task == "describe" and "Gamma power over the right temporal region is above" in dialogue.answer:
            counts[next(label for label in LABELS if f"points to {label}" in dialogue.answer)] += 1
    assert max(counts.values()) <= 0.5 * sum(counts.values())


@pytest.mark.parametrize(
    ("task", "wording"),
    [pytest.param(task, n, id=f"{name}-{n}") for name, task in TASKS.items() for n in range(len(task.wordings))],
)
def test_a_question_holds_its_segments_and_a_closed_one_is_answered_by_an_option(task, wording):
    question = task.ask(LABELS, wording=wording)
    assert question.count(SEGMENT) == task.num_segments
    assert all(option in question.lower() for option in task.options(LABELS))
    assert task.question(LABELS).user == task.ask(LABELS)
    assert [task.question(LABELS).read(option) for option in task.options(LABELS)] == list(task.options(LABELS))
    assert task.question(LABELS).read("rage") is None


def test_half_of_the_emotion_dialogues_think_and_their_claims_are_readable():
    rng = np.random.default_rng(0)
    claims = statements_in("Alpha power over the occipital region is above the session average.").claims
    made = [BasicEmotion().told(LABELS, claims, "sad", rng) for _ in range(400)]
    thinking = [one for one in made if one.thinking is not None]
    assert 0.4 < len(thinking) / len(made) < 0.6
    assert all(statements_in(one.thinking).claims == claims and "points to sad" in one.thinking for one in thinking)
    assert {one.answer for one in made} == {"sad"}


def test_a_pair_is_the_same_exactly_when_the_labels_are():
    rng = np.random.default_rng(0)
    assert PairComparison().told("sad", "sad", rng).answer == SAME
    assert PairComparison().told("sad", "fear", rng).answer == DIFFERENT
