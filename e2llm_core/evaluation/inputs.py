"""Checks that an evaluation makes before it starts, besides those of other jobs. Light to import."""

import json
from dataclasses import dataclass

from e2llm_core.evaluation.references.sides import with_validation
from e2llm_core.llm.families.table import family_of
from e2llm_core.plan import Input
from e2llm_core.stages.config import DataConfig
from storage.errors import InputError
from storage.places.location import locate
from storage.splits import resolve_split
from storage.splits.checks import listed
from storage.store import open_store

LANGUAGE = "config.json"
"""File that a model directory has only if it has a language model."""
_HEAD = ("probe.json", "probe.safetensors")


def speaks(model: str) -> bool:
    """Whether a model directory has a language model: those of stage 1 have none."""
    return locate(model).exists(LANGUAGE)


@dataclass(frozen=True)
class Heads(Input):
    """Heads that a model directory answers with: its label head, and the language model of later stages."""

    model: str

    def digest(self) -> None:
        """Refuse a model directory that lacks a head."""
        place, field = locate(self.model), f"{self.field}: {self.model}"
        if missing := [name for name in _HEAD if not place.exists(name)]:
            remedy = "Name the `model` folder of a run of stage 1, 2 or 3."
            raise InputError(field, f"has no label head: no {missing[0]} here", remedy)
        if not speaks(self.model):
            return
        text = json.loads(place.read(LANGUAGE)).get("text_config")
        if not isinstance(text, dict):
            raise InputError(
                field, "is a language model without EEG", "Name the `model` folder of a run of stage 2 or 3."
            )
        family_of(str(text.get("model_type", "")), field)


@dataclass(frozen=True)
class TrainedLabels(Input):
    """Check that every label of the test side has a training trial, but those that the split leaves out."""

    data: DataConfig
    who: str

    def digest(self) -> None:
        """Refuse a fold in which a tested class has no training trial."""
        trials = open_store(self.data.store).trials
        split = resolve_split(self.data.split, trials)
        fitted, tested = (with_validation(split)[side].rows(trials)["label"] for side in ("train", "test"))
        if missing := sorted(set(tested.dropna()) - set(fitted) - set(split.train.without)):
            fold = "" if split.fold is None else f", fold {split.fold}"
            raise InputError(
                f"data.split ({split.name}{fold})",
                f"tests {listed(missing)} without any training trial for {self.who}",
                "Take another fold, or set missing_labels: accept.",
            )
