"""Steps at work: in which order, how many at a time, what a failure costs, and what a stop leaves."""

import json
import os
import signal
from pathlib import Path

import pytest

from cluster.room import Room
from cluster.train.stopping import Stopped
from jobs.cross_validation import work
from jobs.cross_validation.config import CrossValidationPlan
from jobs.cross_validation.grid import grid_of
from jobs.cross_validation.work import LOGS, Work
from jobs.spec import steps
from storage.errors import InputError
from tests.cross_validations import CROSS_VALIDATE, TRIALS, write_chain


class Steps:
    """Steps that take a few looks, and end as they are told."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.started: list[str] = []
        self.failing: dict[str, int] = {}
        self.most_at_a_time = 0
        self.at_work: set[str] = set()
        self.told: list[str] = []
        self.looks = 2
        self.stop_after: int | None = None

    def start(self, step, log: Path) -> "Process":
        self.started.append(step.key)
        self.at_work.add(step.key)
        self.most_at_a_time = max(self.most_at_a_time, len(self.at_work))
        if step.key in self.failing:
            log.write_text("[stage1] on 1 worker\nerror: data.store: is gone. Look for it.\n")
        if len(self.started) == self.stop_after:
            signal.raise_signal(signal.SIGTERM)
        return Process(self, step.key)


class Process:
    def __init__(self, steps: Steps, key: str) -> None:
        self._steps, self._key, self._looks = steps, key, steps.looks
        self._status = steps.failing.get(key, 0)

    def poll(self) -> int | None:
        self._looks -= 1
        if self._looks > 0:
            return None
        self._steps.at_work.discard(self._key)
        if not self._status:
            (self._steps.folder / self._key).touch()
        return self._status

    def terminate(self) -> None:
        self._steps.told.append(self._key)
        self._status, self._looks = os.EX_TEMPFAIL, 2

    def kill(self) -> None:
        self._steps.told.append(f"killed {self._key}")


@pytest.fixture
def fake(tmp_path, monkeypatch) -> Steps:
    made = Steps(tmp_path / "done")
    made.folder.mkdir()
    (tmp_path / LOGS).mkdir()
    monkeypatch.setattr(work, "start", made.start)
    monkeypatch.setattr(work, "_LOOK_SECONDS", 0.001)
    monkeypatch.setattr(work, "is_done", lambda step, root: (made.folder / step.key).exists())
    monkeypatch.setattr(Work, "_collect", lambda self: None)
    monkeypatch.delenv("RAY_JOB_CONFIG_JSON_ENV_VAR", raising=False)
    return made


@pytest.fixture
def at_work(fake, tmp_path, monkeypatch):
    def at_work(cpus: float = 2.0, most: int | None = None, **changes) -> Work:
        write_chain(tmp_path)
        monkeypatch.chdir(tmp_path)
        content = {key: CROSS_VALIDATE[key] for key in ("chain", "folds")} | {"seeds": [0]} | changes
        grid = grid_of(CrossValidationPlan.model_validate(content), "cells", steps(), lambda store: TRIALS)
        return Work(grid, tmp_path, tmp_path, "s3://runs/all", Room([{"CPU": cpus}]), most)

    return at_work


@pytest.mark.parametrize(("cpus", "most", "expected"), [(1.0, None, 1), (3.0, None, 3), (8.0, 2, 2)])
def test_steps_run_side_by_side_where_there_is_room(fake, at_work, cpus, most, expected):
    given = at_work(cpus, most)
    given.run()
    assert fake.most_at_a_time == expected
    assert sorted(fake.started) == sorted(given.grid.steps)
    for step in given.grid.steps.values():
        assert all(fake.started.index(need) < fake.started.index(step.key) for need in step.needs)


def test_one_after_another_means_cell_by_cell(fake, at_work, capsys):
    given = at_work(1.0)
    given.run()
    assert fake.started == [key for cell in given.grid.cells for key in cell.steps]
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "[cross-validate] 4 cells, 8 steps, 0 of them done before"
    assert lines[-1].startswith("[cross-validate] 8/8  evaluate of fold 4 (s4), seed 0, as-is: done in 0:00  eta 0:00")


def test_a_step_that_is_done_is_not_run_again(fake, at_work):
    at_work().run()
    fake.started.clear()
    at_work().run()
    assert fake.started == []


def test_a_failure_costs_what_needs_it_and_is_told_at_the_end(fake, at_work):
    given = at_work()
    bad = given.grid.cells[1]
    fake.failing = {bad.steps[0]: 2}
    with pytest.raises(
        InputError, match=r"1 of 8 steps failed, first stage1-\w+: data.store: is gone. Look for it"
    ) as e:
        given.run()
    assert "start the job again" in str(e.value)
    assert set(given.grid.steps) - set(fake.started) == {bad.steps[1]}
    fake.failing, fake.started = {}, []
    at_work().run()
    assert fake.started == list(bad.steps)


def test_a_crash_names_the_log_in_the_run(fake, at_work):
    given = at_work()
    key = given.grid.cells[0].steps[0]
    fake.failing = {key: -9}
    with pytest.raises(
        InputError, match=rf"^s3://runs/all: 1 of .* ended with status -9; its log is s3://runs/all/logs/{key}.log"
    ):
        given.run()


def test_a_stop_is_passed_on_once_and_nothing_new_begins(fake, at_work):
    fake.looks, fake.stop_after = 50, 2
    given = at_work()
    with pytest.raises(Stopped):
        given.run()
    assert len(fake.started) == 2
    assert sorted(fake.told) == sorted(fake.started)
    fake.stop_after, fake.looks = None, 1
    at_work().run()
    assert len(fake.started) == 2 + 8


@pytest.mark.parametrize("last", [False, True])
def test_a_step_that_was_asked_alone_stops_all_of_them(fake, at_work, last):
    given = at_work(1.0)
    key = given.grid.cells[-1].steps[-1] if last else given.grid.cells[0].steps[0]
    fake.failing = {key: os.EX_TEMPFAIL}
    with pytest.raises(Stopped, match="s3://runs/all"):
        given.run()
    assert len(fake.started) == (len(given.grid.steps) if last else 1)
    fake.failing = {}
    at_work(1.0).run()
    assert fake.started[-1] == given.grid.cells[-1].steps[-1]


def test_a_fold_keeps_the_number_that_its_protocol_gives_it(at_work):
    folds = {"protocol": "leave-one-subject-out", "validation": 1, "only": [3, 4]}
    given = at_work(folds=folds)
    assert [given._fold_number(cell) for cell in given.grid.cells] == [3, 4]
    given = at_work(folds={"train": 2, "validation": 1, "test": 1, "draws": 2, "seed": 5})
    assert [given._fold_number(cell) for cell in given.grid.cells] == [1, 2]


def test_what_was_written_is_sent_when_a_step_fails():
    sent = []

    class Away:
        def send(self, *patterns):
            sent.append(patterns)
            raise InputError("s3://runs/all", "does not answer", "Try again.")

    with pytest.raises(Stopped), work._sent(Away()):
        raise Stopped("s3://runs/all")
    assert sent == [("logs/*", "results.parquet")]


def test_ray_tells_the_steps_of_a_submitted_job_itself(fake, at_work, monkeypatch):
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", json.dumps({}))
    fake.looks, fake.stop_after = 20, 1
    with pytest.raises(Stopped):
        at_work(1.0).run()
    assert fake.told == []


def test_no_step_outlives_an_interrupt(fake, at_work, monkeypatch):
    def interrupt(self) -> None:
        raise KeyboardInterrupt

    fake.looks = 50
    monkeypatch.setattr(Work, "_look", interrupt)
    with pytest.raises(KeyboardInterrupt):
        at_work().run()
    assert fake.told == fake.started
