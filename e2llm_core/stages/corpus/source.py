"""What a corpus is drawn from, and whether it fits a stage."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from safetensors import deserialize

from e2llm_core.model.model_io import PROJECTOR_WEIGHTS
from e2llm_core.model.projector import READING
from e2llm_core.stages.config import CachedDataConfig
from e2llm_core.stages.data import EEGData
from e2llm_core.stages.features import digest_of, tower_digest
from storage.corpus import Corpus
from storage.errors import InputError
from storage.features import FeatureSource


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
    """SHA-256 of what a model's projector tells: its maps, and how many quantities; None for other projectors."""
    path = model / PROJECTOR_WEIGHTS
    maps = [pair for pair in deserialize(path.read_bytes()) if pair[0].startswith(READING)] if path.is_file() else []
    if not maps:
        return None
    strongest = json.loads((model / "config.json").read_text(encoding="utf-8"))["projector"]["strongest"]
    return digest_of({"strongest": strongest}, maps)


def open_corpus(data: EEGData, stage: str, model: Path) -> Corpus | None:
    """Open the corpus that a stage's data names; None where it names none.

    Parameters
    ----------
    data : EEGData
        The stage's data.
    stage : str
        Its name.
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
    if found.stage != stage:
        raise refusal(folder, "stage", f"of {found.stage}, not {stage}")
    if found.split_digest != data.split.digest:
        problem = f"of another split ({found.split_digest}, not {data.split.digest})"
        raise refusal(folder, "data.split", problem)
    if difference := found.source.difference(source_of(data, model)):
        raise refusal(folder, *difference)
    if found.reading_digest != reading_digest(model):
        raise refusal(folder, "model", "told by another projector than that of the model")
    return corpus


def check_settings(corpus: Corpus, settings: Mapping[str, Any]) -> None:
    """Refuse a corpus that was drawn with other settings than these, by the name of the first that differs.

    Raises
    ------
    InputError
        Naming it.
    """
    found, wanted = dict(_flat(corpus.manifest.settings)), dict(_flat(json.loads(json.dumps(settings))))
    for name in [*wanted, *(name for name in found if name not in wanted)]:
        if found.get(name) != wanted.get(name):
            raise refusal(str(corpus.place), name, f"drawn with {name} {found.get(name)}, not {wanted.get(name)}")


def refusal(folder: str, field: str, problem: str) -> InputError:
    """Say that a corpus does not fit, and which field of the spec decides it."""
    remedy = f"Run the corpus job for this spec, correct {field}, or set data.corpus=null."
    return InputError(f"data.corpus: {folder}", f"this corpus is {problem}", remedy)


def _flat(settings: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{above}{name}.")
        else:
            yield f"{above}{name}", value
