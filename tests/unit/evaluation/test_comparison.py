"""Two models on the same items: what is compared, and what is refused."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from e2llm_core.evaluation.comparison import ITSELF, Answerer, EvaluatedRun, compare
from e2llm_core.evaluation.equivalence import Equivalent, equivalence
from e2llm_core.evaluation.intervals import t_interval
from e2llm_core.evaluation.metrics import CLOSED_SET
from e2llm_core.evaluation.predictions import write_predictions
from e2llm_core.evaluation.scores import balanced_accuracy
from e2llm_core.evaluation.summary import Provenance, Summary, rows_for, subject_scores_for
from e2llm_core.tasks.ied import BasicEmotion
from storage.errors import InputError
from tests.unit.evaluation.test_summary import answered

OURS = Answerer(model="e2llm", condition="eeg", readout="likelihood", prompt="seen")
HELD_OUT = OURS.model_copy(update={"prompt": "primary"})
BASELINE = OURS.model_copy(update={"model": "de_svm", "prompt": None})
BALANCED = CLOSED_SET[0]


def evaluated(
    items, labels, *, right=(0.6, 0.5), seed=0, task="IED", place="run", store="7", held_out=None, **changes
) -> EvaluatedRun:
    """A run with our model and the baseline; with `held_out`, our model is asked in the primary wording, too."""
    provenance = Provenance(
        **{"split": "by-subject", "split_digest": "0", "seed": seed, "model_digest": place} | changes
    )
    parts, results, subjects = [], [], []
    asked = [(OURS, right[0]), (BASELINE, right[1]), *([] if held_out is None else [(HELD_OUT, held_out)])]
    for number, (who, share) in enumerate(asked):
        keys = {"task": task, **who.model_dump()}
        rows = answered(items, labels, right=share, seed=100 * seed + number, **keys)
        parts.append(rows)
        results += rows_for(rows, **keys, provenance=provenance, n_resamples=50)
        subjects += subject_scores_for(rows, **keys)
    environment = {"digests": {"inputs": {"data.store": store}}}
    summary = Summary(notice="", results=results, per_subject=subjects, environment=environment)
    return EvaluatedRun(place, summary, pd.concat(parts, ignore_index=True))


def paired(runs_a, runs_b, a=OURS, b=BASELINE, task="IED", **options):
    return compare(runs_a, runs_b, task=task, metric=BALANCED, a=a, b=b, **{"n_resamples": 200} | options)


def test_differences_are_those_of_each_subject(trials, names):
    run = evaluated(trials, names)
    row = paired([run], [run])
    by_hand = {}
    for subject, part in run.predictions.groupby("subject"):
        values = [
            balanced_accuracy(rows["truth"], rows["answer"], names)
            for rows in (part[part["model"] == who.model] for who in (OURS, BASELINE))
        ]
        by_hand[subject] = values[0] - values[1]
    assert {one.subject: one.difference for one in row.per_subject} == pytest.approx(by_hand)
    assert row.difference == pytest.approx(np.mean(list(by_hand.values())))
    assert row.difference == pytest.approx(row.value_a - row.value_b)
    expected = t_interval(list(by_hand.values()))
    assert (row.ci_low, row.ci_high, row.ci_method) == (
        pytest.approx(expected.low),
        pytest.approx(expected.high),
        "t_subjects",
    )
    assert row.clip_ci_low < row.clip_ci_high
    assert (row.n_subjects, row.n_items, row.n_clips, row.n_runs) == (6, 480, 80, 1)
    assert row.verdict.startswith("equivalent within 0.05: ")


def test_the_two_wordings_are_two_answerers_and_the_primary_one_is_compared(trials, names, tmp_path, held_out):
    run = evaluated(trials, names, held_out=0.3)
    run.summary.write(tmp_path / "summary.json")
    write_predictions(run.predictions, tmp_path / "predictions.parquet")
    back = EvaluatedRun.read(tmp_path)
    assert back.answerer("IED", "e2llm") == HELD_OUT
    assert back.answerer("IED", "de_svm") == BASELINE
    for who in (OURS, HELD_OUT, BASELINE):
        rows = back.answers("IED", who).rows
        assert len(rows) == len(trials)
        assert rows["answer"].fillna("").tolist() == run.answers("IED", who).rows["answer"].fillna("").tolist()
    gain = paired([back], [back], OURS, HELD_OUT)
    assert gain.difference > 0.15
    assert not gain.is_itself


def test_without_a_primary_wording_the_trained_one_is_compared(trials, names, none_held_out, monkeypatch):
    run = evaluated(trials, names)
    assert run.answerer("IED", "e2llm") == OURS
    monkeypatch.setattr(BasicEmotion, "primary_wording", "Which of {options} does {0} show?")
    wanted = run.answerer("IED", "e2llm")
    with pytest.raises(InputError, match=r"has no answers of e2llm eeg likelihood primary to IED.*likelihood seen"):
        run.answers("IED", wanted)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 500), st.booleans())
def test_a_model_differs_from_itself_by_exactly_nothing(trials, pairs, names, seed, of_pairs):
    items, labels = (pairs, ("same", "different")) if of_pairs else (trials, names)
    run = evaluated(items, labels, seed=seed, task="any")
    row = paired([run], [run], b=OURS, task="any")
    assert (row.difference, row.ci_low, row.ci_high) == (0.0, 0.0, 0.0)
    assert (row.clip_ci_low, row.clip_ci_high) == (0.0, 0.0)
    assert row.is_itself
    assert row.verdict == ITSELF


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 500))
def test_swapping_the_models_turns_the_sign(trials, names, seed):
    run = evaluated(trials, names, seed=seed)
    one, other = paired([run], [run]), paired([run], [run], a=BASELINE, b=OURS)
    assert one.difference == pytest.approx(-other.difference)
    assert (one.ci_low, one.ci_high) == pytest.approx((-other.ci_high, -other.ci_low))


def test_another_model_that_gives_the_same_answers_is_not_itself(trials, names):
    one, other = evaluated(trials, names, place="one"), evaluated(trials, names, place="other")
    row = paired([one], [other], b=OURS)
    assert row.difference == 0.0
    assert not row.is_itself
    assert row.equivalent is Equivalent.YES
    assert row.verdict == "equivalent within 0.05: yes ([0.000, 0.000])"


def test_seeds_are_averaged_before_the_interval(trials, names):
    runs = [evaluated(trials, names, seed=seed, place=f"run-{seed}") for seed in (0, 1, 2)]
    row = paired(runs, runs)
    single = [paired([run], [run]) for run in runs]
    for place, one in enumerate(row.per_subject):
        assert one.difference == pytest.approx(np.mean([each.per_subject[place].difference for each in single]))
    assert (row.n_runs, row.n_subjects, row.n_items) == (3, 6, 480)
    widths = [each.ci_high - each.ci_low for each in single]
    assert row.ci_high - row.ci_low < max(widths)


def test_one_run_may_be_held_against_several_seeds_of_the_same_items(trials, names):
    runs = [evaluated(trials, names, seed=seed, place=f"run-{seed}") for seed in (0, 1)]
    assert paired(runs, runs[:1]).n_runs == 2


def test_folds_are_put_together(trials, names):
    folds = [
        evaluated(trials[trials["subject"] == subject], names, fold=n, split_digest=f"{n}", place=subject)
        for n, subject in enumerate(("01", "02", "03"))
    ]
    row = paired(folds, folds)
    assert [one.subject for one in row.per_subject] == ["01", "02", "03"]
    assert row.n_items == 240


def test_ten_subjects_are_bootstrapped(trials, names):
    more = pd.concat([trials, trials.assign(subject="x" + trials["subject"], item_id="x" + trials["item_id"])])
    row = paired([run := evaluated(more, names)], [run])
    assert row.ci_method == "subject_bootstrap"
    assert row.ci_low < row.difference < row.ci_high


def moved(items: pd.DataFrame) -> pd.DataFrame:
    """The same with one item a sample later."""
    shown = [[{**one, "start": one["start"] + (row == 1)} for one in of] for row, of in enumerate(items["segments"])]
    return items.assign(segments=shown)


def test_damaged_windows_that_are_left_out_make_no_other_store(trials, names):
    one, other = evaluated(trials, names, store="7"), evaluated(trials, names, place="b", store="7 without 1")
    assert paired([one], [other]).n_items == 480


def test_folds_weigh_the_same_however_many_seeds_they_have(trials, names):
    """One model, right in 0.8 and 0.4 of two folds: more seeds in one of them are no difference."""
    parts = [trials[trials["clip"] % 2 == odd] for odd in (0, 1)]

    def run(seed: int, fold: int, side: str) -> EvaluatedRun:
        made = evaluated(parts[fold], names, fold=fold, split_digest=str(fold), place=f"{side}-{seed}-{fold}")
        rows = made.predictions
        wrong = np.arange(len(rows)) % 5 >= (4, 2)[fold]
        rows["answer"] = rows["truth"].where(~wrong, None)
        results = [row.model_copy(update={"seed": seed}) for row in made.summary.results]
        return EvaluatedRun(made.place, made.summary.model_copy(update={"results": results}), rows)

    a = [run(*cell, "a") for cell in ((0, 0), (1, 0), (0, 1))]
    b = [run(*cell, "b") for cell in ((0, 0), (0, 1), (1, 1))]
    row = paired(a, b, b=OURS)
    assert row.difference == pytest.approx(0, abs=1e-12)
    assert (row.clip_ci_low, row.clip_ci_high) == pytest.approx((0, 0), abs=1e-12)
    assert row.value_a == pytest.approx(0.6, abs=0.02)


def test_the_order_of_runs_says_nothing_about_being_itself(trials, names):
    runs = [evaluated(trials, names, seed=seed, place=f"run-{seed}") for seed in (0, 1)]
    assert paired(runs, runs[::-1], b=OURS).is_itself
    assert not paired(runs, runs[:1], b=OURS).is_itself


def test_the_adaptation_of_both_sides_is_said(trials, names):
    one, other = evaluated(trials, names, adaptation="causal"), evaluated(trials, names, place="b")
    row = paired([one], [other])
    assert (row.adaptation_a, row.adaptation_b) == ("causal", "none")


@pytest.mark.parametrize(("axes", "unit"), [(("subject",), "subjects"), (("clip",), "clips")])
def test_known_subjects_on_new_clips_are_judged_by_the_interval_over_clips(trials, names, axes, unit):
    run = evaluated(trials, names, disjoint_on=axes)
    row = paired([run], [run])
    ends = (row.clip_ci_low, row.clip_ci_high) if unit == "clips" else (row.ci_low, row.ci_high)
    assert row.judged_over == unit
    assert row.equivalent is equivalence(*ends, 0.0)
    assert f"[{ends[0]:.3f}, {ends[1]:.3f}]" in row.verdict
    assert ("over clips" in row.verdict) == (unit == "clips")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: {"split_digest": "1"}, r"^b: has another split \(1\) than a \(0\)"),
        (lambda t: {"items": t.assign(item_id="x" + t["item_id"])}, "^b: shares no item of IED with a"),
        (lambda t: {"items": t.iloc[1:]}, "^b: and a have different items of IED: 1 are in only one, such as 1-1"),
        (lambda t: {"items": t.assign(label=["sad", *t["label"][1:]])}, "^b: and a differ in the truth of 1 items"),
        (lambda t: {"fold": 2}, "^b: and a have different folds: 2, None"),
        (lambda t: {"store": "null"}, r"^b: answers about another store \(null\) than a \(7\)"),
        (lambda t: {"items": moved(t)}, "^b: and a show different samples in 1 items of IED, such as 1-2"),
    ],
)
def test_runs_that_cannot_be_compared_are_refused(trials, names, change, words):
    changes = {"items": trials} | change(trials)
    first = evaluated(trials, names, place="a")
    second = evaluated(changes.pop("items"), names, place="b", **changes)
    with pytest.raises(InputError, match=words):
        paired([first], [second], b=OURS)


def test_answers_that_are_not_there_are_refused(trials, names):
    run = evaluated(trials, names)
    with pytest.raises(
        InputError,
        match=r"has no answers of probe eeg likelihood seen to IED.*It has e2llm eeg likelihood seen",
    ):
        paired([run], [run], b=OURS.model_copy(update={"model": "probe"}))


def test_a_run_named_twice_is_refused(trials, names):
    run = evaluated(trials, names)
    with pytest.raises(InputError, match="repeats seed 0 of run"):
        paired([run, run], [run])


def test_a_run_is_read_from_its_folder(tmp_path, trials, names):
    run = evaluated(trials, names)
    with pytest.raises(InputError, match=r"no results of an evaluation here: summary\.json is missing"):
        EvaluatedRun.read(tmp_path)
    run.summary.write(tmp_path / "summary.json")
    write_predictions(run.predictions, tmp_path / "predictions.parquet")
    read = EvaluatedRun.read(tmp_path)
    assert paired([read], [read]) == paired([run], [run])
    (tmp_path / "summary.json").write_text("{}")
    with pytest.raises(InputError, match=r"summary\.json: is of another version"):
        EvaluatedRun.read(tmp_path)
