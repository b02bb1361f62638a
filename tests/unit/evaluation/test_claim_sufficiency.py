"""A reader of claims that determine the label is always right, one of random claims as good as chance."""

import numpy as np
import pytest

from e2llm_core.claims.claims import Claim
from e2llm_core.claims.kind import Quantity
from e2llm_core.evaluation.faithfulness.sufficiency import ClaimReader, sufficiency
from tests.unit.evaluation.test_claim_coverage import QUANTITIES, UNKNOWN, spoken, text

CODE = {"sad": (Claim(QUANTITIES[0], True), Claim(QUANTITIES[3], False)), "happy": (Claim(QUANTITIES[0], False),)}


def random_claims(rng: np.random.Generator) -> tuple[Claim, ...]:
    return tuple(Claim(QUANTITIES[place], bool(rng.random() < 0.5)) for place in rng.choice(len(QUANTITIES), 2, False))


def test_claims_that_determine_the_label_suffice():
    labels = ["sad", "happy"] * 20
    reader = ClaimReader.fit(QUANTITIES, [CODE[label] for label in labels], labels)
    texts = [text(*CODE[label]) for label in labels]
    wrong = ["happy", "sad"] * 20  # what the model answered does not matter
    (found,) = sufficiency(spoken(texts, ["1", "2"] * 20, answers=wrong, truth=labels), reader)
    assert (found.row.metric, found.row.value, found.row.chance) == ("claim_sufficiency", 1.0, 0.5)
    assert (found.row.n, found.row.readout) == (40, "generation")
    assert all(one.metric == "claim_sufficiency" for one in found.of_subjects)


def test_random_claims_are_at_chance():
    rng = np.random.default_rng(0)
    labels = rng.choice(["sad", "happy"], 2000).tolist()
    reader = ClaimReader.fit(QUANTITIES, [random_claims(rng) for _ in labels], labels)
    texts = [text(*random_claims(rng)) for _ in labels]
    subjects = [str(number % 5) for number in range(len(labels))]
    (found,) = sufficiency(spoken(texts, subjects, truth=labels), reader)
    assert found.row.value == pytest.approx(0.5, abs=0.04)


def test_silence_and_what_was_not_measured_are_read_as_saying_nothing():
    reader = ClaimReader.fit(QUANTITIES, [*CODE.values()] * 3, [*CODE] * 3)
    elsewhere = (Claim(UNKNOWN, True), Claim(Quantity("bursts", "beta", "moon"), False))
    assert reader.read([()]) == reader.read([elsewhere])
    twice = (Claim(QUANTITIES[0], False), Claim(QUANTITIES[0], True), Claim(QUANTITIES[3], False))
    assert reader.read([twice]) == reader.read([CODE["sad"]]), "of two claims about one quantity the last counts"


def test_one_class_is_read_as_that_class():
    reader = ClaimReader.fit(QUANTITIES, [CODE["sad"]] * 2, ["sad"] * 2)
    (found,) = sufficiency(spoken([None, text(*CODE["happy"])], ["1", "1"]), reader)
    assert found.row.value == 1.0
    assert found.row.ci_low is None


def test_rare_labels_are_as_likely_before_anything_is_read():
    labels = ["sad"] * 90 + ["happy"] * 10
    reader = ClaimReader.fit(QUANTITIES, [CODE[label] for label in labels], labels)
    assert reader.read([CODE["happy"]]) == ["happy"]
    assert np.exp(reader.model.class_log_prior_) == pytest.approx(0.5)
