"""Stage 2's questions: every answer follows from what is known of the segments, and nothing else decides it."""

import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from e2llm_core.claims.claims import Claim, statements_in
from e2llm_core.claims.table import quantities_of
from e2llm_core.tasks.corpus.dialogues import CORPUS_FORMS, corpus_dialogue
from e2llm_core.tasks.corpus.labels import drawn_labels
from e2llm_core.tasks.dialogue import SEGMENT
from e2llm_core.tasks.facts import (
    SMALLEST_DIFFERENCE,
    ClaimChoice,
    SegmentFacts,
    drawn_facts,
    in_notes,
    level_of,
    words_of,
)
from e2llm_core.tasks.readings.contrasts import Contrasts
from e2llm_core.tasks.readings.differences import Differences
from e2llm_core.tasks.readings.levels import Levels
from e2llm_core.tasks.readings.reading import Reading
from e2llm_core.tasks.readings.truths import HOLDS, Truths
from e2llm_core.tasks.registry import READINGS
from storage.labels import SEED_VII
from storage.signal.channels import SEED_CHANNELS

QUANTITIES = quantities_of(SEED_CHANNELS)
LABELS = SEED_VII.names
CHOICE = ClaimChoice(number=3, smallest=SMALLEST_DIFFERENCE, reliability=0)
BY_WORDS = {words_of(quantity): number for number, quantity in enumerate(QUANTITIES)}


def facts_of(seed: int, label: str = "sad") -> SegmentFacts:
    deviations = np.random.default_rng(seed).normal(0, 1, len(QUANTITIES))
    return SegmentFacts(QUANTITIES, deviations, label, CHOICE.claims(QUANTITIES, deviations))


def asked(form, seed: int, number: int = 1):
    facts = [facts_of(seed + n) for n in range(number)]
    dialogue = form.told(facts, np.random.default_rng(seed))
    return facts, dialogue


def answers(dialogue) -> list[str]:
    assert dialogue.answer.endswith(".")
    return dialogue.answer.removesuffix(".").split("; ")


def quantities_named(text: str) -> list[int]:
    """Places of the quantities that a question names, in its order."""
    pattern = re.compile("|".join(sorted(BY_WORDS, key=len, reverse=True)))
    return [BY_WORDS[name] for name in pattern.findall(text)]


seeds = st.integers(0, 10_000)


@settings(max_examples=50, deadline=None)
@given(seeds)
def test_levels_are_those_of_the_deviations(seed):
    (facts,), dialogue = asked(Levels(), seed)
    places = quantities_named(dialogue.user)
    assert len(places) == len(set(places)) == 8
    assert answers(dialogue) == [level_of(facts.deviations[place]) for place in places]


@settings(max_examples=50, deadline=None)
@given(seeds)
def test_true_claims_hold_and_false_ones_do_not(seed):
    (facts,), dialogue = asked(Truths(), seed)
    claims = statements_in(dialogue.user).claims
    places = [QUANTITIES.index(claim.quantity) for claim in claims]
    said = [answer == HOLDS for answer in answers(dialogue)]
    by_sentence = sorted(zip(claims, places, strict=True), key=lambda pair: dialogue.user.index(pair[0].sentence()))
    assert said == [(facts.deviations[place] > 0) == claim.above for claim, place in by_sentence]
    assert all(abs(facts.deviations[place]) >= SMALLEST_DIFFERENCE for place in places)


@settings(max_examples=50, deadline=None)
@given(seeds)
def test_the_higher_of_two_quantities_is_clearly_higher(seed):
    (facts,), dialogue = asked(Contrasts(), seed)
    places = quantities_named(dialogue.user)
    pairs = list(zip(places[::2], places[1::2], strict=True))
    differences = [facts.deviations[a] - facts.deviations[b] for a, b in pairs]
    assert len(pairs) == len(answers(dialogue)) > 0
    assert answers(dialogue) == ["first" if difference > 0 else "second" for difference in differences]
    assert min(map(abs, differences)) >= SMALLEST_DIFFERENCE


@settings(max_examples=50, deadline=None)
@given(seeds)
def test_the_segment_in_which_a_quantity_is_higher(seed):
    (first, second), dialogue = asked(Differences(), seed, 2)
    places = quantities_named(dialogue.user)
    differences = first.deviations[places] - second.deviations[places]
    assert answers(dialogue) == ["first" if difference > 0 else "second" for difference in differences]
    assert np.abs(differences).min() >= SMALLEST_DIFFERENCE


@pytest.mark.parametrize("deviation", [0.0, 0.3, -0.3])
def test_where_nothing_is_clear_nothing_is_said_to_be(deviation):
    """As in the first window of a session whose reference is the session so far: all of its deviations are 0."""
    flat = SegmentFacts(QUANTITIES, np.full(len(QUANTITIES), deviation), "sad")
    for seed in range(20):
        rng = np.random.default_rng(seed)
        assert answers(Contrasts().told([flat], rng)) == ["neither"]
        assert answers(Differences().told([flat, flat], rng)) == ["neither"]
        assert answers(Truths().told([flat], rng)) == ["false"]
        assert set(answers(Levels().told([flat], rng))) == {"near"}


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(-4, 4), min_size=len(QUANTITIES), max_size=len(QUANTITIES)))
def test_claims_hold_are_clear_and_no_larger_deviation_is_left_out(values):
    deviations = np.array(values)
    claims = CHOICE.claims(QUANTITIES, deviations)
    places = [QUANTITIES.index(claim.quantity) for claim in claims]
    assert len(claims) == min(CHOICE.number, int((np.abs(deviations) >= CHOICE.smallest).sum()))
    assert (np.diff(np.abs(deviations[places])) <= 0).all()
    assert all(claim.above == (deviations[place] > 0) for claim, place in zip(claims, places, strict=True))
    left = np.delete(np.abs(deviations), places)
    assert len(claims) < CHOICE.number or np.abs(deviations[places]).min() >= left.max()


@settings(max_examples=100, deadline=None)
@given(seeds)
def test_by_default_the_three_largest_reliable_deviations_are_claimed(seed):
    rng = np.random.default_rng(seed)
    deviations, reliability = rng.normal(0, 2, len(QUANTITIES)), rng.uniform(size=len(QUANTITIES))
    allowed = (reliability >= 0.5) & (np.abs(deviations) >= SMALLEST_DIFFERENCE)
    lasting = np.where(allowed, np.abs(deviations) * reliability, 0)
    places = [place for place in np.argsort(-lasting)[:3] if allowed[place]]
    expected = tuple(Claim(QUANTITIES[place], bool(deviations[place] > 0)) for place in places)
    assert ClaimChoice().claims(QUANTITIES, deviations, None, reliability) == expected


def test_what_speaks_for_the_label_is_claimed_before_what_does_not():
    deviations, towards = np.zeros(len(QUANTITIES)), np.zeros(len(QUANTITIES))
    deviations[:4] = [1.0, -1.0, 1.0, 1.2]
    towards[:4] = [1.0, -1.0, -1.0, 0.0]
    claims = CHOICE.model_copy(update={"relevance": 1.0}).claims(QUANTITIES, deviations, towards)
    assert claims == (Claim(QUANTITIES[0], True), Claim(QUANTITIES[1], False), Claim(QUANTITIES[3], True))
    assert len(CHOICE.claims(QUANTITIES, np.full(len(QUANTITIES), 2.0), number=1)) == 1


@pytest.mark.parametrize(
    "form", [form for form in READINGS.values() if isinstance(form, Reading)], ids=lambda f: f.name
)
def test_in_the_corpus_the_notes_decide_every_answer(form):
    """The same answers come out when each deviation is replaced by another one of the same level."""
    inside = {"far above": 2.4, "above": 0.9, "near": 0.2, "below": -0.9, "far below": -2.4}
    for number in range(200):
        rng = np.random.default_rng([number, 0])
        facts = [drawn_facts(LABELS, rng)]
        facts += [drawn_facts(LABELS, rng, like=facts[0])] * (form.num_segments - 1)
        moved = []
        for fact in facts:
            deviations = np.array([inside[level] for level in fact.levels().values()])
            moved.append(replace(fact, deviations=deviations))
        said, again = (form.told(some, np.random.default_rng(number)) for some in (facts, moved))
        assert said == again
        assert all(in_notes(one) == in_notes(other) for one, other in zip(facts, moved, strict=True))


def test_a_label_set_of_the_corpus_has_at_least_two_names_and_no_name_twice():
    sets = [drawn_labels(np.random.default_rng(seed)) for seed in range(500)]
    assert all(len(set(names)) == len(names) >= 2 for names in sets)
    assert set(LABELS) in [set(names) for names in sets]
    assert len(set(sets)) > 200


def test_every_form_of_the_corpus_is_read_in_the_words_of_any_label_set():
    found = [corpus_dialogue(number, None, 0, tuple(CORPUS_FORMS)) for number in range(400)]
    assert {dialogue.task for dialogue in found} == set(CORPUS_FORMS)
    assert not any(SEGMENT in dialogue.user for dialogue in found)


@pytest.mark.parametrize(
    ("deviation", "word"),
    [(1.5, "far above"), (1.49, "above"), (0.5, "above"), (0.49, "near"), (-0.5, "near"), (-0.51, "below"),
     (-1.5, "below"), (-1.51, "far below"), (-np.inf, "far below")],
)  # fmt: skip
def test_words_for_deviations(deviation, word):
    assert level_of(deviation) == word
