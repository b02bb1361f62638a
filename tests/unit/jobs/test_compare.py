"""`e2llm compare`: what it takes, what it prints, what it writes."""

import json

import pytest
from typer.testing import CliRunner

from e2llm_core.evaluation.comparison import PairedRow
from e2llm_core.evaluation.predictions import write_predictions
from jobs import cli
from storage.errors import InputError
from tests.unit.evaluation.conftest import SEED_VII_NAMES, seed_vii_trials
from tests.unit.evaluation.test_comparison import evaluated

pytestmark = pytest.mark.usefixtures("none_held_out")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two seeds of one model, evaluated beside a baseline."""
    folders = []
    for seed in (0, 1):
        folder = tmp_path_factory.mktemp(f"seed-{seed}")
        run = evaluated(seed_vii_trials(3), SEED_VII_NAMES, seed=seed, place=str(folder))
        run.summary.write(folder / "summary.json")
        write_predictions(run.predictions, folder / "predictions.parquet")
        folders.append(str(folder))
    return folders


def called(*arguments: str):
    return CliRunner().invoke(cli.app, ["compare", *arguments])


def test_two_models_of_one_evaluation_over_seeds(runs, tmp_path):
    both, out = ",".join(runs), tmp_path / "out.json"
    ended = called(both, both, "--task", "IED", "--model-b", "de_svm", "--json", str(out))
    assert ended.exit_code == 0, ended.output
    row = PairedRow.model_validate_json(out.read_text())
    assert (row.a.model, row.b.model, row.n_runs, row.metric) == ("e2llm", "de_svm", 2, "balanced_accuracy")
    assert [one["subject"] for one in json.loads(out.read_text())["per_subject"]] == ["01", "02", "03"]
    for words in ("balanced accuracy", "means over 2 runs", f"{row.difference:+.3f}", "t_subjects", "80 clips"):
        assert words in " ".join(ended.output.split())
    assert "equivalent within 0.05: " in ended.output
    assert "adaptation: A none, B none" in ended.output


def test_a_run_with_itself_says_so(runs):
    ended = called(runs[0], runs[0])
    assert ended.exit_code == 0, ended.output
    assert "compared with itself" in ended.output
    assert "difference +0.000" in ended.output


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--metric", "kendall"], "--metric kendall: is none of IED. It has balanced_accuracy"),
        (["--task", "XYZ"], "--task XYZ: no such task. There is IED, EPC"),
        (["--task", "EPC"], "has no results of e2llm on EPC"),
        (["--model-b", "labram"], "has no results of labram on IED. It has e2llm, de_svm"),
    ],
)
def test_what_is_not_there_is_refused(runs, arguments, words):
    ended = called(runs[0], runs[0], *arguments)
    assert ended.exit_code == 2
    assert words in " ".join(ended.output.split())


def test_a_model_that_was_read_in_two_ways_is_asked_for_one():
    run = evaluated(seed_vii_trials(2), SEED_VII_NAMES)
    more = [row.model_copy(update={"readout": "generation"}) for row in run.summary.results if row.model == "e2llm"]
    summary = run.summary.model_copy(update={"results": [*run.summary.results, *more]})
    twice = type(run)(run.place, summary, run.predictions)
    assert twice.answerer("IED", "e2llm", "generation").readout == "generation"
    assert twice.answerer("IED", "de_svm", "generation").readout == "likelihood"
    with pytest.raises(InputError, match="was read as likelihood, generation"):
        twice.answerer("IED", "e2llm")
    declared = [row.model_copy(update={"primary": True}) for row in more[:1]]
    endpoint = type(run)(
        run.place, summary.model_copy(update={"results": [*summary.results, *declared]}), run.predictions
    )
    assert endpoint.answerer("IED", "e2llm").readout == "generation"
    assert endpoint.task == "IED"
