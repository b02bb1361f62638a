"""What a corpus is drawn from, and whether it fits a stage."""

import hashlib
from pathlib import Path

from safetensors import deserialize

from e2llm_core.model.model_io import PROJECTOR_WEIGHTS
from e2llm_core.stages.config import CachedDataConfig
from e2llm_core.stages.data import EEGData
from e2llm_core.stages.features import tower_digest
from storage.corpus import Corpus
from storage.errors import InputError
from storage.features import FeatureSource

_READING = "reading."


def source_of(data: EEGData, model: Path) -> FeatureSource:
    """Store, windows and tower of a stage.

    Parameters
    ----------
    data : EEGData
        The stage's data.
    model : Path
        Model directory that the stage starts from.
    """
    return FeatureSource.of(data.windows(data.split.train), tower_digest(model))


def reading_digest(model: Path) -> str | None:
    """SHA-256 of the maps by which a model's projector reads; None where it has no such projector."""
    path = model / PROJECTOR_WEIGHTS
    tensors = deserialize(path.read_bytes()) if path.is_file() else []
    total, maps = hashlib.sha256(), sorted((name, tensor) for name, tensor in tensors if name.startswith(_READING))
    for name, tensor in maps:
        total.update(f"{name} {tensor['dtype']} {tensor['shape']} ".encode())
        total.update(tensor["data"])
    return total.hexdigest() if maps else None


def open_corpus(data: EEGData, stage: str, tasks: tuple[str, ...], model: Path) -> Corpus | None:
    """Open the corpus that a stage's data names; None where it names none.

    Parameters
    ----------
    data : EEGData
        The stage's data.
    stage : str
        Its name.
    tasks : tuple of str
        Tasks, or forms of question, that it trains.
    model : Path
        Model directory that it starts from.

    Raises
    ------
    InputError
        When there is none, it is not complete, or is of another stage, split, store, tower or projector.
    """
    folder = data.config.corpus if isinstance(data.config, CachedDataConfig) else None
    if folder is None:
        return None
    try:
        corpus = Corpus.open(folder)
    except InputError as error:
        raise InputError(f"data.corpus: {error.place}", error.problem, error.remedy) from None
    found = corpus.manifest
    problem = None
    if found.stage != stage:
        problem = "stage", f"of {found.stage}, not {stage}"
    elif found.split_digest != data.split.digest:
        problem = "data.split", f"of another split ({found.split_digest}, not {data.split.digest})"
    elif unknown := sorted(set(found.tasks) - set(tasks)):
        problem = "tasks", f"of tasks that this stage does not train: {', '.join(unknown)}"
    else:
        problem = found.source.difference(source_of(data, model))
    if problem is None and found.reading_digest != reading_digest(model):
        problem = "model", "told by another projector than that of the model"
    if problem is not None:
        field, said = problem
        raise InputError(
            f"data.corpus: {folder}",
            f"this corpus is {said}",
            f"Run the corpus job for this spec, correct {field}, or set data.corpus=null.",
        )
    return corpus
