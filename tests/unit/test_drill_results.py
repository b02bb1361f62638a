import json
from pathlib import Path

import pytest

from tests.drill_results import Phase, keep, results_of


@pytest.fixture(name="root")
def folder_with_two_drills(tmp_path: Path) -> Path:
    for name in ("a.py", "b.py"):
        (tmp_path / name).touch()
    return tmp_path


def outcomes(path: Path) -> dict[str, str]:
    return {each["drill"]: each["outcome"] for each in json.loads(path.read_text())["drills"]}


def test_a_drill_ends_as_its_first_phase_that_did_not_pass() -> None:
    phases = [
        Phase("a.py::one", "passed", 1.0),
        Phase("a.py::one", "failed", 20.04),
        Phase("a.py::one", "passed", 0.5),
        Phase("a.py::two", "passed", 0.25),
        Phase("b.py::three", "skipped", 0.0),
    ]
    found = results_of(phases, "abc", 1)
    assert [(each.drill, each.outcome, each.seconds) for each in found] == [
        ("a.py::one", "failed", 21.5),
        ("a.py::two", "passed", 0.2),
        ("b.py::three", "skipped", 0.0),
    ]
    assert {(each.faults, each.run_on) for each in found} == {(1, "abc")}


def test_the_last_result_of_each_is_kept(root: Path) -> None:
    path = root / "drills.json"
    first = [Phase("a.py::one", "failed", 1.0), Phase("b.py::two", "passed", 1.0)]
    keep(path, results_of(first, "old", 20), {"old": {"python": "3.11"}}, root)
    keep(path, results_of([Phase("a.py::one", "passed", 2.0)], "new", None), {"new": {"python": "3.12"}}, root)
    assert outcomes(path) == {"a.py::one": "passed", "b.py::two": "passed"}
    content = json.loads(path.read_text())
    assert [(each["run_on"], each["faults"]) for each in content["drills"]] == [("new", None), ("old", 20)]
    assert content["environments"] == {"old": {"python": "3.11"}, "new": {"python": "3.12"}}


def test_drills_that_are_gone_are_not_kept(root: Path) -> None:
    path = root / "drills.json"
    keep(path, results_of([Phase("a.py::one", "passed", 1.0)], "old", 20), {"old": {}}, root)
    (root / "a.py").unlink()
    keep(path, results_of([Phase("b.py::two", "passed", 1.0)], "new", 20), {"new": {}}, root)
    assert outcomes(path) == {"b.py::two": "passed"}
    assert json.loads(path.read_text())["environments"] == {"new": {}}
