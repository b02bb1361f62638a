"""The plan of an ingest, out of its spec."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from storage.errors import InputError

if TYPE_CHECKING:
    from cluster.batch.ingest import IngestPlan
    from jobs.spec import IngestSpec


def plan_of(spec: IngestSpec) -> IngestPlan:
    """Ingest plan of a spec, with absolute paths."""
    from cluster.batch.ingest import IngestPlan

    return IngestPlan(
        store=spec.store,
        dataset=spec.dataset,
        source=spec.source,
        signal=spec.signal,
        layout=spec.layout,
        prune=spec.prune,
    )


def ingest_plan(path: Path, overrides: Sequence[str]) -> IngestPlan:
    """Load a spec of an ingest.

    Raises
    ------
    InputError
        When the spec cannot be read, or is one of another kind.
    """
    from jobs.job import absolute
    from jobs.load import load_spec
    from jobs.paths import root_folder
    from jobs.spec import SPECS, IngestSpec

    spec = load_spec(path, overrides, SPECS).spec
    if not isinstance(spec, IngestSpec):
        raise InputError(str(path), "is not an ingest spec", "Name one with `kind: ingest`.")
    return plan_of(absolute(spec, root_folder()))
