"""Claims survive the way into words and back, and are judged by the measurements."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from e2llm_core.claims.claims import Claim, said_in, statements_in
from e2llm_core.claims.measures import QuantityScaler, SignalMeasures
from e2llm_core.claims.table import CLAIM_KINDS, CLAIM_TABLE, DEFAULT_KINDS, quantities_of
from e2llm_core.claims.wording import AVERAGES, DEGREES, Form
from e2llm_core.tasks.facts import ClaimChoice
from storage.errors import InputError
from storage.signal.channels import SEED_CHANNELS
from tests.extending import load

QUANTITIES = quantities_of(SEED_CHANNELS, CLAIM_KINDS)
claims = st.builds(
    Claim, st.sampled_from(QUANTITIES), st.booleans(), st.sampled_from(list(DEGREES)), st.sampled_from(list(AVERAGES))
)


@settings(deadline=None)
@given(st.lists(claims, max_size=6), st.none() | st.integers(0, 2**31))
def test_every_sentence_is_read_back_as_its_claim(made, seed):
    rng = None if seed is None else np.random.default_rng(seed)
    sentences = [claim.sentence(rng) for claim in made]
    text = " ".join(sentences)
    found = statements_in(text)
    assert found.claims == tuple(made)
    assert found.unreadable == 0
    assert [text[slice(*one.span)] + "." for one in said_in(text)] == sentences
    for place, one in enumerate(said_in(text)):
        turned = list(made)
        turned[place] = replace(made[place], above=not made[place].above)
        first, stop = one.word_span
        assert [said.claim for said in said_in(text[:first] + one.opposite + text[stop:])] == turned


def own_average(form: Form, reference: str) -> list[str]:
    return [form.session] if form.session and reference == "session" else []


def every_wording(claim: Claim) -> list[str]:
    """All sentences that say a claim, put together by hand."""
    return [
        (said[0].upper() + said[1:] + ".")
        for form in CLAIM_KINDS[claim.quantity.kind].forms
        for pair in form.words
        for degree in DEGREES[claim.strength]
        for average in (*own_average(form, claim.reference), *AVERAGES[claim.reference])
        for said in [
            form.text.format(
                band=claim.quantity.band,
                region=claim.quantity.region,
                word=f"{degree} {pair[not claim.above]}".strip(),
                average=average,
            )
        ]
    ]


@pytest.mark.parametrize("kind", CLAIM_KINDS)
def test_each_kind_has_many_wordings_of_which_every_one_is_read_and_no_two_claims_share_any(kind):
    quantity = next(quantity for quantity in QUANTITIES if quantity.kind == kind)
    meaning = {}
    for above in (True, False):
        for strength in DEGREES:
            for reference in AVERAGES:
                claim = Claim(quantity, above, strength, reference)
                wordings = every_wording(claim)
                assert wordings[0] == claim.sentence()
                assert len(wordings) >= 15
                for wording in wordings:
                    assert meaning.setdefault(wording, claim) == claim
                    assert statements_in(wording).claims == (claim,), wording


def test_three_claims_have_thousands_of_wordings():
    three = [Claim(QUANTITIES[place], True) for place in (0, 36, 49)]
    assert np.prod([len(set(every_wording(claim))) for claim in three]) > 3_000
    rng = np.random.default_rng(0)
    drawn = {" ".join(claim.sentence(rng) for claim in three) for _ in range(1000)}
    assert len(drawn) > 800


@given(claims)
def test_a_claim_is_kept_as_json_with_the_version_of_its_table(claim):
    content = json.loads(json.dumps(claim.to_dict()))
    assert Claim.from_dict(content, "claims.json") == claim
    assert {claim: 1}[Claim.from_dict(content, "claims.json")] == 1
    with pytest.raises(InputError, match=rf"claims\.json: names version 1 of .*this is version {CLAIM_TABLE}"):
        Claim.from_dict(content | {"table": 1}, "claims.json")
    for broken in (content | {"kind": "tone"}, content | {"strength": "huge"}, content | {"more": 1}, {"table": 2}):
        with pytest.raises(InputError, match=r"claims\.json: holds what is no claim"):
            Claim.from_dict(broken, "claims.json")


@pytest.mark.parametrize(
    ("deviation", "said"),
    [
        (1.6, "strong"),
        (1.2, "plain"),
        (0.6, "slight"),
        (-0.6, "slight"),
        (-9, "strong"),
    ],
)
def test_strength_follows_the_deviation(deviation, said):
    deviations = np.array([deviation])
    reliability = np.ones(1)
    (varied,) = ClaimChoice(wording="varied").claims(QUANTITIES[:1], deviations, None, reliability)
    (canonical,) = ClaimChoice().claims(QUANTITIES[:1], deviations, None, reliability)
    assert varied == Claim(QUANTITIES[0], deviation > 0, said)
    assert canonical == Claim(QUANTITIES[0], deviation > 0, "plain")


def test_what_is_not_reliable_or_does_not_deviate_is_not_claimed():
    deviations = np.array([3.0, -2.0, 0.0, 1.0])
    choice, reliability = ClaimChoice(number=4, reliability=0.5), np.array([0.49, 0.5, 1.0, 0.9])
    made = choice.claims(QUANTITIES[:4], deviations, None, reliability, "population")
    assert [(QUANTITIES.index(claim.quantity), claim.above) for claim in made] == [(1, False), (3, True)]
    unasked = ClaimChoice(number=4, reliability=0, smallest=0)
    assert {claim.reference for claim in made} == {"population"}
    assert choice.claims(QUANTITIES[:4], deviations, None, np.full(4, np.nan)) == ()
    assert choice.claims(QUANTITIES[:4], deviations) == ()
    assert len(unasked.claims(QUANTITIES[:4], deviations, None, np.full(4, np.nan))) == 3


@given(st.integers(0, 2**31), st.integers(1, 10))
def test_the_strongest_claims_all_hold_and_the_strongest_comes_first(seed, number):
    deviations = np.random.default_rng(seed).normal(size=len(QUANTITIES))
    made = ClaimChoice(number=number, smallest=0, reliability=0).claims(QUANTITIES, deviations)
    places = [QUANTITIES.index(claim.quantity) for claim in made]
    assert [claim.above for claim in made] == (deviations[places] > 0).tolist()
    assert (np.diff(np.abs(deviations[places])) <= 0).all()
    left_out = np.delete(np.abs(deviations), places)
    assert left_out.max() <= np.abs(deviations[places]).min()


READABLE = "Beta power over the left frontal region is above the session average"


@pytest.mark.parametrize(
    ("text", "claims", "unreadable"),
    [
        (f"<think>{READABLE}. This points to happy.</think>\n\nhappy", 1, 0),
        (f"{READABLE} and gamma is quiet.", 1, 1),
        (f"{READABLE}, theta power over the central region is below the session average.", 2, 0),
        ("Betta power over the left moon region is above the session average.", 1, 0),
        ("Beta power over the left frontal region is high.", 0, 1),
        ("Beta activity over the left frontal region comes in bursts.", 0, 1),
        ("<think>Beta power over the lef", 0, 1),
        ("It is bursty! Alpha? No;\nThe occipital one.", 0, 3),
        ("The person is calm and the left frontal region shows more alpha power than the population average.", 1, 0),
        ("The blink rate is high. The slope is steep. Fluctuations, asymmetric ones, and a ratio.", 0, 3),
        ("The left frontal region shows very much more alpha power than the session average.", 0, 1),
        ("Beta power over the left frontal region is above average.", 0, 1),
        ("Beta activity over the left frontal region bursts more than average.", 1, 0),
        ("It is far above the population average.", 0, 1),
        ("This points to happy. There is sad in both. The person seems calm.", 0, 0),
        ("", 0, 0),
    ],
)
def test_a_sentence_about_the_signal_is_a_claim_or_unreadable(text, claims, unreadable):
    found = statements_in(text)
    assert (len(found.claims), found.unreadable) == (claims, unreadable)
    assert len(found) == claims + unreadable


def test_the_canonical_sentences_and_notes():
    made = [
        Claim(next(quantity for quantity in QUANTITIES if quantity.kind == kind), above, strength, reference)
        for kind, above, strength, reference in [
            ("power", True, "plain", "session"),
            ("bursts", False, "strong", "session"),
            ("asymmetry", True, "plain", "population"),
            ("theta/beta", False, "slight", "population"),
            ("slope", True, "plain", "so far"),
            ("variability", True, "strong", "so far"),
            ("blinks", False, "plain", "session"),
        ]
    ]
    assert [(claim.sentence(), claim.keywords()) for claim in made] == [
        ("Delta power over the left frontal region is above the session average.", "delta left frontal above"),
        (
            "Beta activity over the left frontal region bursts much less than average.",
            "beta left frontal bursts much less",
        ),
        ("Frontal alpha asymmetry is above the average person's.", "asymmetry alpha above vs people"),
        (
            "The theta/beta ratio over the left frontal region is slightly below the average person's.",
            "theta/beta left frontal slightly below vs people",
        ),
        (
            "The spectral slope over the left frontal region is flatter than the average so far in this session.",
            "slope left frontal flatter vs so far",
        ),
        (
            "Alpha power over the left frontal region varies much more than the average so far in this session.",
            "alpha left frontal varies much more vs so far",
        ),
        ("The blink rate is below the session average.", "blinks below"),
    ]


EDGE = load("e2llm_core/claims/edge.py").EDGE


@pytest.fixture
def with_a_new_kind(monkeypatch) -> None:
    monkeypatch.setitem(CLAIM_KINDS, EDGE.name, EDGE)


def test_a_new_kind_of_claim_is_one_row(with_a_new_kind):
    """It is measured, said, noted and read back, and sentences that merely mention it are unreadable."""
    channels, seconds = ("O1", "O2", "CZ"), np.arange(512) / 256
    measures = SignalMeasures(channels, 256.0, 512, ("edge", "power"))
    assert measures.names[-len(measures.regions) :] == ("edge alpha central", "edge alpha occipital")
    slow, fast = (np.tile(np.sin(2 * np.pi * hz * seconds), (1, 3, 1)) for hz in (9.0, 13.0))
    difference = (measures(fast) - measures(slow))[0]
    made = [Claim(quantity, bool(difference[place] > 0)) for place, quantity in enumerate(measures.quantities)]
    assert made[-1].sentence() == "The alpha rhythm over the occipital region is faster than the session average."
    assert made[-1].keywords() == "alpha occipital fast"
    found = statements_in(f"{made[-1].sentence()} {READABLE}. A rhythm.")
    assert [claim.quantity.kind for claim in found.claims] == ["edge", "power"]
    assert (found.claims[0], found.unreadable) == (made[-1], 1)


def test_quantities_of_another_version_are_refused_by_name(with_a_new_kind):
    known = tuple(quantity.name for quantity in quantities_of(("CZ",), ("power", "edge")))
    spread = QuantityScaler(("power alpha central", "tone alpha central"), *np.ones((3, 2), np.float32))
    with pytest.raises(
        InputError, match=r"probe\.json: lacks the quantities: power delta central, .*edge alpha central"
    ):
        spread.of(known, "probe.json")
    with pytest.raises(InputError, match=r"not measured here: tone alpha central\. Run stage 1"):
        spread.of(known, "probe.json")


@given(st.permutations(range(5)))
def test_the_order_in_a_file_does_not_matter(order):
    names, std = tuple("abcde"), np.arange(1, 6, dtype=np.float32)
    shuffled = QuantityScaler(tuple(names[place] for place in order), *(np.stack([std, -std, std / 9])[:, list(order)]))
    found = shuffled.of(names, "")
    np.testing.assert_array_equal([found.std, found.mean, found.reliability], [std, -std, std / 9])


def test_kinds_are_measured_in_the_order_of_the_table_and_by_default_as_before_there_were_more():
    named = [quantity.name for quantity in quantities_of(("O1", "CZ"))]
    bands = ("delta", "theta", "alpha", "beta", "gamma")
    powers = [f"power {band} {region}" for band in bands for region in ("central", "occipital")]
    bursts = [f"bursts {band} {region}" for band in bands[3:] for region in ("central", "occipital")]
    assert named == powers + bursts
    assert quantities_of(("O1", "CZ"), DEFAULT_KINDS[::-1]) == quantities_of(("O1", "CZ"))
    assert SignalMeasures(("O1", "CZ"), 256.0, 512).names == tuple(named)
    slopes = SignalMeasures(("O1", "CZ"), 256.0, 512, ("slope",))
    assert slopes.names == ("slope central", "slope occipital")
    assert slopes(np.random.default_rng(0).normal(size=(3, 2, 512))).shape == (3, 2)
