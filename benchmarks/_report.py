"""What every benchmark shares: rounds in turn, ratios with their spread, a table, a JSON file."""

import json
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from cluster.environment import environment

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"


@dataclass(frozen=True)
class Row:
    """One comparison; `ratio` says how many times better ours is, with its range over the rounds."""

    case: str
    metric: str
    ours: float
    other: float
    other_name: str
    ratio: float
    ratio_low: float
    ratio_high: float
    unit: str
    better: Literal["higher", "lower"]


def rounds(cases: Mapping[str, Callable[[], float]], number: int, warm_up: int = 1) -> dict[str, list[float]]:
    """Call every case once a round, in turn, so that a slow moment of the machine meets all of them.

    The first `warm_up` rounds are not counted. The order is reversed every other round.
    """
    values: dict[str, list[float]] = {name: [] for name in cases}
    for turn in range(warm_up + number):
        names = list(cases) if turn % 2 else list(reversed(cases))
        for name in names:
            value = cases[name]()
            if turn >= warm_up:
                values[name].append(value)
    return values


def seconds(work: Callable[[], object]) -> float:
    """Wall time of a call."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def compare(
    case: str,
    metric: str,
    values: Mapping[str, list[float]],
    ours: str,
    other: str,
    *,
    unit: str,
    better: Literal["higher", "lower"] = "higher",
) -> Row:
    """Compare two cases round by round: the ratio's median, lowest and highest."""
    pairs = zip(values[ours], values[other], strict=True)
    ratios = [mine / yours if better == "higher" else yours / mine for mine, yours in pairs]
    return Row(
        case,
        metric,
        round(statistics.median(values[ours]), 4),
        round(statistics.median(values[other]), 4),
        other,
        round(statistics.median(ratios), 3),
        round(min(ratios), 3),
        round(max(ratios), 3),
        unit,
        better,
    )


def show(name: str, rows: list[Row]) -> None:
    """Print the rows."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=name)
    for column in ("case", "ours", "other", "", "unit", "times better", "range"):
        table.add_column(column)
    for row in rows:
        spread = f"{row.ratio_low:.2f} to {row.ratio_high:.2f}"
        numbers = (f"{row.ours:,.4g}", f"{row.other:,.4g}")
        table.add_row(row.case, *numbers, row.other_name, row.unit, f"{row.ratio:.2f}", spread)
    Console(width=140).print(table)


def write(name: str, rows: list[Row], details: Mapping[str, Any]) -> Path:
    """Print the rows and write ``benchmarks/results/<name>.json``."""
    show(name, rows)
    RESULTS.mkdir(parents=True, exist_ok=True)
    path = RESULTS / f"{name}.json"
    content = {"environment": environment(ROOT), **details, "rows": [asdict(row) for row in rows]}
    path.write_text(json.dumps(content, indent=1) + "\n")
    print(path.relative_to(ROOT))
    return path
