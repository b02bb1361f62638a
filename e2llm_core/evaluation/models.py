"""The models of an evaluation, by their names in the results."""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from e2llm_core.evaluation.config import EvaluationPlan
from e2llm_core.evaluation.inputs import LANGUAGE
from e2llm_core.llm.families.base import Family
from e2llm_core.llm.families.table import family_of
from e2llm_core.model.model_io import model_digest
from storage.places.base import Place
from storage.places.fetching import fetched


@dataclass(frozen=True)
class EvaluatedModel:
    """A model directory to evaluate.

    Attributes
    ----------
    name : str
        Name in the results.
    place : Place
        Folder or URL of the directory.
    alone : bool
        Whether it is the only model of the evaluation.
    """

    name: str
    place: Place
    alone: bool

    @cached_property
    def folder(self) -> Path:
        """Path of the directory on this node."""
        return fetched(self.place)

    @property
    def speaks(self) -> bool:
        """Whether it has a language model."""
        return (self.folder / LANGUAGE).exists()

    @cached_property
    def family(self) -> Family:
        """Family of its language model, which defines how its texts are parsed."""
        content = json.loads((self.folder / LANGUAGE).read_text(encoding="utf-8"))
        return family_of(content["text_config"]["model_type"], self.place)

    @cached_property
    def digest(self) -> str:
        """Digest of its settings and weights."""
        return model_digest(self.folder)

    def part(self, what: str) -> str:
        """Name of a part of it in the results: ``probe``, or ``probe-NAME`` if there are other models."""
        return what if self.alone else f"{what}-{self.name}"


def models_of(plan: EvaluationPlan) -> list[EvaluatedModel]:
    """The models of a plan, in its order."""
    named = plan.named_models
    return [EvaluatedModel(name, place, len(named) == 1) for name, place in named.items()]
