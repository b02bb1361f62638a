from __future__ import annotations

import itertools
import json

import numpy as np
import pandas as pd
import pydantic
import pytest

from e2llm_core.evaluation import predictions as tables
from e2llm_core.evaluation.scores import METRICS, score
from e2llm_core.evaluation.summary import (
    SYNTHETIC_NOTICE,
    Provenance,
    ResultRow,
    Summary,
    rows_for,
    subject_scores_for,
)
from storage.errors import InputError

PROVENANCE = Provenance(split="by subject", split_digest="sha256:0", seed=5, adaptation="none")
WHICH = {"task": "IED", "model": "e2llm", "condition": "eeg"}
DESIGN_COLUMNS = {
    "task",
    "model",
    "condition",
    "metric",
    "value",
    "ci_low",
    "ci_high",
    "chance",
    "n",
    "n_subjects",
    "split",
    "split_digest",
    "fold",
    "disjoint_on",
    "shared",
    "labels_missing_in_train",
    "seed",
    "adaptation",
    "readout",
    "prompt",
    "ci_method",
    "model_digest",
    "primary",
    "n_clips",
    "clip_ci_low",
    "clip_ci_high",
    "temperature",
}


def test_a_probability_that_is_not_finite_is_no_answer(trials, names):
    given = np.full((len(trials), 7), 1 / 7)
    given[3, 2] = np.nan
    with pytest.raises(InputError, match=r"^4b on IED: a probability is not finite\."):
        tables.most_probable(trials, given, task="IED", model="4b", labels=names, seed=0)


def answered(items: pd.DataFrame, names, *, right=0.5, invalid=0.05, seed=0, **keys) -> pd.DataFrame:
    generator = np.random.default_rng(seed)
    draws = generator.random((len(items), 2))
    answers = [
        None if silent < invalid else truth if hit < right else generator.choice(names)
        for truth, (hit, silent) in zip(items["label"], draws, strict=True)
    ]
    return tables.prediction_rows(items, labels=names, answers=answers, **{**WHICH, **keys})


def test_rows_have_exactly_the_columns_of_the_design():
    assert set(ResultRow.model_fields) == DESIGN_COLUMNS


def test_values_are_the_pooled_scores_and_intervals_surround_them(trials, names):
    table = answered(trials, names)
    rows = rows_for(table, **WHICH, provenance=PROVENANCE, primary="balanced_accuracy")
    assert [row.metric for row in rows] == list(METRICS)
    for row in rows:
        assert row.value == pytest.approx(score(row.metric, table["truth"], table["answer"], names))
        assert row.ci_low <= row.value <= row.ci_high
        assert (row.n, row.n_subjects, row.ci_method) == (480, 6, "t_subjects")
        assert row.primary == (row.metric == "balanced_accuracy")
        assert row.seed == 5
    assert rows[0].chance == pytest.approx(1 / 7)


def test_ten_subjects_get_a_bootstrap_of_the_pooled_score(trials, names):
    many = pd.concat([trials, trials.assign(subject="x" + trials["subject"], item_id="x" + trials["item_id"])])
    table = answered(many, names)
    rows = rows_for(table, **WHICH, provenance=PROVENANCE, n_resamples=300)
    assert {row.ci_method for row in rows} == {"subject_bootstrap"}
    assert all(row.ci_low < row.value < row.ci_high for row in rows)
    assert rows == rows_for(table, **WHICH, provenance=PROVENANCE, n_resamples=300)


def test_one_subject_has_no_interval(trials, names):
    rows = rows_for(answered(trials[trials["subject"] == "01"], names), **WHICH, provenance=PROVENANCE)
    assert {(row.ci_low, row.ci_high, row.ci_method) for row in rows} == {(None, None, "none")}


def test_rows_do_not_depend_on_the_order_of_predictions(trials, names):
    table = answered(trials, names)
    shuffled = table.sample(frac=1, random_state=1)
    assert rows_for(table, **WHICH, provenance=PROVENANCE) == rows_for(shuffled, **WHICH, provenance=PROVENANCE)


def test_more_invalid_answers_never_raise_accuracy(trials, names):
    values = []
    for invalid in (0.0, 0.1, 0.5, 1.0):
        table = answered(trials, names, invalid=invalid)
        values.append([row.value for row in rows_for(table, **WHICH, provenance=PROVENANCE)])
    for earlier, later in itertools.pairwise(values):
        assert all(b <= a for a, b in zip(earlier, later, strict=True))
    assert values[-1][:2] == [0.0, 0.0]


def test_a_stated_chance_level_is_kept(trials, names):
    rows = rows_for(answered(trials, names), **WHICH, provenance=PROVENANCE, chance={"balanced_accuracy": 0.238})
    assert [row.chance for row in rows] == [0.238, None, None, None]


def test_nothing_to_score_is_refused(trials, names):
    with pytest.raises(ValueError, match="no predictions for"):
        rows_for(answered(trials, names), **{**WHICH, "task": "EPC"}, provenance=PROVENANCE)


def test_mixed_label_sets_are_refused(trials, names):
    one, other = trials[trials["subject"] == "01"], trials[trials["subject"] == "02"]
    table = pd.concat([answered(one, names), answered(other, tuple(reversed(names)))])
    with pytest.raises(ValueError, match="different label sets"):
        rows_for(table, **WHICH, provenance=PROVENANCE)


def test_subject_scores_are_scores_of_each_subject(trials, names):
    table = answered(trials, names)
    found = subject_scores_for(table, **WHICH)
    assert len(found) == 6 * len(METRICS)
    for one in found:
        part = table[table["subject"] == one.subject]
        assert one.value == pytest.approx(score(one.metric, part["truth"], part["answer"], names))
        assert one.n == 80


def test_a_summary_survives_the_disk(tmp_path, trials, names):
    table = answered(trials, names)
    summary = Summary(
        notice=SYNTHETIC_NOTICE,
        results=rows_for(table, **WHICH, provenance=PROVENANCE),
        invalid_rate={"IED": 0.05},
        wall_seconds={"ingest": 1.5},
        environment={"python": "3.11", "packages": {"torch": "2"}},
        per_subject=subject_scores_for(table, **WHICH),
    )
    path = tmp_path / "summary.json"
    summary.write(path)
    assert Summary.read(path) == summary
    assert next(iter(json.loads(path.read_text()))) == "notice"
    assert [file.name for file in tmp_path.iterdir()] == ["summary.json"]


def test_unknown_keys_are_refused(tmp_path):
    path = tmp_path / "summary.json"
    path.write_text('{"notice": "", "results": [], "extra": 1}')
    with pytest.raises(pydantic.ValidationError, match="extra"):
        Summary.read(path)


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "summary.json"
    Summary(notice="old", results=[]).write(path)
    monkeypatch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        Summary(notice="new", results=[]).write(path)
    assert Summary.read(path).notice == "old"


def test_predictions_survive_the_disk_with_their_nulls(tmp_path, trials, pairs, names):
    single = answered(trials, names)
    double = tables.prediction_rows(
        pairs,
        task="EPC",
        model="e2llm",
        condition="eeg",
        readout="generation",
        labels=["same", "different"],
        answers=["maybe"] * len(pairs),
        probabilities=np.full((len(pairs), 2), 0.5),
        texts=["a < b"] * len(pairs),
    )
    path = tmp_path / "predictions.parquet"
    worded = double.assign(prompt="primary")
    tables.write_predictions(pd.concat([single, double, worded], ignore_index=True), path)
    back = tables.read_predictions(path)
    assert tables.keys_of(back)["prompt"] is None
    assert len(tables.matching(back, {"task": "EPC", "prompt": None})) == len(pairs)
    back = back.drop(index=tables.matching(back, {"prompt": "primary"}).index)
    assert tuple(back.columns) == tables.COLUMNS
    for task, items in (("IED", trials), ("EPC", pairs)):
        read = [list(segments) for segments in back.loc[back["task"] == task, "segments"]]
        assert read == items["segments"].tolist()
    epc = back[back["task"] == "EPC"]
    assert epc["answer"].isna().all()
    assert rows_for(back, **WHICH, provenance=PROVENANCE) == rows_for(single, **WHICH, provenance=PROVENANCE)


@pytest.mark.parametrize("lost", ["item_id", "labels", "segments"])
def test_a_table_that_lacks_a_column_is_refused(tmp_path, trials, names, lost):
    with pytest.raises(ValueError, match=lost):
        tables.write_predictions(answered(trials, names).drop(columns=lost), tmp_path / "p.parquet")
    assert not list(tmp_path.iterdir())


def test_predictions_of_an_older_version_are_refused_by_name(tmp_path, trials, names):
    path = tmp_path / "predictions.parquet"
    answered(trials, names).drop(columns="segments").assign(trial_b=0).to_parquet(path)
    with pytest.raises(InputError, match=r"predictions\.parquet: is of another version: it lacks the columns segments"):
        tables.read_predictions(path)


def test_an_item_answered_twice_is_refused(trials, names):
    table = answered(trials, names)
    with pytest.raises(ValueError, match="occur twice"):
        tables.check_predictions(pd.concat([table, table.iloc[:1]]))


@pytest.mark.parametrize("change", [{"answers": ["happy"]}, {"texts": ["x"]}, {"probabilities": np.ones((1, 7))}])
def test_lengths_must_agree(trials, names, change):
    arguments = {"labels": names, "answers": ["happy"] * len(trials), **change}
    with pytest.raises(ValueError, match="480 items but 1"):
        tables.prediction_rows(trials, **WHICH, **arguments)
