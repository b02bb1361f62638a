"""The worded projector: what stands out in a segment, in the language model's words, from numbers that are read."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from e2llm_core.model.config import ProjectorConfig
from e2llm_core.model.modeling_e2llm import E2LLMForConditionalGeneration
from e2llm_core.model.projector import (
    FittedReading,
    WordedProjector,
    WordIds,
    build_projector,
    complete_projector_config,
    pooled,
    start_words,
)
from e2llm_core.stages.language import counts_of_answers
from e2llm_core.tasks.notes import ORDINALS

QUANTITIES = ["power alpha occipital", "power beta central", "bursts beta central"]
FIELDS = {"kind": "worded", "quantities": QUANTITIES, "labels": 2, "opening": 1, "pieces": 3, "strongest": 2}
WORDS = WordIds(
    opening=[13],
    labels=[[14], [15, 16]],
    addresses=[[20, 0, 1], [20, 0, 3], [0, 4, 5]],
    ordinal_place=[1, 1, 0],
    ordinals=[[6], [7, 8], [9]],
    directions=[([9], [10]), ([9], [10]), ([11], [12])],
)


@pytest.fixture
def projector() -> WordedProjector:
    torch.manual_seed(0)
    return build_projector(complete_projector_config(FIELDS, 32, 0.02), 24, 32)


def told(projector, readings) -> torch.Tensor:
    """(strongest, pieces + 1, width): the words of one segment of these readings, without what it points to."""
    tokens = projector.tokens(torch.zeros(1, 9, 24), torch.tensor([readings]))
    return tokens[0, 3:].unflatten(0, (projector.reading.strongest, -1))


def test_a_token_for_the_segment_and_the_words_of_what_stands_out(projector):
    tower = torch.randn(5, 9, 24)
    assert projector(tower).shape == (5, 3 + 2 * (3 + 1), 32)
    assert projector.reading(tower).shape == (5, 3)


def test_the_largest_deviations_are_told_in_their_order_and_counted(projector, make_llm):
    start_words(projector, make_llm(), WORDS)
    words = told(projector, [0.4, -2.0, 1.0])
    torch.testing.assert_close(words[0, [0, 2]], projector.addresses[1, [0, 2]])
    torch.testing.assert_close(words[1, 1:3], projector.addresses[2, 1:])
    torch.testing.assert_close(words[0, 1], projector.ordinals[0])
    torch.testing.assert_close(words[1, 0], projector.ordinals[1])


def test_a_segment_of_few_quantities_tells_all_of_them():
    fields = complete_projector_config(FIELDS | {"strongest": 8}, 32, 0.02)
    assert build_projector(fields, 24, 32)(torch.randn(1, 9, 24)).shape == (1, 3 + 3 * 4, 32)


@given(sign=st.sampled_from([-1.0, 1.0]), size=st.floats(0.3, 4.0))
def test_the_direction_is_that_of_the_reading(sign, size):
    projector = build_projector(complete_projector_config(FIELDS, 32, 0.02), 24, 32)
    direction = told(projector, [sign * size, 0.0, 0.0])[0, -1]
    assert torch.cdist(direction[None], projector.directions[0]).argmin() == int(sign < 0)


def fitted() -> FittedReading:
    return FittedReading(torch.randn(3, 48), torch.randn(3), torch.randn(2, 24), torch.randn(2), torch.randn(2, 3))


def test_what_reads_is_linear_in_the_tokens_and_not_trained(projector):
    reading, tower = fitted(), torch.randn(5, 9, 24)
    projector.reading.start(reading)
    expected = pooled(tower) @ reading.weight.T + reading.bias
    torch.testing.assert_close(projector.reading(tower), expected)
    assert not list(projector.reading.parameters())


def test_what_speaks_for_a_likely_label_is_told_before_what_does_not(projector):
    towards = torch.tensor([[0.0, -1.0, 0.0], [0.0, 1.0, 0.0]])
    certain = FittedReading(torch.zeros(3, 48), torch.zeros(3), torch.zeros(2, 24), torch.tensor([0.0, 50.0]), towards)
    projector.reading.start(certain)
    readings = torch.tensor([[1.0, 0.8, -0.5], [1.0, -0.8, -0.5]])
    salience = projector.reading.salience(torch.zeros(2, 9, 24), readings)
    torch.testing.assert_close(salience, torch.tensor([[1.0, 1.8, 0.5], [1.0, -0.2, 0.5]]))


def test_the_label_is_told_as_likely_as_it_is(projector):
    head = torch.tensor([0.0, torch.tensor(3.0).log()])
    fitted_labels = FittedReading(torch.zeros(3, 48), torch.zeros(3), torch.zeros(2, 24), head, torch.zeros(2, 3))
    projector.reading.start(fitted_labels)
    told_label = projector(torch.zeros(1, 9, 24))[0, 2]
    torch.testing.assert_close(told_label, 0.25 * projector.labels[0] + 0.75 * projector.labels[1])


def test_words_start_as_those_of_the_language_model(projector, make_llm):
    llm = make_llm()
    start_words(projector, llm, WORDS)
    weight = llm.get_input_embeddings().weight
    assert WORDS.pieces == 3
    torch.testing.assert_close(projector.addresses[1], weight[[20, 0, 3]])
    torch.testing.assert_close(projector.opening, weight[[13]])
    torch.testing.assert_close(projector.labels[1], weight[[15, 16]].mean(dim=0))
    torch.testing.assert_close(projector.ordinals[1], weight[[7, 8]].mean(dim=0))
    torch.testing.assert_close(projector.directions[2], weight[[11, 12]])


def test_no_more_quantities_can_be_told_than_can_be_counted():
    assert ProjectorConfig(strongest=len(ORDINALS)).strongest == len(ORDINALS)
    with pytest.raises(ValidationError, match=f"less than or equal to {len(ORDINALS)}"):
        ProjectorConfig(strongest=len(ORDINALS) + 1)


def test_quantities_must_be_named():
    with pytest.raises(ValueError, match="labels is missing for kind 'worded'"):
        complete_projector_config({"kind": "worded"}, 32, 0.02)
    with pytest.raises(ValueError, match="num_queries"):
        complete_projector_config(FIELDS | {"num_queries": 3}, 32, 0.02)


def test_a_worded_model_is_read_back(make_model, tmp_path, segments):
    model = make_model(**FIELDS)
    model.projector.reading.start(fitted())
    model.save_pretrained(tmp_path)
    again = E2LLMForConditionalGeneration.from_pretrained(tmp_path)
    assert again.config.num_eeg_tokens == 3 + 2 * 4
    torch.testing.assert_close(again.encode_eeg(segments[0]), model.encode_eeg(segments[0]))


def test_sentences_of_a_rationale_and_the_final_answer_are_answers_of_their_own(processor):
    rationale = "Alpha power is high. Beta power over the central region is low. This points to sad."
    parts = _parts(processor, "sad", rationale)
    assert [part.replace("<think>", "").strip() for part in parts[:2]] == [
        "Alpha power is high.",
        "Beta power over the central region is low.",
    ]
    assert parts[-1].endswith("sad<|im_end|>")
    assert len(parts) == 4


def test_items_of_a_list_are_answers_of_their_own(processor):
    assert [part.strip() for part in _parts(processor, "far above; near.", None)] == ["far above;", "near.<|im_end|>"]


def test_a_samples_loss_is_the_mean_of_its_answers():
    assert counts_of_answers([0, 0, 0, 1, 2, 2]).tolist() == pytest.approx([1 / 3] * 6)


def _parts(processor, answer: str, rationale: str | None) -> list[str]:
    """The answers of a target, as its tokens spell them."""
    _, target = processor.tokenize([{"role": "user", "content": "Which?"}], answer, rationale)
    number = processor.number_answers(answer, rationale)
    return [
        processor.tokenizer.decode([token for token, group in zip(target, number, strict=True) if group == n])
        for n in sorted(set(number))
    ]
