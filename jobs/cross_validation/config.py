"""Settings of a cross-validation. Light to import."""

from collections.abc import Iterable, Mapping
from pathlib import PurePath
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from storage.places.base import Place
from storage.splits import FoldsConfig

ALL_STEPS = "all"
"""In the overrides of a variant, this name stands for every step."""

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]*$", max_length=60)]
Seed = Annotated[int, Field(ge=0)]


class ChainStep(BaseModel):
    """One job of the chain: an existing spec, and settings that override those of the file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    spec: str = Field(min_length=1, description="YAML file, such as jobs/stage1.yaml")
    name: Name | None = Field(None, description="name that variants use for it; null: the file's name")
    overrides: tuple[str, ...] = Field((), description="key.path=value, applied in every variant")

    @property
    def called(self) -> str:
        """Name of the step: `name`, or else that of the file."""
        return self.name or PurePath(self.spec).stem


class Variant(BaseModel):
    """A named set of changes to the chain."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Name
    overrides: Mapping[str, tuple[str, ...]] = Field(
        default_factory=dict, description=f"step, or {ALL_STEPS} -> list of key.path=value"
    )

    def of(self, step: str) -> tuple[str, ...]:
        """Overrides that the variant applies to a step."""
        return (*self.overrides.get(ALL_STEPS, ()), *self.overrides.get(step, ()))


class CellResources(BaseModel):
    """Limit on the number of steps that run at a time."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    side_by_side: int | None = Field(
        None, ge=1, description="largest number of steps at a time; null: as many as fit on the cluster"
    )


class CrossValidationPlan(BaseModel):
    """A chain of jobs that is run over the folds of a protocol, seeds and variants."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    chain: tuple[ChainStep, ...] = Field(min_length=1, description="jobs in order; the last one evaluates")
    folds: FoldsConfig
    seeds: tuple[Seed, ...] = Field(
        (0,), min_length=1, description="seeds of training and evaluation, not of the folds"
    )
    variants: tuple[Variant, ...] = Field(
        (Variant(name="as-is"),), min_length=1, description="variants; the others are compared with the first"
    )
    cells: Place | None = Field(None, description="folder of the steps' runs; null: a folder in the run's own")
    resources: CellResources = Field(default_factory=CellResources)

    @model_validator(mode="after")
    def _names_are_unique(self) -> Self:
        _unique("chain", (step.called for step in self.chain))
        _unique("variants", (variant.name for variant in self.variants))
        _unique("seeds", self.seeds)
        steps = [step.called for step in self.chain]
        if ALL_STEPS in steps:
            raise ValueError(f"chain: no step can be named {ALL_STEPS}; give it another name")
        for variant in self.variants:
            if unknown := [name for name in variant.overrides if name not in (ALL_STEPS, *steps)]:
                known = ", ".join((ALL_STEPS, *steps))
                raise ValueError(f"variants: {variant.name} names the step {unknown[0]}, but the chain has {known}")
        return self


def _unique(key: str, names: Iterable[object]) -> None:
    given = list(names)
    if double := [name for name in given if given.count(name) > 1]:
        raise ValueError(f"{key}: {double[0]} is given twice")
