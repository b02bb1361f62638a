"""Answers that follow the claims change with them, answers that follow the EEG with that."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from e2llm_core.claims.claims import Claim, statements_in
from e2llm_core.evaluation.faithfulness.use import Ending, partners, uses
from e2llm_core.llm.families.llama import LLAMA
from e2llm_core.llm.families.qwen import QWEN
from e2llm_core.tasks.dialogue import conclusion, rationale
from tests.unit.evaluation.test_claim_coverage import QUANTITIES, spoken

OPTIONS = ("sad", "happy")
SAID = {"sad": Claim(QUANTITIES[0], True), "happy": Claim(QUANTITIES[0], False)}


class Reader:
    """Answers `sad` or `happy` by the claims that were forced, by the window's number, or always alike."""

    def __init__(self, follows: str) -> None:
        self.follows = follows
        self.asked: dict[str, list[tuple[int, str, tuple[str, ...]]]] = {}

    def likelihoods(self, check, windows, prefixes, continuations, edits=()):
        self.asked[check] = list(zip(windows.tolist(), prefixes, continuations, strict=True))
        return np.array([[0.0, 1.0] if self._sad(*one) else [1.0, 0.0] for one in self.asked[check]])

    def texts(self, check, windows, edits):
        raise AssertionError("nothing is generated")

    def _sad(self, window: int, prefix: str, continuations: tuple[str, ...]) -> bool:
        if self.follows == "claims":
            return SAID["sad"] in statements_in(prefix).claims
        return window % 2 == 0 if self.follows == "eeg" else True


def said_by_turns(count: int, family=QWEN):
    answers = [OPTIONS[number % 2] for number in range(count)]
    texts = [f"{family.rationale.write(rationale([SAID[answer]], answer))}{answer}" for answer in answers]
    return spoken(texts, [str(number // 4) for number in range(count)], answers=answers)


@pytest.mark.parametrize("family", [QWEN, LLAMA])
@pytest.mark.parametrize(
    ("follows", "changes"), [("claims", (1.0, 0.0, 0.5)), ("eeg", (0.0, 1.0, 0.0)), ("nothing", (0.0, 0.0, 0.0))]
)
def test_what_an_answer_follows_is_what_changes_it(follows, changes, family):
    found = uses(said_by_turns(12, family), Reader(follows), Ending(family, OPTIONS, conclusion), 100, 0)
    assert [number.row.metric for number in found] == ["use_claims", "use_eeg", "use_none"]
    assert tuple(number.row.value for number in found) == changes
    assert {(number.row.n, number.row.n_subjects, number.row.readout) for number in found} == {(12, 3, "likelihood")}


@pytest.mark.parametrize("family", [QWEN, LLAMA])
def test_what_is_forced_and_scored_is_a_whole_answer(family):
    reader, given_ = Reader("eeg"), said_by_turns(4, family)
    uses(given_, reader, Ending(family, OPTIONS, conclusion), 100, 0)
    for window, prefix, continuations in reader.asked["use-plain"]:
        whole = [prefix + text for text in continuations]
        answer = OPTIONS[window % 2]
        for option, text in zip(OPTIONS, whole, strict=True):
            reasons, reply = family.split(text)
            assert (reasons, reply) == (rationale([SAID[answer]], option), option)
        assert statements_in(prefix).claims == (SAID[answer],)
    for _, prefix, continuations in reader.asked["use-none"]:
        assert [family.split(prefix + text) for text in continuations] == [(None, option) for option in OPTIONS]
    assert [window for window, *_ in reader.asked["use-claims"]] == [0, 1, 2, 3]
    assert all(window % 2 != place % 2 for place, (window, *_) in enumerate(reader.asked["use-eeg"]))


@pytest.mark.parametrize(
    ("answers", "texts"),
    [
        (["sad", "sad"], None),
        ([None, "sad"], None),
        (["sad", "happy"], ["no claim", None]),
        (["sad", "happy"], [f"<think>\nsad. {SAID['sad'].sentence()}\n</think>\n\nsad"] * 2),
    ],
)
def test_where_there_is_no_other_answer_or_no_claim_nothing_is_reported(answers, texts):
    default = [f"<think>\n{SAID['sad'].sentence()}\n</think>\n\n{answer}" for answer in answers]
    given_ = spoken(texts or default, ["1", "2"], answers=answers)
    assert uses(given_, Reader("claims"), Ending(QWEN, OPTIONS, conclusion), 100, 0) == []


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from([*OPTIONS, None]), st.sampled_from("123"), st.booleans()), max_size=30),
    st.integers(0, 20),
    st.integers(0, 5),
)
def test_partners_have_another_answer_and_the_same_subject_where_one_has(items, number, seed):
    answers, subjects, speaks = (list(column) for column in zip(*items, strict=True)) if items else ([], [], [])
    found = partners(answers, np.array(subjects, dtype=object), speaks, number, seed)
    assert len(found) <= number
    assert len({item for item, _ in found}) == len(found)
    for item, other in found:
        assert None not in (answers[item], answers[other])
        assert answers[item] != answers[other]
        assert speaks[item]
        assert speaks[other]
        near = [
            place
            for place in range(len(items))
            if subjects[place] == subjects[item] and speaks[place] and answers[place] not in (None, answers[item])
        ]
        assert not near or subjects[other] == subjects[item]
    assert found == partners(answers, np.array(subjects, dtype=object), speaks, number, seed)
