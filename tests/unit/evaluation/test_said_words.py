"""The word that a claim turns on is found, and nothing else is taken for one."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from e2llm_core.claims.claims import Claim, statements_in
from e2llm_core.claims.table import quantities_in
from e2llm_core.evaluation.faithfulness.words import reasons_in, said_claims
from storage.signal.channels import REGIONS

ALPHA = "Alpha power over the central region is above the session average."
BURSTS = "Beta activity over the left frontal region bursts less than average."
claims = st.builds(Claim, st.sampled_from(quantities_in(REGIONS)), st.booleans())


@settings(max_examples=100, deadline=None)
@given(st.lists(claims, max_size=5, unique_by=lambda claim: claim.quantity))
def test_every_claim_has_a_word_that_reverses_it_alone(made):
    text = "<think>\nMore or less. " + " ".join(claim.sentence() for claim in made) + " This points above.\n</think>"
    said = said_claims(text)
    assert [one.claim for one in said] == made
    for one in said:
        assert text[one.start : one.stop] == one.word
        turned = statements_in(text[: one.start] + one.opposite + text[one.stop :]).claims
        others = {claim for claim in made if claim != one.claim}
        assert set(turned) == others | {Claim(one.claim.quantity, not one.claim.above)}


@pytest.mark.parametrize(
    ("rationale", "reasons"),
    [
        (f"{ALPHA} This points to sad.", ALPHA),
        (f"{ALPHA} {BURSTS} This points to sad.", f"{ALPHA} {BURSTS}"),
        (f"Look. {ALPHA}\nSo it is sad", f"Look. {ALPHA}"),
        (ALPHA[:-1], ALPHA[:-1]),
        ("This points to sad.", ""),
        ("", ""),
    ],
)
def test_reasons_end_with_the_last_claim(rationale, reasons):
    assert reasons_in(rationale) == reasons
