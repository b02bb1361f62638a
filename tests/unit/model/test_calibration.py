"""Temperatures: fitted as they should be, kept with the model, used by the predictor, and never changing an answer."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from e2llm_core.inference.predictor import Predictor
from e2llm_core.model.calibration import (
    CALIBRATION,
    RANGE,
    Calibration,
    TaskTemperature,
    fit_temperature,
    mean_nll,
    read_calibration,
    smoothed_nll,
    tempered,
)
from e2llm_core.model.model_io import model_digest
from e2llm_core.tasks.question import Question
from storage.errors import InputError

OPTIONS = ("happy", "sad", "rather neutral")


def of_task(temperature: float, task: str = "any", options: tuple[str, ...] = OPTIONS) -> TaskTemperature:
    return TaskTemperature(
        task=task,
        options=options,
        temperature=temperature,
        n=10,
        nll_before=1.2,
        nll_after=1.1,
        split_digest="s",
        windows_digest="w",
    )


likelihoods = arrays(
    np.float64,
    st.tuples(st.integers(1, 6), st.integers(2, 7)),
    elements=st.floats(0, 200).map(lambda one: round(one, 4)),
)


@given(likelihoods, st.floats(*RANGE))
def test_a_temperature_changes_no_answer(nll, temperature):
    found = tempered(nll, temperature)
    np.testing.assert_array_equal(found.argmax(axis=1), (-nll).argmax(axis=1))
    np.testing.assert_allclose(found.sum(axis=1), 1.0)


@given(likelihoods, st.integers(0, 1000))
def test_what_is_fitted_is_no_worse_than_one_and_than_its_neighbours_by_smoothed_likelihood(nll, seed):
    truth = np.random.default_rng(seed).integers(nll.shape[1], size=len(nll))
    temperature, before, after = fit_temperature(nll, truth)
    assert RANGE[0] <= temperature <= RANGE[1]
    assert (before, after) == (mean_nll(nll, truth, 1.0), mean_nll(nll, truth, temperature))
    for other in (1.0, *np.geomspace(*RANGE, 9)):
        assert smoothed_nll(nll, truth, temperature) <= smoothed_nll(nll, truth, other) + 1e-6


@given(likelihoods, st.integers(0, 1000))
def test_smoothed_likelihood_is_the_cross_entropy_with_its_shares(nll, seed):
    items, options = nll.shape
    truth = np.random.default_rng(seed).integers(options, size=items)
    shares = (np.eye(options)[truth] * items + 1) / (items + options)
    logs = np.stack([[mean_nll(nll[[row]], np.array([k]), 2.0) for k in range(options)] for row in range(items)])
    assert smoothed_nll(nll, truth, 2.0) == pytest.approx((shares * logs).sum(axis=1).mean())


def test_items_that_are_all_right_make_no_model_certain():
    """Eight of two options at odds of e : 1: the share of the true one is 9 in 10, so that T is 1 / ln 9."""
    nll = np.tile([0.0, 1.0], (8, 1))
    temperature, before, after = fit_temperature(nll, np.zeros(8, dtype=int))
    assert temperature == pytest.approx(1 / np.log(9), rel=1e-4)
    assert after == pytest.approx(-np.log(0.9), rel=1e-4)
    assert after < before


@pytest.mark.parametrize("true", [0.5, 1.0, 3.0])
def test_the_temperature_that_made_the_labels_is_found(true):
    rng = np.random.default_rng(0)
    nll = 4 * rng.random((20_000, 5))
    cumulated = tempered(nll, true).cumsum(axis=1)
    truth = (rng.random((len(nll), 1)) > cumulated).sum(axis=1).clip(max=4)
    assert fit_temperature(nll, truth)[0] == pytest.approx(true, rel=0.06)


def test_two_options_by_hand():
    """Three of four are right where the odds are 3 : 1; smoothed, (3 * 5/6 + 1/6) / 4 = 2/3. Reversed, no T will do."""
    nll = np.tile([0.0, np.log(3)], (4, 1))
    temperature, before, after = fit_temperature(nll, np.array([0, 0, 0, 1]))
    assert temperature == pytest.approx(np.log(3) / np.log(2), rel=1e-4)
    assert before == pytest.approx(-(3 * np.log(0.75) + np.log(0.25)) / 4)
    assert after == pytest.approx(-(3 * np.log(2 / 3) + np.log(1 / 3)) / 4)
    assert fit_temperature(nll, np.array([1, 1, 1, 0]))[0] == pytest.approx(RANGE[1], rel=1e-3)


@pytest.mark.parametrize("nll", [np.zeros((0, 2)), np.array([[0.0, np.inf]])])
def test_what_cannot_be_fitted_is_refused(nll):
    with pytest.raises(ValueError, match="finite likelihoods of at least one item"):
        fit_temperature(nll, np.zeros(len(nll), dtype=int))


def test_a_folder_keeps_temperatures_by_task_and_options(tmp_path):
    assert read_calibration(tmp_path) == Calibration()
    kept = Calibration(temperatures=(of_task(2.5), of_task(0.7, "other")))
    kept.write(tmp_path)
    assert read_calibration(tmp_path) == kept
    assert kept.temperature("any", OPTIONS) == 2.5
    assert kept.temperature("other", list(OPTIONS)) == 0.7
    assert kept.temperature("any", OPTIONS[:2]) is None
    assert kept.temperature(None, OPTIONS) is None


@pytest.mark.parametrize("content", ["{}]", '{"temperatures": [{"task": "any"}]}', '{"temperature": 2}'])
def test_a_file_that_cannot_be_read_is_refused_by_name(tmp_path, content):
    (tmp_path / CALIBRATION).write_text(content)
    with pytest.raises(InputError, match=r"calibration\.json.*not calibrated"):
        read_calibration(tmp_path)


def test_the_predictor_divides_by_the_temperature_of_the_task(make_model, processor, tmp_path):
    make_model().save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    question = Question("Which? <eeg>", OPTIONS, task="any")
    plain, digest = Predictor(tmp_path), model_digest(tmp_path)
    eeg = plain.processor.eeg
    segments = np.random.default_rng(0).normal(size=(3, 1, len(eeg.channels), eeg.n_times)).astype(np.float32)
    nll = plain.option_nll(question, segments)
    np.testing.assert_allclose(plain.likelihood(question, segments), tempered(nll, 1.0))
    Calibration(temperatures=(of_task(2.5),)).write(tmp_path)
    calibrated = Predictor(tmp_path)
    np.testing.assert_allclose(calibrated.likelihood(question, segments), tempered(nll, 2.5), rtol=1e-5)
    other = Question(question.user, OPTIONS, task="another")
    np.testing.assert_allclose(calibrated.likelihood(other, segments), tempered(nll, 1.0), rtol=1e-5)
    assert model_digest(tmp_path) != digest, "probabilities are part of what a digest stands for"
