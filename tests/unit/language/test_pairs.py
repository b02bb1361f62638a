"""Pairs for comparison: within one session, balanced, and with no clue in their distance."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from e2llm_core.tasks.pairs import PairSampler
from e2llm_core.tasks.trials import TrialWindows
from storage.datasets.seed_vii import CLIP_LABELS, TRIALS_PER_SESSION
from storage.errors import InputError
from storage.labels import SEED_VII


def table(subjects: int = 2, windows: int = 2) -> pd.DataFrame:
    rows = [
        {
            "subject": f"{subject:02d}",
            "session": str(clip // TRIALS_PER_SESSION + 1),
            "trial": clip % TRIALS_PER_SESSION + 1,
            "position": clip % TRIALS_PER_SESSION + 1,
            "label_id": SEED_VII.id_of(label),
        }
        for subject in range(subjects)
        for clip, label in enumerate(CLIP_LABELS)
        for _ in range(windows)
    ]
    return pd.DataFrame(rows)


def sampler_of(windows: pd.DataFrame) -> PairSampler:
    """As `pairs_of`: one row per trial and the windows of each."""
    counts = windows.groupby(["subject", "session", "trial"], sort=False).size().to_numpy()
    trials = windows.drop_duplicates(["subject", "session", "trial"]).reset_index(drop=True)
    return PairSampler(TrialWindows(trials, counts), "EPC")


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31), st.integers(2, 60))
def test_pairs_are_of_one_session_two_trials_and_told_truly(seed, number):
    windows = table()
    pairs = sampler_of(windows).balanced(number, seed)
    first, second = windows.iloc[pairs["first"]], windows.iloc[pairs["second"]]
    for column in ("subject", "session"):
        assert (first[column].to_numpy() == second[column].to_numpy()).all()
    assert (first["trial"].to_numpy() != second["trial"].to_numpy()).all()
    same = first["label_id"].to_numpy() == second["label_id"].to_numpy()
    assert (same == pairs["same"].to_numpy()).all()
    assert pairs["same"].sum() == number // 2


def test_equal_seeds_give_equal_pairs():
    sampler = sampler_of(table())
    pd.testing.assert_frame_equal(sampler.balanced(40, 3), sampler.balanced(40, 3))
    assert not sampler.balanced(40, 3).equals(sampler.balanced(40, 4))


def test_distance_between_trials_does_not_tell_the_answer():
    windows = table(subjects=3)
    pairs = sampler_of(windows).balanced(6000, 0)
    positions = [windows["position"].to_numpy()[pairs[side]] for side in ("first", "second")]
    distance = pd.Series(np.abs(positions[0] - positions[1]))
    shares = pd.crosstab(distance, pairs["same"], normalize="columns")
    assert (shares[True] - shares[False]).abs().max() < 0.03


def test_either_segment_comes_first_equally_often():
    windows = table()
    pairs = sampler_of(windows).balanced(2000, 0)
    earlier = windows["trial"].to_numpy()[pairs["first"]] < windows["trial"].to_numpy()[pairs["second"]]
    assert 0.46 < earlier.mean() < 0.54


def test_sessions_with_one_trial_per_label_are_refused():
    windows = pd.DataFrame(
        {"subject": ["1"] * 2, "session": ["1"] * 2, "trial": [1, 2], "position": [1, 2], "label_id": [0, 1]}
    )
    with pytest.raises(InputError, match="Leave EPC out of `tasks`"):
        sampler_of(windows)


def test_a_trial_may_come_in_parts_and_a_part_may_hold_no_window():
    trials = table(subjects=1, windows=1)
    parts = trials.loc[np.repeat(trials.index, 3)].reset_index(drop=True)
    counts = np.tile([2, 0, 3], len(trials))
    pairs = PairSampler(TrialWindows(parts, counts), "EPC").balanced(4000, 0)
    owner = np.repeat(parts["trial"].to_numpy() + 100 * parts["session"].astype(int).to_numpy(), counts)
    first, second = owner[pairs["first"]], owner[pairs["second"]]
    assert (first // 100 == second // 100).all()
    assert (first != second).all()
    assert set(pairs["first"]) == set(range(counts.sum())), "some window is never drawn"
