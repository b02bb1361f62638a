"""Claim accuracy counts every rationale, and holds its text against other windows as a plain loop would."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from e2llm_core.claims.claims import Claim, Statements
from e2llm_core.claims.kind import Quantity
from e2llm_core.evaluation.faithfulness.accuracy import claim_accuracy, shares_that_hold
from e2llm_core.evaluation.summary import Provenance

BANDS = ("delta", "alpha", "beta")
QUANTITIES = tuple(Quantity("power", band, "central") for band in BANDS)
PROVENANCE = Provenance(split="test", split_digest="0")
UNKNOWN = Quantity("power", "alpha", "moon")
TRUE, FALSE = (f"Alpha power over the central region is {word} the session average." for word in ("above", "below"))

statements = st.builds(
    Statements,
    st.lists(
        st.builds(
            Claim,
            st.sampled_from((*QUANTITIES, UNKNOWN)),
            st.booleans(),
            reference=st.sampled_from(("session", "session", "so far", "population")),
        ),
        max_size=5,
    ).map(tuple),
    st.integers(0, 2),
)


def row(texts: Sequence[str | None], answers: Sequence[str | None], subjects: Sequence[str], deviations=None):
    answered = pd.Series(answers, dtype=object)
    keys = {"task": "IED", "model": "4b", "condition": "eeg", "readout": "generation", "prompt": "seen"}
    table = pd.DataFrame({**keys, "subject": subjects, "answer": answered, "text": texts})
    given_ = np.ones((len(texts), len(QUANTITIES))) if deviations is None else deviations
    found, of_subjects = claim_accuracy(table, QUANTITIES, "session", given_, PROVENANCE)
    assert [one.subject for one in of_subjects] == sorted(set(subjects))
    assert sum(one.n * one.value for one in of_subjects) == pytest.approx(found.n * found.value)
    assert {one.model for one in (found, *of_subjects)} == {"4b"}
    return found


def share(said: Statements, deviations: np.ndarray) -> float:
    """What one rationale scores in one window, claim by claim."""
    value = dict(zip(QUANTITIES, deviations, strict=True))
    holds = [
        claim.reference == "session" and claim.quantity in value and (value[claim.quantity] > 0) == claim.above
        for claim in said.claims
    ]
    return sum(holds) / len(said) if len(said) else 0.0


def null_of(place: int, said: Statements, table: pd.DataFrame, deviations: np.ndarray) -> float:
    """Mean share over the other windows of the first pool that has any."""
    answer = table["answer"].isna() if table["answer"][place] is None else table["answer"] == table["answer"][place]
    subject = table["subject"] == table["subject"][place]
    for pool in (subject & answer, subject, subject | True):
        others = [number for number in np.flatnonzero(pool) if number != place]
        if others:
            return float(np.mean([share(said, deviations[number]) for number in others]))
    return np.nan


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(statements, st.sampled_from("ab"), st.sampled_from(["x", "y", None])), min_size=1), st.data())
def test_products_of_matrices_are_the_plain_loop(rows, data):
    made, subjects, answers = (list(column) for column in zip(*rows, strict=True))
    table = pd.DataFrame({"subject": subjects, "answer": pd.Series(answers, dtype=object)})
    seed = data.draw(st.integers(0, 2**31))
    deviations = np.random.default_rng(seed).integers(-1, 2, (len(made), len(QUANTITIES))).astype(np.float32)
    own, other = shares_that_hold(made, QUANTITIES, "session", deviations, table)
    np.testing.assert_array_equal(own, [share(said, line) for said, line in zip(made, deviations, strict=True)])
    expected = [null_of(place, said, table, deviations) for place, said in enumerate(made)]
    np.testing.assert_allclose(other, expected, rtol=1e-12, atol=0)


def test_a_claim_that_compares_with_something_else_does_not_hold():
    others = [
        TRUE.replace("the session average", other)
        for other in ("the population average", "the average so far in this session")
    ]
    found = row([TRUE, TRUE, *others], ["sad"] * 4, ["1"] * 4)
    assert found.value == 0.5


def test_unparsable_answers_and_groups_of_one_count():
    """Eight rationales of which five hold: 0.625 on 8, also where three of them stand in no group of their answer."""
    texts = [TRUE, TRUE, TRUE, TRUE, TRUE, FALSE, FALSE, FALSE]
    answers = ["sad", "sad", "sad", "fear", None, "happy", None, None]
    found = row(texts, answers, ["1"] * 4 + ["2"] * 4)
    assert (found.value, found.n, found.n_subjects) == (0.625, 8, 2)
    assert found.chance == pytest.approx(0.625)  # every window is alike


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (TRUE, 1.0),
        (FALSE, 0.0),
        (TRUE + FALSE, 0.5),
        (f"{TRUE} The occipital rhythm is strong.", 0.5),
        (TRUE.replace("Alpha", "Alpho"), 0.0),
        (TRUE.replace("central", "left"), 0.0),
        ("This points to sad.", 0.0),
        ("", 0.0),
        (None, 0.0),
    ],
)
def test_what_one_rationale_scores(text, value):
    found = row([text], ["sad"], ["1"])
    assert (found.value, found.n) == (value, 1)
    assert found.chance is None
    assert found.ci_low is None


@settings(max_examples=50, deadline=None)
@given(st.lists(statements, min_size=1), st.data())
def test_silence_never_raises_the_value(made, data):
    table = pd.DataFrame({"subject": "1", "answer": ["x"] * len(made)})
    deviations = np.random.default_rng(0).normal(size=(len(made), len(QUANTITIES)))
    silent = data.draw(st.integers(0, len(made) - 1))
    own, _ = shares_that_hold(made, QUANTITIES, "session", deviations, table)
    made[silent] = Statements((), 0)
    assert shares_that_hold(made, QUANTITIES, "session", deviations, table)[0].mean() <= own.mean()


def test_phrases_that_go_with_the_answer_are_at_their_null_and_measuring_is_above_it():
    rng = np.random.default_rng(0)
    deviations = rng.normal(size=(400, len(QUANTITIES)))
    subjects, answers = ["1", "2"] * 200, ["sad", "sad", "fear", "fear"] * 100
    parroted = row([TRUE if answer == "sad" else FALSE for answer in answers], answers, subjects, deviations)
    assert parroted.value == pytest.approx(parroted.chance, abs=0.06)
    read = row([TRUE if line[1] > 0 else FALSE for line in deviations], answers, subjects, deviations)
    assert read.value == 1.0
    assert read.chance == pytest.approx(0.5, abs=0.06)


def test_the_windows_of_one_answer_may_be_many():
    """Every pair of 30,000 windows would be 9 x 10^8: hours of calls, or gigabytes."""
    count = 30_000
    found = row([TRUE] * count, ["sad"] * count, ["1"] * count)
    assert (found.value, found.chance, found.n) == (1.0, 1.0, count)
