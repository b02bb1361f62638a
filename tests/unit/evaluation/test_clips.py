"""Intervals over clips: all items of a clip are drawn together, and pairs with both of their clips."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from e2llm_core.evaluation.clips import ClipClusters, _weights
from e2llm_core.evaluation.intervals import NO_INTERVAL
from e2llm_core.evaluation.metrics import CLOSED_SET
from e2llm_core.evaluation.scores import balanced_accuracy
from e2llm_core.evaluation.summary import Provenance, rows_for
from tests.unit.evaluation.test_summary import WHICH, answered

BALANCED = CLOSED_SET[0]
PROVENANCE = Provenance(split="by-subject", split_digest="sha256:0", seed=3)


def clip_of(rows: pd.DataFrame) -> pd.Series:
    return rows["segments"].map(lambda segments: segments[0]["clip"])


def test_a_clip_drawn_twice_counts_all_its_items_twice(trials, names):
    rows = answered(trials, names)
    clusters = ClipClusters(rows)
    draws = np.random.default_rng(0).multinomial(80, np.full(80, 1 / 80), size=3)
    found = clusters.statistic(BALANCED)(draws)
    for times, value in zip(draws, found, strict=True):
        drawn = dict(zip(clusters.clips, times, strict=True))
        again = rows.loc[rows.index.repeat(clip_of(rows).map(drawn))]
        assert value == pytest.approx(balanced_accuracy(again["truth"], again["answer"], names))


def test_a_pair_is_drawn_as_often_as_both_of_its_clips_say():
    draws = np.array([[2, 3, 0], [1, 1, 1]])
    members = np.array([[0, 1], [1, 2], [1, 3]])  # the last unit shows clip 1 alone
    assert _weights(draws, members).tolist() == [[6, 0, 3], [1, 1, 1]]


def test_every_clip_once_gives_the_pooled_score(trials, pairs, names):
    for items, labels in ((trials, names), (pairs, ("same", "different"))):
        rows = answered(items, labels, task="any")
        clusters = ClipClusters(rows)
        once = np.ones((1, len(clusters.clips)), dtype=np.int64)
        for metric in CLOSED_SET:
            expected = rows_for(rows, **{**WHICH, "task": "any"}, provenance=PROVENANCE, metrics=(metric,))[0].value
            assert clusters.statistic(metric)(once)[0] == pytest.approx(expected)


def test_rows_have_an_interval_over_clips_beside_that_over_subjects(trials, names):
    row = rows_for(answered(trials, names), **WHICH, provenance=PROVENANCE)[0]
    assert row.n_clips == 80
    assert row.clip_ci_low < row.value < row.clip_ci_high
    assert row.ci_method == "t_subjects"


@pytest.mark.parametrize(("clips", "there"), [(9, False), (10, True)])
def test_nine_clips_have_no_interval(trials, names, clips, there):
    few = answered(trials, names)
    few = few[clip_of(few) <= clips]
    row = rows_for(few, **WHICH, provenance=PROVENANCE)[0]
    assert row.n_clips == clips
    assert (row.clip_ci_low is not None) == there


def test_items_without_a_clip_have_no_interval(trials, names):
    rows = answered(trials, names)
    rows["segments"] = [[]] * len(rows)
    row = rows_for(rows, **WHICH, provenance=PROVENANCE)[0]
    assert (row.n_clips, row.clip_ci_low, row.clip_ci_high) == (None, None, None)


def test_a_resample_without_any_item_leaves_no_interval(pairs):
    """Six pairs of twelve clips, all right: about one resample in 25 has no pair of which both clips were drawn."""
    shows = pairs["segments"].map(lambda segments: {one["clip"] for one in segments})
    chosen, seen = [], set()
    for row, clips in shows.items():
        if len(chosen) < 6 and not clips & seen:
            chosen.append(row)
            seen |= clips
    rows = answered(pairs.loc[chosen], ("same", "different"), right=1.0, invalid=0.0, task="any")
    clusters = ClipClusters(rows)
    assert len(clusters.clips) == 12
    only_firsts = np.array([[2, 0] * 6, [1, 1] * 6])
    order = np.argsort([clusters.clips.index(clip) for one in clusters._units for clip in one])
    assert clusters.statistic(BALANCED)(only_firsts[:, order]).tolist() == [pytest.approx(np.nan, nan_ok=True), 1.0]
    assert clusters.interval(BALANCED) == NO_INTERVAL


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 1000))
def test_an_interval_over_clips_is_seeded_and_within_the_bounds(trials, names, seed):
    clusters = ClipClusters(answered(trials, names, seed=seed))
    first = clusters.interval(BALANCED, n_resamples=100, seed=seed)
    assert first == clusters.interval(BALANCED, n_resamples=100, seed=seed)
    assert 0 <= first.low <= first.high <= 1
    assert first.method == "clip_bootstrap"
