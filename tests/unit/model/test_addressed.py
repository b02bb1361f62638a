"""The addressed projector: a token for each quantity, which carries one number that can be compared with a measure."""

import pytest
import torch

from e2llm_core.model.modeling_e2llm import E2LLMForConditionalGeneration
from e2llm_core.model.projector import (
    AddressedProjector,
    build_projector,
    complete_projector_config,
    start_addresses,
)
from e2llm_core.stages.language import counts_of_answers

QUANTITIES = ["power alpha occipital", "power beta central", "bursts beta central"]
FIELDS = {"kind": "addressed", "quantities": QUANTITIES}


@pytest.fixture
def projector() -> AddressedProjector:
    torch.manual_seed(0)
    return build_projector(complete_projector_config(FIELDS, 32, 0.02), 24, 32)


def test_a_token_for_the_segment_and_one_for_each_quantity(projector):
    tower = torch.randn(5, 9, 24)
    assert projector(tower).shape == (5, 4, 32)
    assert projector.readings(tower).shape == (5, 3)


def test_a_quantitys_token_depends_on_its_own_reading_alone(projector):
    tower, readings = torch.randn(1, 9, 24), torch.zeros(1, 3)
    plain = projector.tokens(tower, readings)
    moved = projector.tokens(tower, readings + torch.tensor([[0.0, 2.0, 0.0]]))
    changed = (plain != moved).any(dim=-1)[0]
    assert changed.tolist() == [False, False, True, False]


def test_addresses_start_at_the_words_of_the_language_model(projector, make_llm):
    llm = make_llm()
    start_addresses(projector, llm, [[1, 2], [3], [4, 5, 6]])
    weight = llm.get_input_embeddings().weight
    torch.testing.assert_close(projector.addresses[0], weight[[1, 2]].mean(dim=0))
    torch.testing.assert_close(projector.addresses[1], weight[3])


def test_quantities_must_be_named():
    with pytest.raises(ValueError, match="quantities is missing for kind 'addressed'"):
        complete_projector_config({"kind": "addressed"}, 32, 0.02)
    with pytest.raises(ValueError, match="num_queries"):
        complete_projector_config(FIELDS | {"num_queries": 3}, 32, 0.02)


def test_measures_are_a_target_and_no_input(make_model, processor, segments):
    """The answers are the same whatever the measures say; the error alone changes."""
    model = make_model(**FIELDS)
    processor.num_eeg_tokens = model.config.num_eeg_tokens
    prompt = processor.build_prompt([{"role": "user", "content": "<eeg> Which?"}])
    batch = processor([prompt], [processor.build_target("sad")], [segments[0]])
    one = model(**batch, eeg_measures=torch.zeros(1, 3))
    other = model(**batch, eeg_measures=torch.full((1, 3), 2.0))
    assert torch.equal(one.token_nll, other.token_nll)
    assert torch.equal(one.token_nll, model(**batch).token_nll)
    assert not torch.equal(one.reading_error, other.reading_error)


def test_measures_without_eeg_are_refused(make_model, processor):
    batch = processor(
        [processor.build_prompt([{"role": "user", "content": "Which?"}])], [processor.build_target("sad")]
    )
    with pytest.raises(ValueError, match="there is no EEG to read"):
        make_model(**FIELDS)(**batch, eeg_measures=torch.zeros(1, 3))


def test_the_error_is_that_of_the_readings(make_model, segments):
    model = make_model(**FIELDS)
    features = model.tower(segments[1])
    readings = model.projector.readings(features)
    measures = torch.randn(2, 3)
    expected = ((readings - measures) ** 2).mean(dim=1)
    torch.testing.assert_close(model.reading_error(features, measures), expected)


def test_the_error_trains_what_reads_and_nothing_of_the_language_model(make_model, processor, segments):
    model = make_model(**FIELDS).train()
    features = model.tower(segments[1]).detach()
    model.reading_error(features, torch.zeros(2, 3)).sum().backward()
    trained = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert trained == {f"projector.{name}" for name in ("norm.weight", "norm.bias", "read.weight", "read.bias")}


def test_an_addressed_model_is_read_back(make_model, tmp_path, segments):
    model = make_model(**FIELDS)
    model.save_pretrained(tmp_path)
    again = E2LLMForConditionalGeneration.from_pretrained(tmp_path)
    assert again.config.num_eeg_tokens == 1 + len(QUANTITIES)
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


def test_every_answer_counts_the_same_and_all_of_them_one():
    assert counts_of_answers([0, 0, 0, 1, 2, 2]).tolist() == pytest.approx([1 / 9] * 3 + [1 / 3] + [1 / 6] * 2)


def _parts(processor, answer: str, rationale: str | None) -> list[str]:
    """The answers of a target, as its tokens spell them."""
    _, target = processor.tokenize([{"role": "user", "content": "Which?"}], answer, rationale)
    number = processor.number_answers(answer, rationale)
    return [
        processor.tokenizer.decode([token for token, group in zip(target, number, strict=True) if group == n])
        for n in sorted(set(number))
    ]
