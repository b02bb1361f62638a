"""What stage 1 hands on: the tower, its label head, and the reference that its measures were standardised by."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from e2llm_core.language.measures import Reference
from e2llm_core.tower import EEGTower, load_tower, save_tensors, save_tower
from storage.files import write_json

HEAD, CONTENT = "probe.safetensors", "probe.json"


@dataclass(frozen=True)
class Probe:
    """Stage 1's classifier on top of the tower's summary token, and the reference of the signal measures."""

    head: dict[str, Tensor]
    labels: tuple[str, ...]
    reference: Reference

    @torch.no_grad()
    def probabilities(self, tower: EEGTower, eeg: np.ndarray) -> np.ndarray:
        """Class probabilities (batch, labels) of windows (batch, n_chans, n_times)."""
        summary = tower(torch.from_numpy(eeg))[:, 0]
        logits = summary @ self.head["weight"].T + self.head["bias"]
        return logits.softmax(dim=-1).numpy()


def save_probe(folder: Path, tower: EEGTower, tensors: dict[str, Tensor], probe: Probe) -> None:
    """Write stage 1's model directory."""
    save_tower(tower, folder, tensors)
    save_tensors(probe.head, folder / HEAD)
    reference = {"mean": probe.reference.mean.tolist(), "std": probe.reference.std.tolist()}
    write_json(folder / CONTENT, {"labels": list(probe.labels), "reference": reference})


def load_probe(folder: Path) -> tuple[EEGTower, Probe]:
    """Read stage 1's model directory."""
    labels = tuple(json.loads((folder / CONTENT).read_text())["labels"])
    return load_tower(folder), Probe(load_file(folder / HEAD), labels, load_reference(folder))


def load_reference(folder: Path) -> Reference:
    """Read the reference of the signal measures from any stage's model directory."""
    values = json.loads((folder / CONTENT).read_text())["reference"]
    return Reference(*(np.array(values[key], dtype=np.float32) for key in ("mean", "std")))


def copy_probe(source: Path, target: Path) -> None:
    """Carry stage 1's probe along into a later stage's model directory."""
    for name in (HEAD, CONTENT):
        shutil.copyfile(source / name, target / name)
