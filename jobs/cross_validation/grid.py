"""Planning the runs of a cross-validation: cells of fold, seed and variant, and the steps they share. Runs nothing."""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

import pandas as pd

from cluster.resources import Resources, TrainingResources
from e2llm_core.stages.config import DataConfig, StagePlan
from jobs.cross_validation.config import ChainStep, CrossValidationPlan, Variant
from jobs.cross_validation.places import holder, moved
from jobs.cross_validation.room import asked_by
from jobs.job import Job
from jobs.load import LoadedSpec, load_spec
from jobs.paths import spec_file
from jobs.run import identity
from jobs.source import Keys, Override, can_be_spelled, parse_override, show
from storage.errors import InputError
from storage.places.base import Place
from storage.splits import Fold, FoldsConfig, SplitConfig, folds_of

_DIGITS = 12
_SET_HERE: Mapping[Keys, str] = {
    ("run",): "the cell determines the run's folder",
    ("data", "split"): "`folds` determines who is tested",
    ("split",): "`folds` determines who is tested",
    ("train", "seed"): "`seeds` determines it",
    ("seed",): "`seeds` determines it",
}
"""Keys that no override may set, and the reason."""

Kinds = Mapping[str, type[Job]]
TrialsOf = Callable[[str], pd.DataFrame]
"""Function that returns the trials of a store, given the store's location as in the spec."""


@dataclass(frozen=True)
class Step:
    """One run of one job of the chain.

    Attributes
    ----------
    key
        The step's name in the chain and the run's identity; also the name of its folder. Equal keys are the same run.
    name
        Name of the step in the chain.
    spec, overrides
        Spec file, and the overrides of its settings.
    job
        The resulting job; its paths are as written in the spec.
    needs
        Keys of the steps whose results it reads.
    resources
        Resources that it requests from the cluster.
    """

    key: str
    name: str
    spec: str
    overrides: tuple[str, ...]
    job: Job
    needs: tuple[str, ...]
    resources: Resources | TrainingResources


@dataclass(frozen=True)
class Cell:
    """One fold, seed and variant, with the keys of its steps in the order of the chain."""

    fold: Fold
    seed: int
    variant: str
    steps: tuple[str, ...]

    def __str__(self) -> str:
        return f"fold {self.fold.name}, seed {self.seed}, {self.variant}"


@dataclass(frozen=True)
class Grid:
    """All cells, and all steps by key, each after the steps that it needs."""

    cells: tuple[Cell, ...]
    steps: Mapping[str, Step]

    def first_cell(self, key: str) -> Cell:
        """The first cell that contains a step."""
        return next(cell for cell in self.cells if key in cell.steps)


@dataclass(frozen=True)
class _Template:
    """A step of a variant, before fold and seed are filled in."""

    name: str
    loaded: LoadedSpec
    job: Job

    def placed(self, split: SplitConfig, seed: int, before: Mapping[str, Step], folder: str) -> Step:
        """Make the step of one cell; `before` maps runs named in specs to the cell's earlier steps."""
        content = self.job.model_dump(mode="json")
        changes: dict[Keys, Any] = {}
        if seed_keys := _seed_keys(self.job):
            changes[seed_keys] = seed
        if split_keys := _split_keys(self.job):
            changes[split_keys] = split.model_dump(mode="json")
        needs = []
        for keys, place in places_in(content):
            if (run := holder(place, before)) is not None:
                changes[keys] = moved(place, run, str(before[run].job.run))
                needs.append(before[run].key)
        for keys, value in changes.items():
            _put(content, keys, value)
        job = type(self.job).model_validate(content)
        key = f"{self.name}-{identity(job)[:_DIGITS]}"
        run = Place(f"{folder}/{key}")
        more = dict.fromkeys(_override(content, keys) for keys in changes) | {f"run={json.dumps(run)}": None}
        return Step(
            key,
            self.name,
            str(self.loaded.path),
            (*self.loaded.overrides, *more),
            job.model_copy(update={"run": run}),
            tuple(dict.fromkeys(needs)),
            asked_by(job, {str(step.job.run): step.job for step in before.values()}),
        )


def grid_of(plan: CrossValidationPlan, folder: str, kinds: Kinds, trials_of: TrialsOf) -> Grid:
    """Plan the cells of a cross-validation and the runs that they need.

    A step's settings are those of its spec with the overrides of chain and variant, the fold's split and the seed.
    Wherever the spec names the run of an earlier step, that step's run in the same cell replaces it. Steps with equal
    settings are one run.

    Parameters
    ----------
    plan : CrossValidationPlan
        The experiment.
    folder : str
        Folder for the runs of the steps.
    kinds : mapping of str to model class
        Kinds of jobs that can be steps.
    trials_of : callable
        Returns the trials of a store, given its location.

    Raises
    ------
    InputError
        When a step's spec is refused, overrides a setting that the cells determine, or reads the run of a later step;
        when a fold does not exist; when a variant changes nothing or is the same as another.
    """
    plain = [_template(step, Variant(name="as-is"), kinds) for step in plan.chain]
    _check_chain(plain)
    templates = {v.name: [_template(step, v, kinds) for step in plan.chain] for v in plan.variants}
    folds = _folds(plan.folds, templates, trials_of)
    steps: dict[str, Step] = {}
    cells = []
    for fold, seed, variant in product(folds, plan.seeds, plan.variants):
        made = _chained(templates[variant.name], fold, seed, folder)
        for step in made:
            steps.setdefault(step.key, step)
        cells.append(Cell(fold, seed, variant.name, tuple(step.key for step in made)))
    unchanged = _chained(plain, folds[0], plan.seeds[0], folder)
    _check_variants(plan, cells, unchanged[-1].key)
    return Grid(tuple(cells), steps)


def largest_resources(plan: CrossValidationPlan, kinds: Kinds) -> Resources | TrainingResources:
    """Resources of the step that requests most GPUs, then most CPUs: with room for it, there is room for each."""
    asked = []
    for variant in plan.variants:
        before: dict[str, Job] = {}
        for step in plan.chain:
            job = _template(step, variant, kinds).job
            asked.append(asked_by(job, before))
            before[str(job.run)] = job
    return max(
        asked, key=lambda one: (one.fewest_workers * one.gpus_per_worker, one.fewest_workers * one.cpus_per_worker)
    )


def places_in(content: Any, keys: Keys = ()) -> Iterator[tuple[Keys, str]]:
    """Yield every text in a spec that may be a location, with its key path; the spec's own run is left out."""
    if isinstance(content, Mapping):
        for name, value in content.items():
            if keys or name not in ("run", "kind"):
                yield from places_in(value, (*keys, name))
    elif isinstance(content, list | tuple):
        for number, value in enumerate(content):
            yield from places_in(value, (*keys, number))
    elif isinstance(content, str):
        yield keys, content


def data_of(job: Job) -> DataConfig | None:
    """Data settings of a job that reads a split of windows; None for other jobs."""
    data = getattr(job, "data", None)
    return data if isinstance(data, DataConfig) else None


def _chained(templates: list[_Template], fold: Fold, seed: int, folder: str) -> list[Step]:
    before: dict[str, Step] = {}
    for template in templates:
        before[str(template.job.run)] = template.placed(fold.split, seed, before, folder)
    return list(before.values())


def _template(step: ChainStep, variant: Variant, kinds: Kinds) -> _Template:
    overrides = (*step.overrides, *variant.of(step.called))
    for text in overrides:
        override = parse_override(text)
        for known, why in _SET_HERE.items():
            if _sets(override, known):
                raise InputError(f"override '{text}' of {step.called}", f"cannot be set here: {why}", "Leave it out.")
    loaded = load_spec(spec_file(step.spec), overrides, kinds)
    assert isinstance(loaded.spec, Job)
    return _Template(step.called, loaded, loaded.spec)


def _sets(override: Override, known: Keys) -> bool:
    """Whether an override sets a key, through its path or inside a mapping."""
    if override.keys[: len(known)] == known:
        return True
    value, below = override.value, known[len(override.keys) :]
    for key in below:
        if not isinstance(value, Mapping) or key not in value:
            return False
        value = value[key]
    return known[: len(override.keys)] == override.keys


def _check_chain(templates: list[_Template]) -> None:
    """Refuse two steps with the same run, a step that reads a later one's run, and a chain without results."""
    places: dict[str, str] = {}
    for template in templates:
        run = str(template.job.run)
        if run in places:
            problem = f"{places[run]} and {template.name} have the same run, {run}"
            raise InputError("chain", problem, "Give one of them another spec.")
        places[run] = template.name
    for number, template in enumerate(templates):
        later = {str(other.job.run): other.name for other in templates[number:]}
        for keys, place in places_in(template.job.model_dump(mode="json")):
            if (held := holder(place, later)) is not None:
                problem = f"{template.name} reads {place} ({show(keys)}), which {later[held]} makes"
                raise InputError("chain", problem, "List the steps in the order in which they run.")
    kinds = [template.job.kind for template in templates]
    if kinds.count("evaluate") != 1 or kinds[-1] != "evaluate":
        given = ", ".join(kinds)
        raise InputError(
            "chain", f"has steps of kind {given}", "End it with one step of kind evaluate, which gives the results."
        )


def _folds(config: FoldsConfig, templates: Mapping[str, list[_Template]], trials_of: TrialsOf) -> tuple[Fold, ...]:
    """List the folds, which must be the same on the stores of all steps and variants."""
    stores = dict.fromkeys(
        str(data.store)
        for steps in templates.values()
        for template in steps
        if (data := data_of(template.job)) is not None
    )
    found = {store: folds_of(config, trials_of(store)) for store in stores}
    first = next(iter(found.values()))
    for store, folds in found.items():
        if folds != first:
            problem = f"{store} and {next(iter(found))} have different folds"
            raise InputError("folds", problem, "Use stores with the same subjects and sessions.")
    return first


def _check_variants(plan: CrossValidationPlan, cells: list[Cell], unchanged: str) -> None:
    """Refuse variants that are the same run, for example because they differ only in resources."""
    results: dict[str, str] = {}
    for cell in cells[: len(plan.variants)]:
        result = cell.steps[-1]
        changes = next(variant.overrides for variant in plan.variants if variant.name == cell.variant)
        if result in results:
            problem = f"{results[result]} and {cell.variant} compute the same results"
            raise InputError("variants", problem, "Remove one of them, or correct its overrides.")
        if changes and result == unchanged:
            raise InputError("variants", f"{cell.variant} changes nothing", "Correct its overrides, or leave them out.")
        results[result] = cell.variant


def _seed_keys(job: Job) -> Keys | None:
    if isinstance(job, StagePlan):
        return ("train", "seed")
    return ("seed",) if "seed" in type(job).model_fields else None


def _split_keys(job: Job) -> Keys | None:
    if data_of(job) is not None:
        return ("data", "split")
    return ("split",) if getattr(job, "split", None) is not None else None


def _override(content: Mapping[str, Any], keys: Keys) -> str:
    """Override that sets a value of a spec; if a key cannot be written in a path, it sets the whole mapping instead."""
    end = next((number for number, key in enumerate(keys) if not can_be_spelled(key)), len(keys))
    value: Any = content
    for key in keys[:end]:
        value = value[key]
    return f"{show(keys[:end])}={json.dumps(value, ensure_ascii=False)}"


def _put(content: Any, keys: Keys, value: Any) -> None:
    for key in keys[:-1]:
        content = content[key]
    content[keys[-1]] = value
