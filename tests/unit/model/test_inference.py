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


OWN = Question("<eeg> Is it <listed>?", ("yes", "no"))
TEXTS = ("sad", "happy and calm", "sad", "neutral, which is a long word for it")


def test_questions_that_differ_from_item_to_item_are_answered_as_one_by_one(predictor):
    given = segments(predictor, 4, 1)
    apart = [Question(OWN.user.replace("<listed>", text), OWN.options) for text in TEXTS]
    found = predictor.option_nll(OWN, given, TEXTS)
    alone = [predictor.option_nll(one, given[[place]]) for place, one in enumerate(apart)]
    np.testing.assert_allclose(found, np.concatenate(alone), rtol=1e-4, atol=1e-4)
    prefixes, endings = ("<think>\n", "") * 2, (("yes", "no"),) * 4
    forced = predictor.forced_nll(OWN, given, prefixes, endings, TEXTS)
    alone = [
        predictor.forced_nll(one, given[[place]], [prefixes[place]], [endings[place]])
        for place, one in enumerate(apart)
    ]
    np.testing.assert_allclose(forced, np.concatenate(alone), rtol=1e-4, atol=1e-4)
    generated = predictor.generate(OWN, given, TEXTS)
    assert generated == [predictor.generate(one, given[[place]])[0] for place, one in enumerate(apart)]


def test_a_text_of_an_items_own_is_neither_missing_nor_too_much(predictor):
    given = segments(predictor, 4, 1)
    for ask in (predictor.option_nll, predictor.generate):
        with pytest.raises(ValueError, match="needs a text of the item's own"):
            ask(OWN, given)
        with pytest.raises(ValueError, match="has no place for a text of an item's own"):
            ask(QUESTION, given, TEXTS)
        with pytest.raises(ValueError, match="2 texts are listed for 4 items"):
            ask(OWN, given, TEXTS[:2])


def test_forced_continuations_score_as_teacher_forced_rows_do(predictor):
    given, processor = segments(predictor, 5, 1), predictor.processor
    prefixes = [
        "<think>\nno\n</think>\n\n",
        "",
        "<think>\nyes yes\n</think>\n\n",
        "<think>\n",
        "<think>\nno\n</think>\n\n",
    ]
    texts = [("happy", "sad<|im_end|>", "rather neutral")] * 4 + [("a", "much longer ending", "sad")]
    found = predictor.forced_nll(QUESTION, given, prefixes, texts)
    prompt = processor.build_prompt([{"role": "user", "content": QUESTION.user}])
    for item, (prefix, endings) in enumerate(zip(prefixes, texts, strict=True)):
        begun = len(processor.tokenizer.encode(prefix, add_special_tokens=False))
        for place, ending in enumerate(endings):
            batch = processor([prompt], [prefix + ending], [torch.from_numpy(given[item])])
            start = int((batch["labels"][0] != -100).nonzero()[0])
            batch["labels"][:, start : start + begun] = -100
            with torch.no_grad():
                nll = predictor.model.supervised_log_likelihood(**batch)[0]
            assert found[item, place] == pytest.approx(float(nll), rel=1e-4, abs=1e-4)


def test_forced_answers_without_a_rationale_are_the_immediate_ones(predictor):
    given, form = segments(predictor, 4, 1), predictor.processor.family.rationale
    endings = [tuple(predictor.processor.build_target(option, None, True) for option in QUESTION.options)] * 4
    found = predictor.forced_nll(QUESTION, given, [form.write("")] * 4, endings)
    np.testing.assert_allclose(found, predictor.option_nll(QUESTION, given), rtol=1e-4, atol=1e-4)


def test_merged_tokens_are_scored_as_a_whole(predictor):
    def encode(text: str) -> list[int]:
        return predictor.processor.tokenizer.encode(text, add_special_tokens=False)

    ids = encode("happy")
    begin = next("happy"[:cut] for cut in range(1, 5) if encode("happy"[:cut]) != ids[: len(encode("happy"[:cut]))])
    given, texts = segments(predictor, 1, 1), ("happy", f"{begin} and sad")
    cut = predictor.forced_nll(QUESTION, given, [begin], [tuple(text.removeprefix(begin) for text in texts)])
    whole = predictor.forced_nll(QUESTION, given, [""], [texts])
    assert cut[0, 0] - cut[0, 1] == pytest.approx(whole[0, 0] - whole[0, 1], abs=1e-4)


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
