"""A corpus of dialogues with Ray Data: blocks of places in the order of training in, one Parquet file per block out."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from cluster.batch.blocks import BlockWriter, write_missing
from cluster.resources import Resources, require_resources
from e2llm_core.stages.config import LanguageStagePlan
from storage.corpus import CORPUS, DATASHEET, Corpus, CorpusManifest
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
    samples : int or None
        Rows in all, those of others among them; None: as many as the stage's training reads.
    others : mapping of str to bytes
        Content of each file of others' dialogues, by its name.
    block : int
        Rows that are drawn and written together.
    """

    stage: LanguageStagePlan
    samples: int | None
    others: Mapping[str, bytes]
    block: int


class CorpusWriter(BlockWriter):
    """Draws blocks of dialogues and writes them; holds the stage without its language model.

    Parameters
    ----------
    stage : LanguageStagePlan
        Stage that will train on it.
    others : sequence of dict
        Rows of others.
    place : str
        Location of the corpus, whose writing has begun.
    manifest : CorpusManifest
        Description of the corpus.
    """

    def __init__(
        self, stage: LanguageStagePlan, others: Sequence[dict[str, Any]], place: str, manifest: CorpusManifest
    ) -> None:
        from e2llm_core.stages.corpus.writing import CorpusRows

        made = stage_of(stage)
        made.tell_without_llm()
        self._corpus = Corpus(place, manifest)
        self._rows = CorpusRows(made, manifest, others)

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
        When others' dialogues do not fit, or signals cannot be read; when a row holds what is held out.
    """
    from e2llm_core.stages.corpus.checks import LeakCheck, others_of
    from e2llm_core.stages.corpus.datasheet import Datasheet

    require_resources(resources)
    stage = stage_of(plan.stage)
    data, trials = stage.data, stage.data.store.trials
    others = [row for name, content in plan.others.items() for row in others_of(data, name, content)]
    place = f"{run}/{CORPUS}"
    corpus = Corpus.create(place, manifest_of(plan, stage, len(others)))
    write_missing(corpus, CorpusWriter, (plan.stage, others, place, corpus.manifest), resources)
    corpus.seal()
    subjects = dict(zip(trials["recording_id"], trials["subject"], strict=True))
    sheet = Datasheet(corpus, LeakCheck(data.split, trials), subjects)
    corpus.place.write(DATASHEET, sheet.text.encode())
    if leaks := {kind: count for kind, count in sheet.leaks.items() if count}:
        raise InputError(place, f"holds what is held out: {leaks}", "Report this: no setting allows it.")
    corpus.complete()
    return place


def stage_of(plan: LanguageStagePlan) -> "LanguageStage":
    """The stage of a plan, whose language model is not loaded."""
    return cast("LanguageStage", plan.stage())


def manifest_of(plan: CorpusPlan, stage: "LanguageStage", num_others: int) -> CorpusManifest:
    """Describe a plan's corpus.

    Parameters
    ----------
    plan : CorpusPlan
        What is written.
    stage : LanguageStage
        Its stage.
    num_others : int
        Rows of others.

    Raises
    ------
    InputError
        When others have more rows than the corpus.
    """
    from e2llm_core.stages.corpus.source import reading_digest, source_of

    rows = plan.samples or plan.stage.train.max_steps * plan.stage.train.global_batch
    if num_others >= rows:
        problem = f"hold {num_others:,} dialogues, and the corpus {rows:,} rows in all"
        raise InputError("others", problem, "Raise `samples`.")
    return CorpusManifest(
        source=source_of(stage.data, stage.start),
        split_digest=stage.data.split.digest,
        reading_digest=reading_digest(stage.start),
        stage=stage.name,
        settings=plan.stage.drawn_with,
        seed=stage.train.seed,
        samples=rows - num_others,
        others={name: hashlib.sha256(content).hexdigest() for name, content in plan.others.items()},
        num_others=num_others,
        block=plan.block,
        versions={name: version(name) for name in _SOFTWARE},
    )
