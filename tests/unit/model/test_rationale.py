"""Both forms of a rationale are read back as they were written, in text and in tokens."""

import hypothesis.strategies as st
import pytest
from hypothesis import given

from e2llm_core.llm.families.llama import LLAMA
from e2llm_core.llm.families.rationale import AnswerLine, ThinkTags
from e2llm_core.llm.tiny_llm import train_tokenizer
from e2llm_core.model.processing_e2llm import E2LLMProcessor
from e2llm_core.tower.tower import EEGSettings

FORMS = [ThinkTags(), AnswerLine()]
texts = st.text(max_size=40).filter(lambda text: not any(mark in text for form in FORMS for mark in form.reserved))


@pytest.mark.parametrize("form", FORMS)
@given(rationale=texts, answer=texts)
def test_what_is_written_is_read(form, rationale, answer):
    written = form.write(rationale) + form.before_answer + answer
    assert form.read(written) == (rationale.strip() or None, answer.strip())
    assert form.read(answer) == (None, answer.strip())
    forgotten = form.forget(written)
    assert form.read(forgotten) == (None, answer.strip())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Alpha is low.\nAnswer: sad", ("Alpha is low.", "sad")),
        ("Answer: sad", (None, "sad")),
        (" sad", (None, "sad")),
        ("It goes on and", (None, "It goes on and")),
        ("Answer: no\nAnswer: sad", ("Answer: no", "sad")),
        ("", (None, "")),
    ],
)
def test_the_last_marked_line_is_the_answer(text, expected):
    assert AnswerLine().read(text) == expected


@pytest.fixture(scope="module")
def processor() -> E2LLMProcessor:
    tokenizer = train_tokenizer(["Answer: sad or happy", "Alpha is low.\nAnswer: sad"] * 9, 320, "llama")
    return E2LLMProcessor(tokenizer, 2, EEGSettings(channels=("CZ",)), LLAMA)


def test_an_answer_has_the_same_tokens_at_once_and_after_a_rationale(processor):
    """So that the likelihood of an immediate answer is that of what training supervised."""
    question = [{"role": "user", "content": "Which? <eeg>"}]
    prompt, at_once = processor.tokenize(question, "sad", None)
    longer, reasoned = processor.tokenize(question, "sad", "Alpha is low.")
    assert reasoned[-len(at_once) :] == at_once
    assert prompt[: len(longer)] == longer
    assert processor.tokenizer.decode(prompt + at_once).endswith("assistant\nAnswer: sad<|im_end|>")
    assert processor.tokenizer.decode(reasoned) == "Alpha is low.\nAnswer: sad<|im_end|>"
    assert processor.split_answer(processor.tokenizer.decode(reasoned)) == ("Alpha is low.", "sad")


def test_a_mark_in_the_text_is_refused(processor):
    for answer, rationale in (("Answer: sad", None), ("sad", "Answer: happy")):
        with pytest.raises(ValueError, match=r"reserved tokens \['Answer:'\]"):
            processor.build_target(answer, rationale)
