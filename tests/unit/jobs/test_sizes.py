"""Hyperparameters at each size: valid, fitting where they say, and the documented ones."""

from pathlib import Path

import pytest

from cluster.planning.gpus import GPUS
from cluster.planning.plan import plan_job
from cluster.planning.table import rows as plan_rows
from jobs.sizes import Size, rows, sizes

DOCS = Path(__file__).resolve().parents[3] / "docs"


def test_every_size_that_the_project_names():
    names = [size.name for size in sizes()]
    assert names == ["tiny demo", "0.6B", "1.7B", "4B", "8B", "14B", "32B", "72B", "235B"]


@pytest.mark.parametrize("stage", ["stage1", "stage2", "stage3"])
@pytest.mark.parametrize("size", sizes(), ids=lambda size: size.name)
def test_rows_are_valid_and_fit(size: Size, stage):
    plan = size.plan(stage)
    if size.gpus:
        assert plan_job(plan.workload(), size.gpus, GPUS["h200"]).fits
        if stage != "stage1" and any(text.startswith("resources.workers") for text in getattr(size, stage)):
            assert f"resources.workers={size.gpus}" in getattr(size, stage)


@pytest.mark.parametrize(("page", "lines"), [("hyperparameters.md", rows), ("plan.md", plan_rows)])
def test_pages_show_what_the_code_computes(page, lines):
    text = (DOCS / page).read_text(encoding="utf-8")
    missing = [line for line in lines() if f"\n{line}\n" not in text]
    assert not missing, f"docs/{page} differs; write its table anew"
