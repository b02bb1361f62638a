"""``e2llm doctor``: the cluster's findings for a person."""

import os
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from cluster.doctor.diagnosis import Finding
from jobs.paths import CODE, root_folder
from storage.places.base import is_url

_MARKS = {"well": "[green]well[/]", "doubtful": "[yellow]doubtful[/]", "wrong": "[red]wrong[/]"}


def doctor(storage: str | None, console: Console) -> bool:
    """Examine the cluster of ``RAY_ADDRESS``, or this machine; print the findings.

    Parameters
    ----------
    storage : str or None
        Folder or ``s3://bucket/prefix`` for data and runs; None for ``runs`` below the root folder.
    console : Console
        Where to print.

    Returns
    -------
    bool
        Whether nothing is wrong.

    Raises
    ------
    InputError
        When a node does not answer, or `storage` cannot be written.
    """
    from cluster.doctor.examination import examine_cluster
    from cluster.session import ray_session

    place = storage or str(root_folder() / "runs")
    if not is_url(place):
        place = str(Path(place).resolve())
    with ray_session(CODE, local=not os.environ.get("RAY_ADDRESS")):
        findings = examine_cluster(place)
    console.print(findings_table(findings))
    return all(finding.verdict != "wrong" for finding in findings)


def findings_table(findings: Sequence[Finding]) -> Table:
    """A row for each finding, errors first."""
    table = Table(show_lines=False)
    for name in ("topic", "verdict", "found", "what to do"):
        table.add_column(name, overflow="fold")
    order = {"wrong": 0, "doubtful": 1, "well": 2}
    for finding in sorted(findings, key=lambda each: order[each.verdict]):
        table.add_row(finding.topic, _MARKS[finding.verdict], finding.found, finding.remedy)
    return table
