"""How much rationales say, how different it is, and whether it is what stands out: counted by hand."""

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from e2llm_core.claims.claims import Claim
from e2llm_core.claims.kind import Quantity
from e2llm_core.evaluation.faithfulness.coverage import coverage
from e2llm_core.evaluation.faithfulness.metrics import CHECKS
from e2llm_core.evaluation.faithfulness.spoken import Spoken
from e2llm_core.evaluation.summary import Provenance

QUANTITIES = tuple(Quantity("power", band, region) for band in ("alpha", "beta") for region in ("central", "parietal"))
QUANTITIES += tuple(Quantity("bursts", band, "central") for band in ("beta", "gamma"))
UNKNOWN = Quantity("power", "alpha", "moon")
ALPHA, BETA = QUANTITIES[0], QUANTITIES[2]
KEYS = {"task": "IED", "model": "4b", "condition": "eeg", "readout": "generation", "prompt": "seen"}


def spoken(texts, subjects, deviations=None, answers=None, truth=None) -> Spoken:
    count = len(texts)
    answered = pd.Series(answers or ["sad"] * count, dtype=object)
    rows = pd.DataFrame({**KEYS, "subject": subjects, "answer": answered, "text": pd.Series(texts, dtype=object)})
    rows = rows.assign(truth=truth or "sad", labels=[("sad", "happy")] * count, segments=[[{"clip": 1}]] * count)
    given_ = np.zeros((count, len(QUANTITIES)), np.float32) if deviations is None else np.asarray(deviations)
    return Spoken(rows, np.arange(count), QUANTITIES, "session", given_, Provenance(split="test", split_digest="0"))


def text(*claims: Claim) -> str:
    return " ".join(claim.sentence() for claim in claims)


def values(numbers) -> dict[str, float]:
    return {number.row.metric: number.row.value for number in numbers}


def test_what_is_counted():
    texts = [
        text(Claim(ALPHA, True), Claim(BETA, False)),
        text(Claim(BETA, False), Claim(ALPHA, True)),  # the same set
        text(Claim(ALPHA, False), Claim(UNKNOWN, True)),
        "This points to sad.",
        None,
    ]
    deviations = np.tile([3.0, 2.0, 0.1, -4.0, 5.0, 1.0], (5, 1))  # all but the third, beta central
    found = coverage(spoken(texts, ["1", "1", "2", "2", "2"], deviations))
    assert values(found) == {
        "claims_per_rationale": pytest.approx(6 / 5),
        "distinct_claim_sets": 2.0,
        "commonest_quantity_share": pytest.approx(3 / 6),
        "claims_among_largest": pytest.approx(3 / 6),
    }
    of_subjects = {n.row.metric: {one.subject: (one.value, one.n) for one in n.of_subjects} for n in found}
    assert of_subjects["distinct_claim_sets"] == {"1": (1.0, 2), "2": (1.0, 3)}
    assert of_subjects["commonest_quantity_share"] == {"1": (0.5, 4), "2": (0.5, 2)}
    assert of_subjects["claims_among_largest"] == {"1": (0.5, 4), "2": (0.5, 2)}
    assert found[3].row.chance == pytest.approx(5 / 6)


def test_of_silence_only_the_counts_are_defined():
    found = coverage(spoken(["nothing", None], ["1", "2"]))
    assert values(found) == {"claims_per_rationale": 0.0, "distinct_claim_sets": 0.0}


def test_one_subject_has_no_interval():
    found = coverage(spoken([text(Claim(ALPHA, True))], ["1"]))
    assert {number.row.ci_low for number in found} == {None}
    assert len(found) == 4


@settings(max_examples=80, deadline=None)
@given(st.lists(st.lists(st.tuples(st.sampled_from(QUANTITIES), st.booleans()), max_size=4), min_size=1), st.data())
def test_the_order_of_rationales_and_of_their_claims_does_not_matter(said, data):
    claims = [[Claim(*one) for one in each] for each in said]
    deviations = np.random.default_rng(len(said)).normal(size=(len(said), len(QUANTITIES)))
    subjects = [str(number % 3) for number in range(len(said))]
    plain = values(coverage(spoken([text(*each) for each in claims], subjects, deviations)))
    order = data.draw(st.permutations(range(len(said))))
    turned = [text(*data.draw(st.permutations(claims[place]))) for place in order]
    other = values(coverage(spoken(turned, [subjects[place] for place in order], deviations[list(order)])))
    assert other == pytest.approx(plain)
    for name, value in plain.items():
        low, high = CHECKS[name].bounds
        assert low <= value <= high
        assert math.isfinite(value)
