"""Where labels lie in valence and arousal, and what a rationale says of it."""

import pytest

from e2llm_core.claims.claims import Claim, statements_in
from e2llm_core.claims.kind import Quantity
from e2llm_core.evaluation.faithfulness.words import reasons_in
from e2llm_core.tasks.circumplex import AFFECTS, Affect, affects_of
from e2llm_core.tasks.dialogue import rationale
from storage.errors import InputError
from storage.labels import FACED, SEED, SEED_IV, SEED_V, SEED_VII

SAID = Claim(Quantity("power", "alpha", "occipital"), True)


@pytest.mark.parametrize(
    ("label", "words"),
    [
        ("happy", "pleasant and aroused"),
        ("fear", "unpleasant and aroused"),
        ("sad", "unpleasant and calm"),
        ("neutral", "neither pleasant nor unpleasant and neither aroused nor calm"),
    ],
)
def test_quadrants(label, words):
    assert AFFECTS[label].words == words


@pytest.mark.parametrize("labels", [SEED_VII, SEED_IV, SEED_V])
def test_the_labels_of_three_data_sets_have_places(labels):
    assert affects_of(labels.names, "train.claims.affect") == tuple(AFFECTS[name] for name in labels.names)
    assert len(set(affects_of(labels.names, ""))) == len(labels)


@pytest.mark.parametrize(
    ("labels", "unknown"), [(SEED, "negative, positive"), (FACED, "sadness, amusement, inspiration")]
)
def test_other_labels_are_refused_by_name(labels, unknown):
    with pytest.raises(InputError, match=rf"train\.claims\.affect: .*are known of {unknown}.*leave it out"):
        affects_of(labels.names, "train.claims.affect")


@pytest.mark.parametrize("affect", AFFECTS.values())
def test_the_sentence_is_no_claim_and_stands_before_them(affect):
    text = rationale([SAID], "fear", affect=affect)
    assert statements_in(text).claims == (SAID,)
    assert statements_in(text).unreadable == 0
    assert text.startswith(f"The state is {affect.words}. ")
    assert reasons_in(text) == f"The state is {affect.words}. {SAID.sentence()}"


@pytest.mark.parametrize("affect", [*AFFECTS.values(), Affect(0.0, -1.0)])
def test_it_names_no_label(affect):
    assert not any(word in AFFECTS for word in affect.words.split())
