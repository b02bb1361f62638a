"""The oracle knows every variant of the twin: subjects of another seed, permuted signatures, no emotions."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from e2llm_core.evaluation.references.oracle import oracle_probabilities
from e2llm_core.evaluation.scores import balanced_accuracy
from storage.datasets.seed_vii import CLIP_LABELS, session_of
from storage.labels import SEED_VII
from storage.splits import Side
from storage.twin import FreshSubjects, TwinConfig

TRAIN, FRESH = (tuple(f"{number:02d}" for number in numbers) for numbers in (range(1, 13), range(21, 41)))


def trials(subjects: tuple[str, ...]) -> pd.DataFrame:
    rows = [
        {"subject": subject, "session": str(session_of(clip)), "clip": clip, "label": label}
        for subject in subjects
        for clip, label in enumerate(CLIP_LABELS, start=1)
    ]
    return pd.DataFrame(rows)


def score(twin: TwinConfig) -> float:
    """Balanced accuracy on the fresh subjects."""
    split = SimpleNamespace(train=Side(subjects=TRAIN), test=Side(subjects=FRESH))
    shown = trials(FRESH)
    data = SimpleNamespace(
        split=split,
        labels=SEED_VII.names,
        store=SimpleNamespace(trials=trials((*TRAIN, *FRESH))),
        windows=lambda side: SimpleNamespace(table=shown),
    )
    inputs: Any = SimpleNamespace(data=data, twin=twin, seed=0)
    answers = np.array(SEED_VII.names)[oracle_probabilities(inputs).argmax(axis=1)]
    return balanced_accuracy(shown["label"].tolist(), answers.tolist(), SEED_VII.names)


@pytest.mark.parametrize("variant", [{}, {"permutation": 1}])
def test_it_names_emotions_of_fresh_subjects(variant: dict[str, int]) -> None:
    assert score(TwinConfig(fresh=FreshSubjects(seed=19), **variant)) > 0.7


def test_it_knows_nothing_where_there_is_nothing() -> None:
    assert score(TwinConfig(fresh=FreshSubjects(seed=19), effect=0.0)) == pytest.approx(1 / 7, abs=0.03)
