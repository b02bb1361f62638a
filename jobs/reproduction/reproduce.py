"""``e2llm reproduce page.md#name``: recompute a published table, and report which of its cells agree."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from rich.console import Console
from rich.table import Table as RichTable

from jobs.job import Job, absolute
from jobs.load import load_spec
from jobs.paths import root_folder, spec_file
from jobs.reproduction.cells import Cell, Judgement, Number, judged
from jobs.reproduction.page import Table, digest_of, tables_of
from jobs.spec import SPECS
from storage.errors import InputError
from storage.places.files import write_bytes
from storage.places.location import locate
from storage.twin import TwinConfig, identity_card

SUMMARY = "summary.json"
_DIGITS = 12
_STYLES = {"agrees": "green", "differs": "red", "is gone": "red", "is new": "yellow"}


def reproduce(target: str, console: Console) -> bool:
    """Run the specs of a published table, unless their runs are finished, and compare the numbers.

    Parameters
    ----------
    target : str
        The table, as ``page.md#name``.
    console : Console
        Console that the comparison is printed to.

    Returns
    -------
    bool
        Whether every cell agrees, that is, the new number lies in the published interval.

    Raises
    ------
    InputError
        Before anything runs: when the table does not exist or cannot be read, a spec is refused, or the specs have
        changed since the table was written. Afterwards: when the run has no results.
    """
    table = table_of(target)
    jobs, digest, published = jobs_of(table), digest_of(table.spec.specs), table.cells()
    if table.spec.digest is None:
        raise InputError(table.place, "does not record the digest of its specs", "Write the table with --write.")
    if digest != table.spec.digest:
        raise InputError(
            table.place,
            f"was made from specs ({table.spec.digest[:12]}) that have changed since ({digest[:12]})",
            "Use the version of the specs that made it, or write the table again with --write.",
        )
    results = computed(table, run := str(jobs[-1].run))
    now = {place: Cell.of(n.value, n.ci_low, n.ci_high) for place, n in table.numbers(results).items()}
    found = judged(published, now)
    console.print(judgements_table(table, found))
    agree = sum(one.verdict == "agrees" for one in found)
    console.print(f"{table.place}: {agree} of {len(found)} cells agree; results: {run}", soft_wrap=True)
    return agree == len(found)


def rewrite(target: str) -> None:
    """Run the specs of a published table, unless their runs are finished, and write numbers and digest into the page.

    Raises
    ------
    InputError
        As `reproduce`, except that the table may be missing below its comment or made from other specs.
    """
    table = table_of(target)
    jobs, digest = jobs_of(table), digest_of(table.spec.specs)
    results = computed(table, str(jobs[-1].run))
    twins = [twin for job in jobs if isinstance(twin := getattr(job, "twin", None), TwinConfig)]
    table = table_of(target)  # the page may have changed during the run
    write_bytes(table.page, table.written(results, digest, "; ".join(map(twin_words, twins))).encode())


def table_of(target: str) -> Table:
    """The table that ``page.md#name`` names."""
    page, _, name = target.partition("#")
    tables = tables_of(Path(page))
    if name not in tables:
        known = (
            f"It has {', '.join(tables)}." if tables else "It has none: a table follows a comment with `table: name`."
        )
        raise InputError(target, f"there is no table {name}" if name else "names no table", known)
    return tables[name]


def jobs_of(table: Table) -> list[Job]:
    """Jobs of a table's specs, with absolute paths; the run of the last one has the results."""
    jobs = []
    for name in table.spec.specs:
        job = load_spec(spec_file(name), [], SPECS).spec
        assert isinstance(job, Job)
        jobs.append(absolute(job, root_folder()))
    return jobs


def twin_words(config: TwinConfig) -> str:
    """Footnote that identifies the synthetic subjects of a table by effect, seeds and digests."""
    card = identity_card(config)
    words = [f"effect {config.effect:g}", f"seed {config.seed}, digest `{card['digest'][:_DIGITS]}`"]
    if config.permutation is not None:
        words.insert(1, f"signatures permuted by seed {config.permutation}")
    if config.fresh is not None:
        first, last = config.num_subjects + 1, config.subjects[-1]
        digest = card["fresh_digest"][:_DIGITS]
        words.append(f"subjects {first} to {last} those of seed {config.fresh.seed}, digest `{digest}`")
    return "; ".join(words)


def computed(table: Table, run: str) -> list[Number]:
    """Run a table's specs on the cluster of ``RAY_ADDRESS`` or on this machine; read the last one's results."""
    from jobs.__main__ import execute

    for name in table.spec.specs:
        execute(spec_file(name), [], local=not os.environ.get("RAY_ADDRESS"), check=False)
    return results_of(run)


def results_of(run: str) -> list[Number]:
    """Results in a run's summary.

    Raises
    ------
    InputError
        When the run has no summary, or its summary has no results.
    """
    place, remedy = locate(run), "Name a spec of kind evaluate or cross-validate last."
    if not place.exists(SUMMARY):
        raise InputError(run, f"holds no {SUMMARY}", remedy)
    content: Any = json.loads(place.read(SUMMARY))
    try:
        return [Number.model_validate(row) for row in content["results"]]
    except (KeyError, TypeError, ValidationError):
        raise InputError(f"{run}/{SUMMARY}", "holds no results with values", remedy) from None


def judgements_table(table: Table, found: Sequence[Judgement]) -> RichTable:
    """Table that shows the comparison, one row for each cell."""
    spec = table.spec
    shown = RichTable(title=table.place, title_justify="left")
    for name in (*spec.rows, *([] if spec.columns is None else [spec.columns])):
        shown.add_column(name, overflow="fold")
    for name in ("published", "now"):
        shown.add_column(name, justify="right", no_wrap=True)
    shown.add_column("verdict", no_wrap=True)
    for one in found:
        cells = ["" if cell is None else str(cell) for cell in (one.published, one.now)]
        shown.add_row(*one.place, *cells, one.verdict, style=_STYLES[one.verdict])
    return shown
