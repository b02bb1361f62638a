"""A corpus of dialogues with Ray Data: blocks of places in the order of training in, one Parquet file per block out."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from cluster.batch.blocks import BlockWriter, write_missing
from cluster.resources import Resources, require_resources
from e2llm_core.stages.config import LanguageStagePlan
from storage.corpus import CORPUS, DATASHEET, Corpus, CorpusManifest, read_others
from storage.errors import InputError

if TYPE_CHECKING:
    from e2llm_core.stages.language import LanguageStage

_SOFTWARE = ("torch", "numpy", "scikit-learn", "pyarrow")


@dataclass(frozen=True)
class CorpusPlan:
    """What a corpus job writes.

    Attributes
    ----------
    stage : LanguageStagePlan
        Stage that will train on it. Absolute paths; it names no corpus itself.
    samples : int
        Dialogues to draw.
    others : mapping of str to bytes
        Content of each file of others' dialogues, by its name.
    block : int
        Rows that are drawn and written together.
    """

    stage: LanguageStagePlan
    samples: int
    others: Mapping[str, bytes]
    block: int

    @cached_property
    def rows_of_others(self) -> list[dict[str, Any]]:
        """Others' dialogues, with their source."""
        return [row | {"source": name} for name, content in self.others.items() for row in read_others(name, content)]


class CorpusWriter(BlockWriter):
    """Draws blocks of dialogues and writes them; holds the stage without its language model.

    Parameters
    ----------
    plan : CorpusPlan
        What is written.
    place : str
        Location of the corpus, whose writing has begun.
    manifest : CorpusManifest
        Description of the corpus.
    """

    def __init__(self, plan: CorpusPlan, place: str, manifest: CorpusManifest) -> None:
        from e2llm_core.stages.corpus.writing import CorpusRows

        stage = stage_of(plan)
        stage.tell_without_llm()
        self._corpus = Corpus(place, manifest)
        self._rows = CorpusRows(stage, manifest, plan.rows_of_others)

    def write(self, block: int) -> None:
        """Draw and write one block."""
        self._corpus.write(block, self._rows.rows(self._corpus.manifest.rows(block)))


def write_corpus(plan: CorpusPlan, run: str | Path, resources: Resources) -> str:
    """Write the missing parts of a corpus in ``<run>/corpus``, then its datasheet.

    A job that was killed goes on with the parts that are not there. What a row holds depends on its place alone.

    Parameters
    ----------
    plan : CorpusPlan
        What is written.
    run : str or Path
        A folder that all nodes see, or a URL.
    resources : Resources
        `workers` blocks are worked on side by side.

    Returns
    -------
    str
        Folder or URL of the corpus, for `data.corpus` of the stage.

    Raises
    ------
    InputError
        When others' dialogues do not fit, before anything is drawn; when windows cannot be read or the corpus not
        written, after every other part is there; when a row holds what is held out.
    """
    from e2llm_core.stages.corpus.checks import LeakCheck, check_others
    from e2llm_core.stages.corpus.datasheet import Datasheet
    from e2llm_core.stages.corpus.names import WindowNames

    require_resources(resources)
    stage = stage_of(plan)
    data = stage.data
    check, names = LeakCheck(data.split, data.store.trials), WindowNames(stage.training.windows)
    for name in plan.others:
        theirs = [row for row in plan.rows_of_others if row["source"] == name]
        check_others(theirs, name, check)
        for number, row in enumerate(theirs):
            names.numbers(row["windows"], f"{name}: row {number}")
    place = f"{run}/{CORPUS}"
    corpus = Corpus.create(place, manifest_of(plan, stage))
    write_missing(corpus, CorpusWriter, (plan, place, corpus.manifest), resources)
    trials = data.store.trials
    sheet = Datasheet(corpus, check, dict(zip(trials["recording_id"], trials["subject"], strict=True)))
    corpus.place.write(DATASHEET, sheet.text.encode())
    if leaks := {kind: count for kind, count in sheet.leaks.items() if count}:
        raise InputError(place, f"holds what is held out: {leaks}", "Report this: no setting allows it.")
    corpus.complete()
    return place


def stage_of(plan: CorpusPlan) -> "LanguageStage":
    """The stage that a plan is for, whose language model is not loaded."""
    return cast("LanguageStage", plan.stage.stage())


def manifest_of(plan: CorpusPlan, stage: "LanguageStage") -> CorpusManifest:
    """Describe a plan's corpus; `stage` is the stage that the plan makes."""
    from e2llm_core.stages.corpus.source import reading_digest, source_of

    return CorpusManifest(
        source=source_of(stage.data, stage.start),
        split_digest=stage.data.split.digest,
        reading_digest=reading_digest(stage.start),
        stage=stage.name,
        tasks=stage.tasks,
        settings=plan.stage.drawn_with,
        seed=stage.train.seed,
        samples=plan.samples,
        others={name: hashlib.sha256(content).hexdigest() for name, content in plan.others.items()},
        num_others=len(plan.rows_of_others),
        block=plan.block,
        versions={name: version(name) for name in _SOFTWARE},
    )
