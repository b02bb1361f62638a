"""Settings of a cross-validation. Light to import."""

from collections.abc import Iterable, Mapping
from pathlib import PurePath
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from storage.places.base import Place
from storage.splits import FoldsConfig

ALL_STEPS = "all"
"""Stands for every step where a variant names one."""

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]*$", max_length=60)]
Seed = Annotated[int, Field(ge=0)]


class ChainStep(BaseModel):
    """One job of the chain: an existing spec, and settings that replace the file's."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    spec: str = Field(min_length=1, description="YAML file, such as jobs/stage1.yaml")
    name: Name | None = Field(None, description="by which variants call it; null: the file's name")
    overrides: tuple[str, ...] = Field((), description="key.path=value, in every variant")

    @property
    def called(self) -> str:
        """Its name."""
        return self.name or PurePath(self.spec).stem


class Variant(BaseModel):
    """A named change of the chain."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Name
    overrides: Mapping[str, tuple[str, ...]] = Field(
        default_factory=dict, description=f"step, or {ALL_STEPS} -> its key.path=value"
    )

    def of(self, step: str) -> tuple[str, ...]:
        """Overrides of a step."""
        return (*self.overrides.get(ALL_STEPS, ()), *self.overrides.get(step, ()))


class CellResources(BaseModel):
    """How many steps run at a time."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    side_by_side: int | None = Field(None, ge=1, description="steps at a time, at most; null: as the cluster has room")


class CrossValidationPlan(BaseModel):
    """A chain of jobs, over the folds of a protocol, seeds and variants."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    chain: tuple[ChainStep, ...] = Field(min_length=1, description="jobs in their order; the last one evaluates")
    folds: FoldsConfig
    seeds: tuple[Seed, ...] = Field((0,), min_length=1, description="of training and evaluation; not of the folds")
    variants: tuple[Variant, ...] = Field(
        (Variant(name="as-is"),), min_length=1, description="the others are compared with the first"
    )
    cells: Place | None = Field(None, description="folder of the steps' runs; null: in the run's own")
    resources: CellResources = Field(default_factory=CellResources)

    @model_validator(mode="after")
    def _names_are_unique(self) -> Self:
        _unique("chain", (step.called for step in self.chain))
        _unique("variants", (variant.name for variant in self.variants))
        _unique("seeds", self.seeds)
        steps = [step.called for step in self.chain]
        if ALL_STEPS in steps:
            raise ValueError(f"chain: no step can be called {ALL_STEPS}; give it another name")
        for variant in self.variants:
            if unknown := [name for name in variant.overrides if name not in (ALL_STEPS, *steps)]:
                known = ", ".join((ALL_STEPS, *steps))
                raise ValueError(f"variants: {variant.name} names the step {unknown[0]}; the chain has {known}")
        return self


def _unique(key: str, names: Iterable[object]) -> None:
    given = list(names)
    if double := [name for name in given if given.count(name) > 1]:
        raise ValueError(f"{key}: {double[0]} is given twice")
