"""The reasons of a rationale end with its last claim."""

import pytest

from e2llm_core.evaluation.faithfulness.words import reasons_in

ALPHA = "Alpha power over the central region is above the session average."
BURSTS = "Beta activity over the left frontal region bursts less than average."


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
