"""`--results FILE` keeps how each drill ended, and on what, as soon as it has."""

import os
from pathlib import Path

import pytest

from cluster.environment import environment
from tests.drill_results import Phase, keep, results_of

ROOT = Path(__file__).resolve().parents[2]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--results", type=Path, help="JSON file with the last result of each drill")


def pytest_configure(config: pytest.Config) -> None:
    path = config.getoption("--results")
    if path is not None and not hasattr(config, "workerinput"):  # of several processes, the one that hears of all
        config.pluginmanager.register(Recorder(path))


class Recorder:
    """Notes every phase of every drill, and keeps a drill's result when its last one is over."""

    def __init__(self, path: Path) -> None:
        self._path, self._phases, self._environment = path, dict[str, list[Phase]](), environment(ROOT)
        given = os.environ.get("DRILL_FAULTS")
        self._faults = None if given is None else int(given)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._phases.setdefault(report.nodeid, []).append(Phase(report.nodeid, report.outcome, report.duration))
        if report.when == "teardown":
            commit = self._environment["git"]["commit"] or "unknown"
            found = results_of(self._phases.pop(report.nodeid), commit, self._faults)
            keep(self._path, found, {commit: self._environment}, ROOT)
