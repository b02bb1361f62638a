"""The last result of every drill, kept in a file with what it ran on."""

import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Result:
    """How one drill ended."""

    drill: str
    outcome: str
    seconds: float
    faults: int | None
    """How many at random moments, where `DRILL_FAULTS` said so."""
    date: str
    run_on: str
    """Key of `environments`: the commit."""


@dataclass(frozen=True)
class Phase:
    """Set-up, call or end of a test, as pytest reports it."""

    drill: str
    outcome: str
    seconds: float


def results_of(phases: Iterable[Phase], commit: str, faults: int | None) -> list[Result]:
    """Sum the phases of each drill: it passed when all of them did, else it ended as the first that did not."""
    by_drill: dict[str, list[Phase]] = {}
    for phase in phases:
        by_drill.setdefault(phase.drill, []).append(phase)
    date = time.strftime("%Y-%m-%d", time.gmtime())
    return [
        Result(
            drill=drill,
            outcome=next((each.outcome for each in found if each.outcome != "passed"), "passed"),
            seconds=round(sum(each.seconds for each in found), 1),
            faults=faults,
            date=date,
            run_on=commit,
        )
        for drill, found in by_drill.items()
    ]


def keep(path: Path, results: Iterable[Result], environments: Mapping[str, Any], root: Path) -> None:
    """Replace what the file says of these drills; drills that no longer exist, and what they ran on, go."""
    before = json.loads(path.read_text()) if path.exists() else {"drills": [], "environments": {}}
    drills = {each["drill"]: each for each in before["drills"] if (root / each["drill"].split("::")[0]).exists()}
    drills |= {each.drill: asdict(each) for each in results}
    found = {**before["environments"], **environments}
    used = {each["run_on"] for each in drills.values()}
    content = {
        "environments": {name: found[name] for name in sorted(used)},
        "drills": [drills[name] for name in sorted(drills)],
    }
    path.write_text(json.dumps(content, indent=1) + "\n")
