"""The predictor: its short cuts give what the long way gives."""

import numpy as np
import pytest
import torch

from e2llm_core.inference.predictor import Predictor
from e2llm_core.tasks.question import Question

QUESTION = Question("Which? <eeg>", ("happy", "sad", "rather neutral"))
PAIR = Question("Same? <eeg> or <eeg>", ("same", "different"), num_segments=2)


@pytest.fixture
def predictor(make_model, processor, tmp_path) -> Predictor:
    model = make_model()
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    return Predictor(tmp_path, batch=3)


def segments(predictor: Predictor, items: int, per_item: int) -> np.ndarray:
    eeg = predictor.processor.eeg
    shape = (items, per_item, len(eeg.channels), eeg.n_times)
    return (20 * np.random.default_rng(0).normal(size=shape)).astype(np.float32)


@pytest.mark.parametrize(("question", "per_item"), [(QUESTION, 1), (PAIR, 2)])
def test_likelihoods_from_a_shared_prefix_equal_those_of_whole_rows(predictor, question, per_item):
    given = segments(predictor, 5, per_item)
    processor, model = predictor.processor, predictor.model
    prompt = processor.build_prompt([{"role": "user", "content": question.user}], enable_thinking=False)
    nll = []
    for option in question.options:
        target = processor.build_target(option, None, True)
        batch = processor([prompt] * 5, [target] * 5, list(torch.from_numpy(given)))
        with torch.no_grad():
            nll.append(model.supervised_log_likelihood(**batch)[0])
    expected = torch.stack(nll, dim=1).neg().softmax(dim=1).numpy()
    np.testing.assert_allclose(predictor.likelihood(question, given), expected, atol=2e-5)


def test_probabilities_are_normalised_and_items_keep_their_order(predictor):
    given = segments(predictor, 7, 1)
    all_at_once = predictor.likelihood(QUESTION, given)
    one_by_one = np.concatenate([predictor.likelihood(QUESTION, given[[place]]) for place in range(7)])
    np.testing.assert_allclose(all_at_once.sum(axis=1), 1.0, atol=1e-5)
    np.testing.assert_allclose(all_at_once, one_by_one, atol=2e-5)


def test_an_answer_that_is_no_option_is_invalid_and_its_text_is_kept(predictor):
    answers = predictor.generate(QUESTION, segments(predictor, 4, 1))
    assert len(answers) == 4
    assert all(one.answer is None or one.answer in QUESTION.options for one in answers)
    assert predictor._read("<think>\nno\n</think>\n\nsad", QUESTION).answer == "sad"
    assert predictor._read("<think>\nno\n</think>\n\nsadly", QUESTION).answer is None
    assert predictor._read("sad", QUESTION).answer == "sad"
