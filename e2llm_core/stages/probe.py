"""The export of stage 1: the tower, its label head, and each measure's reference, spread and reliability."""

import json
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors.torch import load_file
from torch import Tensor

from e2llm_core.claims.claims import require_table
from e2llm_core.claims.measures import QuantityScaler
from e2llm_core.claims.table import CLAIM_TABLE
from e2llm_core.tensors import save_tensors
from e2llm_core.tower.tower import EEGTower, load_tower, save_tower
from storage.errors import InputError
from storage.places.files import write_json
from storage.splits import Side
from storage.windows import WindowConfig

HEAD, CONTENT = "probe.safetensors", "probe.json"


class Origin(BaseModel):
    """Data that a model was trained or selected on: windows of sides of a store's split."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    store_digest: str
    windows: WindowConfig
    sides: tuple[Side, ...]


class Known(BaseModel):
    """What `probe.json` knows of a quantity; a reliability of None is not known."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    spread: float
    mean: float
    reliability: float | None


@dataclass(frozen=True)
class Probe:
    """Stage 1's classifier on top of the tower's summary token, and what is known of the signal measures."""

    head: dict[str, Tensor]
    labels: tuple[str, ...]
    scaler: QuantityScaler

    @torch.no_grad()
    def probabilities(self, tower: EEGTower, eeg: np.ndarray) -> np.ndarray:
        """Class probabilities (batch, labels) of windows (batch, n_chans, n_times)."""
        summary = tower(torch.from_numpy(eeg))[:, 0]
        logits = summary @ self.head["weight"].T + self.head["bias"]
        return logits.softmax(dim=-1).numpy()


def save_probe(folder: Path, tower: EEGTower, tensors: dict[str, Tensor], probe: Probe, origin: Origin) -> None:
    """Write stage 1's model directory."""
    save_tower(tower, folder, tensors)
    save_tensors(probe.head, folder / HEAD)
    content = {
        "labels": list(probe.labels),
        "claim_table": CLAIM_TABLE,
        "quantities": _described(probe.scaler),
        "origin": origin.model_dump(mode="json"),
    }
    write_json(folder / CONTENT, content)


def load_probe(folder: Path) -> tuple[EEGTower, Probe]:
    """Read stage 1's model directory."""
    return load_tower(folder), Probe(load_file(folder / HEAD), probe_labels(folder), load_scaler(folder))


def probe_labels(folder: Path) -> tuple[str, ...]:
    """Labels that the label head of a model directory gives, in their order."""
    return tuple(json.loads((folder / CONTENT).read_text())["labels"])


def load_scaler(folder: Path, quantities: Sequence[str] | None = None) -> QuantityScaler:
    """Read reference, spread and reliability of the signal measures from any stage's model directory.

    Parameters
    ----------
    folder : Path
        The model directory.
    quantities : sequence of str, optional
        What is measured in the data that the model is shown; None takes those of the file.

    Raises
    ------
    InputError
        When the file is of another version of the table of claims, names other quantities, or is damaged.
    """
    place = str(folder / CONTENT)
    content = json.loads((folder / CONTENT).read_text())
    require_table(content.get("claim_table"), place, "Run stage 1 and the stages after it again.")
    try:
        known = {name: Known.model_validate(fields) for name, fields in content["quantities"].items()}
    except (ValidationError, KeyError, AttributeError) as error:
        raise InputError(place, "is damaged: `quantities`", "Run stage 1 and the stages after it again.") from error
    spread, mean, reliability = (
        np.array([getattr(one, key) for one in known.values()], dtype=np.float32) for key in Known.model_fields
    )
    scaler = QuantityScaler(tuple(known), spread, mean, reliability)
    return scaler if quantities is None else scaler.of(quantities, place)


def _described(scaler: QuantityScaler) -> dict[str, dict[str, float | None]]:
    columns = (scaler.std.tolist(), scaler.mean.tolist(), scaler.reliability.tolist())
    return {
        name: {"spread": spread, "mean": mean, "reliability": None if np.isnan(reliability) else reliability}
        for name, spread, mean, reliability in zip(scaler.names, *columns, strict=True)
    }


def copy_probe(source: Path, target: Path, sides: Iterable[Side]) -> None:
    """Copy stage 1's probe to a later stage's model directory, which has also seen `sides`."""
    shutil.copyfile(source / HEAD, target / HEAD)
    content = json.loads((source / CONTENT).read_text())
    origin = load_origin(source)
    seen = tuple(dict.fromkeys((*origin.sides, *sides)))
    content["origin"] = origin.model_copy(update={"sides": seen}).model_dump(mode="json")
    write_json(target / CONTENT, content)


def load_origin(folder: Path) -> Origin:
    """Read what a model directory was trained on, over all stages so far.

    Raises
    ------
    InputError
        When the file does not say so in this version's words.
    """
    try:
        return Origin.model_validate(json.loads((folder / CONTENT).read_text())["origin"])
    except (ValidationError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            str(folder / CONTENT), "does not say which trials the model has seen", "Train its stages again."
        ) from error
