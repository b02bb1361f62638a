"""Dialogues and the corpus: what is asked names every option, what is answered is one of them."""

import string

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from e2llm_core.claims.claims import Claim, statements_in
from e2llm_core.claims.table import quantities_of
from e2llm_core.tasks.corpus.dialogues import CORPUS_FORMS, corpus_dialogue
from e2llm_core.tasks.dialogue import SEGMENT, Dialogue
from e2llm_core.tasks.epc import PairComparison
from e2llm_core.tasks.facts import SegmentFacts
from e2llm_core.tasks.ied import BasicEmotion
from e2llm_core.tasks.pairs import DIFFERENT, OPTIONS, SAME
from e2llm_core.tasks.question import LISTED, PRIMARY, SEEN
from e2llm_core.tasks.registry import DESCRIPTION, LABELLING, READINGS, TASKS, trained_tasks
from e2llm_core.tasks.task import Task, TrainedTask
from storage.labels import SEED_VII
from storage.signal.channels import SEED_CHANNELS

LABELS = SEED_VII.names
QUANTITIES = quantities_of(SEED_CHANNELS)
CLAIMS = statements_in("Alpha power over the occipital region is above the session average.").claims


class ShownWindows:
    """Windows that carry the labels in turn."""

    labels = LABELS

    def label(self, window: int) -> str:
        return LABELS[window % len(LABELS)]

    def claims(self, window: int) -> list[Claim]:
        return list(CLAIMS)

    def facts(self, window: int) -> SegmentFacts:
        return SegmentFacts(self.label(window), tuple(CLAIMS), tuple(CLAIMS))


class HeldOut(BasicEmotion):
    """A task with a wording that nothing is trained on."""

    primary_wording = "The states are {options}.\nTell which of them was felt during {0}."


class NoneHeldOut(BasicEmotion):
    """A task all of whose wordings are trained."""

    primary_wording = None


ASKED = {**TASKS, "held out": HeldOut(), "none held out": NoneHeldOut()}


def spoken(template: str) -> list[str]:
    """What a wording says between its segments and options: pieces of several words, in small letters."""
    pieces = (literal.lower().strip(" \n.,:?!") for literal, *_ in string.Formatter().parse(template))
    return [piece for piece in pieces if " " in piece]


def leaks(task: Task) -> list[Dialogue]:
    """Dialogues of the corpus and of every form that hold a piece of a task's primary wording."""
    held_out = spoken(task.primary_wording)
    assert held_out, "a wording without a piece of several words cannot be looked for"
    rng, source = np.random.default_rng(0), ShownWindows()
    drawn = [corpus_dialogue(number, LABELS, 0) for number in range(4000)]
    drawn += [corpus_dialogue(number, None, 0, tuple(CORPUS_FORMS)) for number in range(4000)]
    for form in (*READINGS.values(), *trained_tasks().values()):
        trained = [form.dialogue(source, rng.permutation(50)[: form.num_segments], rng) for _ in range(1000)]
        if form is DESCRIPTION or form.name in TASKS:
            own = LABELS if any("{listed}" in wording for wording in form.wordings) else ("",)
            worded = {form.ask(LABELS, wording=n, listed=text) for n in range(len(form.wordings)) for text in own}
            assert {one.user for one in trained} == worded
        drawn += trained
    texts = [f"{one.user}\n{one.thinking}\n{one.answer}".lower() for one in drawn]
    return [one for one, text in zip(drawn, texts, strict=True) if any(piece in text for piece in held_out)]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 100_000), st.integers(0, 100))
def test_a_corpus_dialogue_is_a_function_of_its_number_and_seed(number, seed):
    assert corpus_dialogue(number, LABELS, seed) == corpus_dialogue(number, LABELS, seed)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 100_000))
def test_the_corpus_shows_no_eeg_and_answers_with_an_option(number):
    dialogue = corpus_dialogue(number, LABELS, 0)
    assert SEGMENT not in dialogue.user
    form = CORPUS_FORMS[dialogue.task]
    if any("{options}" in wording for wording in form.wordings):
        assert dialogue.answer in dialogue.user
    else:
        assert not form.options(LABELS) or dialogue.answer in form.options(LABELS)


def test_the_corpus_ties_no_claim_to_a_label():
    counts = {label: 0 for label in LABELS}
    for number in range(3000):
        dialogue = corpus_dialogue(number, LABELS, 0)
        said = statements_in(dialogue.answer).claims if dialogue.task == "describe" else ()
        if any((claim.quantity.kind, claim.quantity.band, claim.above) == ("power", "gamma", True) for claim in said):
            counts[next(label for label in LABELS if f"points to {label}" in dialogue.answer)] += 1
    assert max(counts.values()) <= 0.5 * sum(counts.values())


@pytest.mark.parametrize("task", ASKED.values(), ids=ASKED)
def test_a_question_holds_its_segments_and_a_closed_one_is_answered_by_an_option(task):
    trained = [task.ask(LABELS, wording=number) for number in range(len(task.wordings))]
    asked = {prompt: task.question(LABELS, prompt) for prompt in task.prompts}
    for question in (*trained, *(one.user for one in asked.values())):
        assert question.count(SEGMENT) == task.num_segments
        named = [part for option in task.options(LABELS) for part in option.split(", ")]
        if isinstance(task, TrainedTask) or any("{options}" in wording for wording in task.wordings):
            asks_to_compare = task.options(LABELS) == OPTIONS
            assert all(part in (question.lower() if asks_to_compare else question) for part in named)
    assert asked[SEEN].user == task.ask(LABELS, listed=LISTED)
    assert task.question(LABELS) == asked[task.prompt]
    for question in asked.values():
        assert [question.read(option) for option in task.options(LABELS)] == list(task.options(LABELS))
        assert question.read("rage") is None


def test_the_answers_that_count_are_those_to_the_held_out_wording_where_there_is_one():
    assert HeldOut().prompts == (PRIMARY, SEEN)
    assert HeldOut().question(LABELS).user.startswith("The states are disgust, fear")
    assert NoneHeldOut().prompts == (SEEN,)
    assert NoneHeldOut().question(LABELS).user == LABELLING.ask(LABELS)
    with pytest.raises(ValueError, match="IED has no primary wording"):
        NoneHeldOut().question(LABELS, PRIMARY)


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_a_task_is_asked_in_a_wording_that_nothing_is_trained_on_and_trained_in_many(task):
    assert task.prompt == PRIMARY
    assert len(task.wordings) >= 5


@pytest.mark.parametrize("task", ASKED.values(), ids=ASKED)
def test_the_primary_wording_is_in_no_text_that_anything_is_trained_on(task):
    assert task.primary_wording is None or not leaks(task)


def test_a_primary_wording_that_something_is_trained_on_is_noticed(monkeypatch):
    monkeypatch.setattr(HeldOut, "primary_wording", "{0}\nName the state of the person!\n{options}")
    assert len(leaks(HeldOut())) > 100


def test_half_of_the_emotion_dialogues_think_and_their_claims_are_readable():
    rng = np.random.default_rng(0)
    claims = statements_in("Alpha power over the occipital region is above the session average.").claims
    source = ShownWindows()
    made = [BasicEmotion().dialogue(source, [LABELS.index("sad")], rng) for _ in range(400)]
    thinking = [one for one in made if one.thinking is not None]
    assert 0.4 < len(thinking) / len(made) < 0.6
    assert all(statements_in(one.thinking).claims == claims and "points to sad" in one.thinking for one in thinking)
    assert {one.answer for one in made} == {"sad"}


def test_a_pair_is_the_same_exactly_when_the_labels_are():
    rng = np.random.default_rng(0)
    assert PairComparison().told("sad", "sad", rng).answer == SAME
    assert PairComparison().told("sad", "fear", rng).answer == DIFFERENT
