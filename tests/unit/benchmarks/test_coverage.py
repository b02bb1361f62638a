"""The simulation of coverage: what should be covered is what it says, and the page shows what was measured."""

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.coverage import FEW_CLIPS as FEW
from benchmarks.coverage import Population, draw, expected, intervals, scored
from benchmarks.coverage import measured as simulated

ROOT = Path(__file__).resolve().parents[3]


def test_quadrature_is_the_mean_over_the_normal_part():
    drawn = np.random.default_rng(0).normal(0.3, 0.7, 200_000)
    assert float(expected(np.array(0.3), 0.7)) == pytest.approx(float((1 / (1 + np.exp(-drawn))).mean()), abs=2e-3)


def test_balanced_accuracy_of_many_people_is_what_an_interval_over_people_should_cover():
    a, b = draw(np.random.default_rng(0), Population(), 3000)
    for one in (a, b):
        assert scored(one.counts.sum(axis=(0, 1))) == pytest.approx(one.truth["subjects"], abs=0.01)
    assert a.truth["subjects"] > b.truth["subjects"]
    assert a.counts.sum() == 3000 * 80 * 30


def test_every_interval_is_made_of_both_kinds():
    made = list(intervals(*draw(np.random.default_rng(1), Population(), 5), 0))
    assert len({(name, method) for name, method, _, _ in made}) == len(made) == 8
    assert all(interval.low < interval.high for _, _, interval, _ in made)


def test_plain_percentiles_are_narrower_than_those_that_are_used():
    made = {
        (name, method): interval for name, method, interval, _ in intervals(*draw(np.random.default_rng(1), FEW, 10), 0)
    }
    for name in ("one model", "paired difference"):
        used, plain = made[name, "subject_bootstrap"], made[name, "percentile"]
        assert used.low < plain.low < plain.high < used.high


def test_t_covers_at_five_subjects():
    rows = {(row["of"], row["method"]): row for row in simulated(Population(), 5, 60)}
    assert float(str(rows["one model", "t_subjects"]["covers_subjects"])) >= 0.85


def test_the_page_shows_what_was_measured():
    stored = json.loads((ROOT / "benchmarks/results/coverage.json").read_text())
    page = (ROOT / "docs/evaluation.md").read_text()
    assert {(row["subjects"], row["clips"]) for row in stored["rows"]} == {
        (5, 80),
        (9, 80),
        (10, 80),
        (20, 80),
        (20, 20),
    }
    for row in stored["rows"]:
        values = " | ".join(f"{row[key]:.3f}" for key in ("width", "covers_subjects", "covers_clips", "covers_both"))
        assert f"| {row['subjects']} | {row['clips']} | {row['of']} | `{row['method']}` | {values} |" in page
    assert f"{stored['repeats']:,} evaluations of each size" in page
