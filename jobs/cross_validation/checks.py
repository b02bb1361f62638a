"""Checks of all cells before anything runs, and the table that lists them."""

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import BaseModel
from rich.console import Console
from rich.table import Table

from e2llm_core.plan import Input
from jobs.cross_validation.config import CrossValidationPlan
from jobs.cross_validation.grid import Cell, Grid, Kinds, data_of, grid_of
from jobs.job import absolute
from jobs.paths import root_folder
from storage.errors import InputError
from storage.places.base import is_url
from storage.splits import Split, SplitConfig, resolve_split
from storage.splits.checks import listed
from storage.store import open_store

CELLS = "cells"
"""Folder in the run's folder that holds the runs of the steps."""
_SHOWN_FOLDS = 8


@dataclass(frozen=True)
class CellsInput(Input):
    """Everything that the steps of a cross-validation read and no step makes."""

    plan: CrossValidationPlan
    run: str
    kinds: Kinds

    def digest(self) -> str:
        """Digest of all steps and their inputs."""
        return check_cells(planned(self.plan, self.run, self.kinds), root_folder())


def planned(plan: CrossValidationPlan, run: str, kinds: Kinds) -> Grid:
    """Build the grid of a plan whose paths are absolute.

    Paths in the grid are relative to the root folder where possible, as in the steps' specs, so that a run's identity
    does not depend on where the root folder is.
    """
    root = root_folder()
    folder = _relative(str(plan.cells or f"{run}/{CELLS}"), root)
    return grid_of(plan, folder, kinds, _trials_below(root))


def check_cells(grid: Grid, root: Path) -> str:
    """Check the splits of all steps, and all inputs that no step makes.

    Parameters
    ----------
    grid : Grid
        Cells and steps to check.
    root : Path
        Folder that relative paths start from.

    Returns
    -------
    str
        Digest of the steps and their inputs.

    Raises
    ------
    InputError
        When a fold cannot be made or has no training trial of a class, or an input is missing or does not fit.
    """
    _check_folds(grid, root)
    own = tuple(f"{absolute_place(str(step.job.run), root)}/" for step in grid.steps.values())
    found: dict[str, str | None] = {}
    for step in grid.steps.values():
        for given in absolute(step.job, root).inputs():
            name = repr(given)
            if name in found or any(f"{text}/".startswith(own) for text in _texts(given)):
                continue
            try:
                found[name] = given.digest()
            except InputError as error:
                where = f"{step.name} of {grid.first_cell(step.key)}: {error.place}"
                raise InputError(where, error.problem, error.remedy) from None
    content = [sorted(grid.steps), sorted(digest for digest in found.values() if digest is not None)]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def show_cells(plan: CrossValidationPlan, run: str, kinds: Kinds) -> None:
    """Check all cells, and print the table of steps to run."""
    grid = planned(plan, run, kinds)
    check_cells(grid, root_folder())
    Console().print(cells_table(plan, grid))


def cells_table(plan: CrossValidationPlan, grid: Grid) -> Table:
    """Table of the chain's steps: number of runs, how many of them cells share, and resources."""
    folds = list(dict.fromkeys(cell.fold.name for cell in grid.cells))
    seeds, variants = len(plan.seeds), len(plan.variants)
    title = (
        f"{len(grid.cells)} cells: {len(folds)} folds x {seeds} seeds x {variants} variants\n"
        f"folds: {listed(folds, _SHOWN_FOLDS)}\n"
        f"seeds: {listed(plan.seeds, _SHOWN_FOLDS)}\n"
        f"variants: {listed([variant.name for variant in plan.variants], _SHOWN_FOLDS)}"
    )
    table = Table("step", "kind", title=title, title_justify="left", title_style="")
    for name in ("runs", "shared by several cells", "CPUs", "GPUs"):
        table.add_column(name, justify="right")
    uses = [key for cell in grid.cells for key in cell.steps]
    for name in dict.fromkeys(step.name for step in grid.steps.values()):
        of_name = [step for step in grid.steps.values() if step.name == name]
        resources = of_name[0].resources
        workers = resources.fewest_workers
        amounts = f"{workers * resources.cpus_per_worker:g}", f"{workers * resources.gpus_per_worker:g}"
        shared = sum(uses.count(step.key) > 1 for step in of_name)
        table.add_row(name, of_name[0].job.kind, str(len(of_name)), str(shared), *amounts)
    table.add_section()
    table.add_row("all", "", str(len(grid.steps)), "", "", "")
    return table


def absolute_place(place: str, root: Path) -> str:
    """Resolve a folder against the root; a URL is returned unchanged."""
    return place if is_url(place) else str(root / place)


def _check_folds(grid: Grid, root: Path) -> None:
    """Resolve every split once, and refuse folds in which a class of the store has no training trial."""
    trials_of = _trials_below(root)
    seen = set()
    for step in grid.steps.values():
        data = data_of(step.job)
        if data is None or (known := (str(data.store), data.split.model_dump_json())) in seen:
            continue
        seen.add(known)
        cell = grid.first_cell(step.key)
        _check_classes(_resolved(data.split, trials_of(str(data.store)), cell), trials_of(str(data.store)), cell)


def _resolved(config: SplitConfig, trials: pd.DataFrame, cell: Cell) -> Split:
    try:
        return resolve_split(config, trials)
    except InputError as error:
        raise InputError(f"fold {cell.fold.name}: {error.place}", error.problem, error.remedy) from None


def _check_classes(split: Split, trials: pd.DataFrame, cell: Cell) -> None:
    classes = set(trials["label"].dropna()) - set(split.train.without)
    fitted = {"no training trial": split.train, "no training trial that stage 1 fits": split.fitted_by_stage1}
    for what, side in fitted.items():
        if missing := sorted(classes - set(side.rows(trials)["label"])):
            remedy = "Use another protocol or other folds (`only`), lower `reserved`, or hold out less."
            raise InputError(f"fold {cell.fold.name}", f"{what} has the label {listed(missing)}", remedy)


def _relative(place: str, root: Path) -> str:
    return place.removeprefix(f"{root}/")


def _trials_below(root: Path) -> Any:
    @cache
    def trials_of(store: str) -> pd.DataFrame:
        opened = open_store(absolute_place(store, root))
        opened.require_labels()
        return opened.trials

    return trials_of


def _texts(value: object) -> Iterator[str]:
    """Yield every text in an input's fields."""
    if isinstance(value, str | Path):
        yield str(value)
    elif isinstance(value, BaseModel):
        yield from _texts(value.model_dump(mode="json"))
    elif isinstance(value, Mapping):
        for one in value.values():
            yield from _texts(one)
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _texts(one)
    elif dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            yield from _texts(getattr(value, field.name))
