"""The twin's difficulty seen by the classical baseline: nothing at effect 0, something at the frozen effect."""

import numpy as np
import pytest

from e2llm_core.evaluation.references.classifiers import fit_linear
from e2llm_core.evaluation.references.differential_entropy import adapt, differential_entropy
from e2llm_core.evaluation.scores import balanced_accuracy
from storage.datasets.seed_vii import CLIP_LABELS, SFREQ_HZ, session_of
from storage.labels import SEED_VII
from storage.twin import SubjectSynthesiser, TwinConfig

SIDES = {"train": range(1, 7), "validation": range(7, 9), "test": range(9, 13)}


def baseline_score(effect: float) -> float:
    """Balanced accuracy over four unseen subjects, one window of 8 s per clip."""
    config = TwinConfig(effect=effect)
    subjects = [subject for side in SIDES.values() for subject in side]
    features, groups = [], []
    for subject in subjects:
        synthesiser = SubjectSynthesiser(config, subject)
        clips = np.stack([synthesiser.clip(clip) for clip in range(1, len(CLIP_LABELS) + 1)])
        features.append(differential_entropy(clips.astype(np.float32), SFREQ_HZ))
        groups += [f"{subject}/{session_of(clip)}" for clip in range(1, len(CLIP_LABELS) + 1)]
    adapted = adapt(np.concatenate(features), np.array(groups), "transductive-unlabelled")
    owner = np.repeat(subjects, len(CLIP_LABELS))
    truth = np.tile(np.array(CLIP_LABELS, dtype=object), len(subjects))
    sides = {name: np.isin(owner, list(members)) for name, members in SIDES.items()}
    classifier = fit_linear(adapted, truth, sides, SEED_VII.names)
    answers = classifier.predict(adapted[sides["test"]])
    return balanced_accuracy(truth[sides["test"]].tolist(), answers.tolist(), SEED_VII.names)


def test_the_null_twin_puts_the_baseline_at_chance():
    assert baseline_score(0.0) == pytest.approx(1 / 7, abs=0.08)


def test_the_frozen_twin_lies_between_chance_and_perfect():
    assert 0.3 < baseline_score(TwinConfig().effect) < 0.7
