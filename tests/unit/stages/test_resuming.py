"""Evaluations and scorings that are killed at random moments end as if nothing had happened."""

import json
import multiprocessing
import random
from collections import Counter

import pytest

from e2llm_core.evaluation.config import EvaluationPlan
from e2llm_core.inference.config import ScoringPlan
from tests import killed_attempts

_PROCESSES = multiprocessing.get_context("forkserver")
_PROCESSES.set_forkserver_preload(["tests.killed_attempts"])


@pytest.fixture
def evaluation(data, stage2_folder) -> EvaluationPlan:
    return EvaluationPlan(data=data.config, model=str(stage2_folder), num_pairs=12)


@pytest.fixture
def scores(data, stage2_folder) -> ScoringPlan:
    return ScoringPlan(store=data.config.store, model=str(stage2_folder), stride_seconds=1.0)


def attempt(action, plan, folder, at=None):
    """Exit status of a process that does it, killed at event number `at`."""
    process = _PROCESSES.Process(target=action, args=(plan, folder, folder.with_suffix(".log"), at))
    process.start()
    process.join(100)
    return process.exitcode


def kill_until_done(action, plan, folder, events):
    """Attempts killed at random moments, until one comes to its end; how many were killed."""
    rng, kills = random.Random(folder.name), 0
    while (code := attempt(action, plan, folder, rng.randrange(events))) == -9:
        kills += 1
    assert code == 0
    return kills


def content(folder) -> dict[str, object]:
    """All files of a run but for what tells of time, and what killed writers left among the saved answers."""
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    left = {name for name in files if name.startswith("answers/") and name.endswith(".partial")}
    found = {name: path.read_bytes() for name, path in files.items() if name not in left}
    if "summary.json" in found:
        summary = json.loads(found["summary.json"])
        found["summary.json"] = json.dumps({**summary, "wall_seconds": 0, "environment": 0}).encode()
    return found


def asked(folder) -> Counter[str]:
    return Counter(folder.with_suffix(".log").read_text().splitlines())


@pytest.mark.parametrize(("kind", "events"), [("evaluate", 80), ("score", 16)])
def test_killed_at_random_moments_the_result_is_that_of_an_undisturbed_run(tmp_path, request, kind, events):
    plan = request.getfixturevalue({"evaluate": "evaluation", "score": "scores"}[kind])
    action = getattr(killed_attempts, kind)
    undisturbed, killed = tmp_path / "undisturbed", tmp_path / f"killed-{kind}"
    assert attempt(action, plan, undisturbed) == 0
    kills = kill_until_done(action, plan, killed, events)
    assert kills >= 3
    assert content(killed) == content(undisturbed)
    assert len(content(killed)) >= 5
    assert set(asked(undisturbed).values()) == {1}
    assert set(asked(killed)) == set(asked(undisturbed))
    twice = asked(killed).total() - asked(undisturbed).total()
    assert twice <= kills, "at most what was at work is done again"
