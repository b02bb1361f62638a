from __future__ import annotations

import numpy as np
import pytest

from e2llm_core.evaluation.predictions import COLUMNS, check_predictions, most_probable
from e2llm_core.evaluation.references import classifiers
from e2llm_core.evaluation.references import differential_entropy as entropies
from e2llm_core.evaluation.references.comparisons import ShownPairs, compared_pairs
from e2llm_core.evaluation.references.features.spectral import RelativePower
from e2llm_core.evaluation.scores import balanced_accuracy

SFREQ_HZ = 200.0
SPLIT = {"train": ["01", "02", "03"], "validation": ["04"], "test": ["05", "06"]}


def sides_of(table, split=SPLIT):
    return {name: table["subject"].isin(subjects).to_numpy() for name, subjects in split.items()}


def sine(frequency_hz: float, amplitude_uv: float, n_times: int = 1600) -> np.ndarray:
    return amplitude_uv * np.sin(2 * np.pi * frequency_hz * np.arange(n_times) / SFREQ_HZ)


@pytest.mark.parametrize(("frequency_hz", "band"), [(2.5, 0), (6, 1), (11, 2), (22, 3), (40, 4)])
def test_the_variance_of_a_sine_is_found_in_its_band(frequency_hz, band):
    power = entropies.band_power(sine(frequency_hz, 10.0)[None, None].astype(np.float32), SFREQ_HZ)[0, 0]
    assert power[band] == pytest.approx(50.0, rel=0.02)
    assert np.delete(power, band).max() < 0.5


def test_white_noise_spreads_its_variance_by_band_width():
    noise = np.random.default_rng(0).normal(0, 3, (20, 4, 1600)).astype(np.float32)
    power = entropies.band_power(noise, SFREQ_HZ).mean(axis=(0, 1))
    widths = np.array([high - low for low, high in entropies.BANDS.values()])
    assert power == pytest.approx(9.0 * widths / (SFREQ_HZ / 2), rel=0.05)


def test_differential_entropy_has_its_closed_form_layout_and_shift():
    noise = np.random.default_rng(1).normal(0, 5, (3, 2, 800)).astype(np.float32)
    entropy = entropies.differential_entropy(noise, SFREQ_HZ)
    assert entropy.shape == (3, 10)
    assert entropy.dtype == np.float32
    expected = 0.5 * np.log(2 * np.pi * np.e * entropies.band_power(noise, SFREQ_HZ))
    assert entropy.reshape(3, 2, 5) == pytest.approx(expected, rel=1e-5)
    assert entropies.differential_entropy(2 * noise, SFREQ_HZ) - entropy == pytest.approx(np.log(2), abs=1e-4)
    assert entropies.differential_entropy(noise + 1000, SFREQ_HZ) == pytest.approx(entropy, abs=0.02)


def test_a_flat_channel_stays_finite():
    assert np.isfinite(entropies.differential_entropy(np.zeros((1, 2, 800), np.float32), SFREQ_HZ)).all()


def test_windows_are_independent_of_their_batch(monkeypatch):
    noise = np.random.default_rng(2).normal(size=(5, 3, 800)).astype(np.float32)
    whole = entropies.band_power(noise, SFREQ_HZ)
    monkeypatch.setattr("e2llm_core.evaluation.references.differential_entropy._MAX_VALUES_PER_BLOCK", 3 * 800 * 2)
    assert entropies.band_power(noise, SFREQ_HZ) == pytest.approx(whole)


@pytest.mark.parametrize(
    ("shape", "sfreq_hz", "words"),
    [
        ((3, 800), 200.0, "expected"),
        ((1, 3, 800), 90.0, "sampling rate of 100"),
        ((1, 3, 40), 200.0, "too short"),
    ],
)
def test_unusable_signals_are_refused(shape, sfreq_hz, words):
    with pytest.raises(ValueError, match=words):
        entropies.band_power(np.zeros(shape, np.float32), sfreq_hz)


def test_adaptation_removes_offset_and_scale_of_each_group_and_no_more():
    generator = np.random.default_rng(3)
    features = generator.normal(size=(40, 6))
    groups = np.repeat(["a", "b"], 20)
    moved = features.copy()
    moved[groups == "b"] = moved[groups == "b"] * 7 + 100
    adapted = entropies.adapt(features, groups, "transductive-unlabelled")
    assert entropies.adapt(moved, groups, "transductive-unlabelled") == pytest.approx(adapted, abs=1e-4)
    assert adapted[:20].mean(axis=0) == pytest.approx(0, abs=1e-6)
    assert adapted[20:].std(axis=0) == pytest.approx(1, abs=1e-5)
    assert entropies.adapt(moved, groups, "none") == pytest.approx(moved, rel=1e-6)
    assert np.isfinite(entropies.adapt(np.ones((4, 2)), [1, 1, 2, 2], "transductive-unlabelled")).all()


def test_adaptation_refuses_unknown_rules_and_lengths():
    with pytest.raises(ValueError, match="not one of"):
        entropies.adapt(np.zeros((2, 2)), [1, 1], "causal-ish")
    with pytest.raises(ValueError, match="2 rows"):
        entropies.adapt(np.zeros((2, 2)), [1], "none")


def test_causal_adaptation_knows_what_came_before_and_nothing_else():
    generator = np.random.default_rng(4)
    features, groups = generator.normal(3, 2, size=(30, 5)), np.repeat(["a", "b"], 15)
    order = np.stack([np.tile(generator.permutation(15), 2) // 4, np.tile(np.arange(15), 2)], axis=1)
    adapted = entropies.adapt(features, groups, "causal", order)
    for row in range(30):
        own = [r for r in range(30) if groups[r] == groups[row] and tuple(order[r]) <= tuple(order[row])]
        known = features[own]
        spread = np.where(known.std(axis=0) > 1e-6, known.std(axis=0), 1.0)
        assert adapted[row] == pytest.approx((features[row] - known.mean(axis=0)) / spread, abs=1e-4)
        changed = features.copy()
        changed[[r for r in range(30) if r not in own]] += 9
        assert entropies.adapt(changed, groups, "causal", order)[row] == pytest.approx(adapted[row], abs=1e-6)
    with pytest.raises(ValueError, match="order of the rows"):
        entropies.adapt(features, groups, "causal")


def features_of(table, names, strength, column="label", seed=0):
    generator = np.random.default_rng(seed)
    directions = np.random.default_rng(99).normal(size=(len(names), 12))
    codes = [names.index(name) for name in table[column]]
    return (strength * directions[codes] + generator.normal(size=(len(table), 12))).astype(np.float32)


def baseline_windows(trials, features, sides, names, seed=0, make=classifiers.linear_svm):
    """Fitted to the single windows of two sides, and its answers on the third."""
    truth = trials["label"].to_numpy(dtype=object)
    classifier = classifiers.fit_linear(features, truth, sides, names, make=make, seed=seed)
    scores, items = classifier.scores(features[sides["test"]]), trials[sides["test"]]
    return most_probable(items, scores, task="IED", model="any", labels=names, seed=seed), classifier


@pytest.mark.parametrize("make", [classifiers.linear_svm, classifiers.logistic_regression])
def test_the_baseline_finds_a_signal_and_stays_at_chance_without_one(trials, names, make):
    rows, _ = baseline_windows(trials, features_of(trials, names, 1.5), sides_of(trials), names, make=make)
    assert balanced_accuracy(rows["truth"], rows["answer"], names) > 0.7
    values = []
    for seed in range(5):
        features = features_of(trials, names, 0.0, seed=seed)
        noise, _ = baseline_windows(trials, features, sides_of(trials), names, make=make)
        values.append(balanced_accuracy(noise["truth"], noise["answer"], names))
    assert np.mean(values) == pytest.approx(1 / 7, abs=0.04)


def test_baseline_rows_follow_the_table_of_predictions(trials, names):
    rows, classifier = baseline_windows(trials, features_of(trials, names, 1.0), sides_of(trials), names)
    check_predictions(rows)
    assert tuple(rows.columns) == COLUMNS
    assert set(rows["subject"]) == {"05", "06"}
    assert set(rows["segments"].map(len)) == {1}
    probabilities = np.stack(rows["probabilities"].to_list())
    assert probabilities.sum(axis=1) == pytest.approx(1.0)
    assert [names[index] for index in probabilities.argmax(axis=1)] == rows["answer"].to_list()
    assert classifier.cost in classifiers.COST_GRID


def test_the_same_input_gives_the_same_answers(trials, names):
    features = features_of(trials, names, 0.7)
    first, _ = baseline_windows(trials, features, sides_of(trials), names, seed=3)
    again, _ = baseline_windows(trials, features, sides_of(trials), names, seed=3)
    assert first["answer"].tolist() == again["answer"].tolist()


def test_test_rows_do_not_reach_the_fit(trials, names):
    features = features_of(trials, names, 0.7)
    changed = features.copy()
    changed[trials["subject"].isin(SPLIT["test"])] += 50
    fits = [baseline_windows(trials, data, sides_of(trials), names)[1] for data in (features, changed)]
    assert fits[0].pipeline[-1].coef_ == pytest.approx(fits[1].pipeline[-1].coef_)


@pytest.mark.parametrize("make", [classifiers.linear_svm, classifiers.logistic_regression])
def test_a_label_without_training_rows_is_never_probable(trials, names, make):
    few = trials[trials["label"] != "anger"].reset_index(drop=True)
    features = features_of(few, names, 1.0)
    _, classifier = baseline_windows(few, features, sides_of(few), names, make=make)
    scores = classifier.scores(features)
    assert scores.shape == (len(few), 7)
    assert scores[:, names.index("anger")].max() == 0
    assert scores.sum(axis=1) == pytest.approx(1.0)


def test_shares_of_power_know_nothing_of_the_amplitude():
    noise = np.random.default_rng(5).normal(0, 5, (3, 2, 800)).astype(np.float32)
    shares = RelativePower().measure(noise, SFREQ_HZ)
    assert np.exp(shares).reshape(3, 2, 5).sum(axis=-1) == pytest.approx(1.0, abs=1e-5)
    assert RelativePower().measure(3 * noise, SFREQ_HZ) == pytest.approx(shares, abs=1e-4)


@pytest.mark.parametrize("with_features", [True, False])
@pytest.mark.parametrize("strength", [0.0, 2.0])
def test_pairs_are_compared(trials, pairs, names, strength, with_features):
    by_trial = dict(zip(zip(trials["subject"], trials["trial"], strict=True), range(len(trials)), strict=True))
    features = features_of(trials, names, strength)
    _, classifier = baseline_windows(trials, features, sides_of(trials), names)
    places = [[by_trial[one["subject"], one["trial"]] for one in segments] for segments in pairs["segments"]]
    shown = ShownPairs(classifier.scores(features)[places], features[places] if with_features else None)
    settings = {"task": "EPC", "model": "any", "make": classifiers.linear_svm}
    rows, rule = compared_pairs(pairs, shown, sides_of(pairs), **settings)
    check_predictions(rows)
    assert rule in (("difference", "predicted-class") if with_features else ("predicted-class",))
    assert set(rows["segments"].map(len)) == {2}
    value = balanced_accuracy(rows["truth"], rows["answer"], ("same", "different"))
    if strength:
        assert value > 0.75
    else:
        assert value == pytest.approx(0.5, abs=0.12)
    probabilities = np.stack(rows["probabilities"].to_list())
    answers = np.array(["same", "different"])[probabilities.argmax(axis=1)]
    assert answers.tolist() == rows["answer"].to_list()


@pytest.mark.parametrize(
    ("split", "words"),
    [
        ({"train": ["01"], "test": ["05"]}, "lacks the sides"),
        ({"train": ["01"], "validation": ["01"], "test": ["05"]}, "two sides"),
        ({"train": ["01"], "validation": ["99"], "test": ["05"]}, "no rows"),
    ],
)
def test_bad_splits_are_refused(trials, split, words):
    with pytest.raises(ValueError, match=words):
        classifiers.checked_sides(sides_of(trials, split))
