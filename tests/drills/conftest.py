"""`--results FILE` keeps how each drill ended, and on what."""

import os
from pathlib import Path

import pytest

from cluster.environment import environment
from tests.drill_results import Phase, keep, results_of

ROOT = Path(__file__).resolve().parents[2]
PHASES = pytest.StashKey[list[Phase]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--results", type=Path, help="JSON file with the last result of each drill")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[PHASES] = []
    config.pluginmanager.register(Recorder(config.stash[PHASES]))


class Recorder:
    """Notes every phase of every drill."""

    def __init__(self, phases: list[Phase]) -> None:
        self._phases = phases

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._phases.append(Phase(report.nodeid, report.outcome, report.duration))


def pytest_sessionfinish(session: pytest.Session) -> None:
    path, phases = session.config.getoption("--results"), session.config.stash[PHASES]
    if path is not None and phases:
        found = environment(ROOT)
        commit, faults = found["git"]["commit"] or "unknown", os.environ.get("DRILL_FAULTS")
        keep(path, results_of(phases, commit, None if faults is None else int(faults)), {commit: found}, ROOT)
