"""A chain over folds, seeds and variants: killed in the middle and started again, it ends as an undisturbed one."""

import os
import signal
from pathlib import Path

import pandas as pd
import pytest

from cluster.train.stopping import Stopped
from jobs.cross_validation import work
from jobs.cross_validation.results import CrossValidationSummary
from jobs.load import load_spec
from jobs.run import run
from jobs.spec import SPECS
from storage.errors import InputError
from tests.cross_validations import write_chain
from tests.ranks import instead_of_ray
from tests.training_faults import make_store

pytestmark = pytest.mark.integration

CHAIN = [{"spec": "stage1.yaml"}, {"spec": "evaluate.yaml", "overrides": ["tasks=[IED]", "stages={}", "controls=[]"]}]
VARIANTS = [{"name": "both"}, {"name": "alone", "overrides": {"evaluate": ["baselines=[]"]}}]
FOLDS = {"protocol": "k-fold-by-subject", "num_folds": 2, "only": [1], "validation": 1}


class Done:
    """A step that has run in this process."""

    def __init__(self, status: int) -> None:
        self.status = status

    def poll(self) -> int:
        return self.status

    def terminate(self) -> None:
        """It has ended."""

    kill = terminate


class InProcess:
    """Runs steps as they are started; the `kill`-th one, counted from 1, is killed in the middle of its training."""

    def __init__(self, kill: int | None = None, stop: int | None = None) -> None:
        self.started: list[str] = []
        self._kill, self._stop = kill, stop

    def __call__(self, step, log: Path) -> Done:
        self.started.append(step.key)
        if len(self.started) == self._stop:
            os.kill(os.getpid(), signal.SIGTERM)
        try:
            with instead_of_ray(stop_after=2 if len(self.started) == self._kill else None):
                run(load_spec(Path(step.spec), step.overrides, SPECS), local=True)
        except Stopped:
            return Done(-signal.SIGKILL if len(self.started) == self._kill else os.EX_TEMPFAIL)
        except InputError as error:
            log.write_text(f"error: {error}\n")
            return Done(2)
        return Done(0)


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """Store and specs; without pages of the cells, which take seconds to draw."""
    make_store(tmp_path / "store.zarr")
    write_chain(tmp_path, chain=CHAIN, variants=VARIANTS, folds=FOLDS, seeds=[0])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("e2llm_core.evaluation.run._draw", lambda *_: None)
    monkeypatch.setattr("e2llm_core.evaluation.run.write_report", lambda folder: folder / "report.html")
    monkeypatch.setattr("cluster.batch.evaluation.require_resources", lambda resources: None)
    monkeypatch.setattr(work, "require_resources", lambda resources: None)
    monkeypatch.setattr(work, "alive_nodes", lambda: [{"CPU": 1.0}])
    return tmp_path


@pytest.fixture
def cross_validate(folder, monkeypatch):
    def cross_validate(name: str, **disturbance) -> list[str]:
        """Run it in a folder of this name; returns the steps that were started."""
        starter = InProcess(**disturbance)
        monkeypatch.setattr(work, "start", starter)
        try:
            with instead_of_ray():
                run(load_spec(folder / "cross_validate.yaml", [f"run=runs/{name}"], SPECS), local=True)
        except (Stopped, InputError) as ended:
            starter.started.append(type(ended).__name__)
        return starter.started

    return cross_validate


def results(folder: Path, name: str) -> pd.DataFrame:
    rows = pd.read_parquet(folder / "runs" / name / "results.parquet")
    return rows.drop(columns="run").sort_values(list(rows.columns.drop(["run", "value"]))).reset_index(drop=True)


def summary(folder: Path, name: str) -> CrossValidationSummary:
    return CrossValidationSummary.model_validate_json((folder / "runs" / name / "summary.json").read_text())


def test_a_disturbed_cross_validation_ends_as_an_undisturbed_one(folder, cross_validate, capsys):
    undisturbed = cross_validate("whole")
    assert [key.split("-")[0] for key in undisturbed] == ["stage1", "evaluate", "evaluate"], "one training for both"

    killed = cross_validate("disturbed", kill=1)
    assert [key.split("-")[0] for key in killed] == ["stage1", "InputError"], "what needs it does not begin"
    assert list((folder / "runs/disturbed/cells").glob("stage1-*/checkpoints/*")), "it goes on from there"
    stopped = cross_validate("disturbed", stop=2)
    assert stopped == [killed[0], stopped[1], "Stopped"]
    kept = pd.read_parquet(folder / "runs/disturbed/results.parquet")
    assert set(kept["variant"]) == {"both"}, "rows of what is done are kept"
    capsys.readouterr()
    rest = cross_validate("disturbed")
    assert len(rest) == 1, "the last evaluation"
    assert "2 cells, 3 steps, 2 of them done before" in capsys.readouterr().out

    pd.testing.assert_frame_equal(results(folder, "whole"), results(folder, "disturbed"))
    whole, disturbed = summary(folder, "whole"), summary(folder, "disturbed")
    assert (whole.results, whole.differences) == (disturbed.results, disturbed.differences)
    assert cross_validate("disturbed") == []

    (probe,) = [row for row in whole.results if (row.model, row.metric, row.variant) == ("probe", "accuracy", "both")]
    assert (probe.n_subjects, probe.n_folds, probe.n_seeds) == (2, 1, 1)
    between = {(one.variant_a, one.variant_b, one.row.a.model, one.row.b.model) for one in whole.differences}
    assert ("alone", "both", "probe", "probe") in between
    page = (folder / "runs/whole/report.html").read_text()
    assert "<svg" in page
    assert whole.cells[0].split_digest in page
