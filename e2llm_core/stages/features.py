"""Features of a frozen tower, computed once: what identifies them."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from safetensors import deserialize

from storage.errors import InputError
from storage.features import Features, FeatureSource
from storage.windows import Windows

TOWER_WEIGHTS, TOWER_CONFIG = "tower.safetensors", "tower.json"
_SETTINGS = ("encoder", "temporal", "eeg")


def tower_digest(folder: Path) -> str:
    """SHA-256 of a tower's settings and tensors; the same in the folders of all stages that hand it on.

    Parameters
    ----------
    folder : Path
        Model directory of any stage.

    Raises
    ------
    InputError
        When it holds no tower.
    """
    for name in (TOWER_CONFIG, TOWER_WEIGHTS):
        if not (folder / name).is_file():
            raise InputError(str(folder), f"no {name} here", "Name the `model` folder of a stage's run.")
    config = json.loads((folder / TOWER_CONFIG).read_text(encoding="utf-8"))
    return digest_of({key: config[key] for key in _SETTINGS}, deserialize((folder / TOWER_WEIGHTS).read_bytes()))


def digest_of(settings: Mapping[str, Any], tensors: Iterable[tuple[str, Any]]) -> str:
    """SHA-256 of settings and of tensors, as `safetensors.deserialize` gives them; their order does not matter."""
    total = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for name, tensor in sorted(tensors):
        total.update(f"{name} {tensor['dtype']} {tensor['shape']} ".encode())
        total.update(tensor["data"])
    return total.hexdigest()


def open_features(folder: str | Path, every: Windows, tower: Path) -> Features:
    """Open features, if they are those of this tower on these windows.

    Parameters
    ----------
    folder : str or Path
        `data.features` of a spec.
    every : Windows
        All windows of the store, as the stage cuts them.
    tower : Path
        Model directory whose tower they stand for.

    Raises
    ------
    InputError
        When they are absent, incomplete, or of another tower, store or windows.
    """
    try:
        features = Features.open(folder)
    except InputError as error:
        raise InputError(f"data.features: {error.place}", error.problem, error.remedy) from None
    wanted = FeatureSource.of(every, tower_digest(tower))
    if difference := features.manifest.source.difference(wanted):
        field, problem = difference
        raise InputError(
            f"data.features: {folder}",
            f"these features are {problem}",
            f"Run the features job for this spec, correct {field}, or set data.features=null.",
        )
    return features
