"""The spec of the corpus job, which names the spec of a stage. Light to import."""

import hashlib
import json
import posixpath
from dataclasses import dataclass
from typing import Any, Literal, Self, cast

from pydantic import Field, model_validator

from e2llm_core.plan import Input, check_inputs, split_digest
from e2llm_core.stages.config import LanguageStagePlan
from jobs.job import ClusterJob, absolute
from jobs.load import load_spec
from jobs.paths import root_folder, spec_file
from jobs.run_folder import chained_digest
from storage.errors import InputError
from storage.places.base import Place
from storage.places.location import locate


@dataclass(frozen=True)
class StageInput(Input):
    """The stage that a corpus is written for, with what it reads.

    Attributes
    ----------
    spec : str
        File that describes it.
    """

    spec: str
    stage: LanguageStagePlan

    def digest(self) -> str:
        """Digest of the settings that decide what is drawn, of the split, and of the stage's inputs."""
        try:
            inputs = self.stage.inputs()
            checked = check_inputs(inputs)
        except InputError as error:
            raise InputError(f"stage: {self.spec}: {error.place}", error.problem, error.remedy) from None
        rows = self.stage.train.max_steps * self.stage.train.global_batch
        settings = self.stage.drawn_with | {"split": split_digest(inputs), "rows": rows}
        own = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
        return chained_digest(own, list(checked.values()))

    def split_digest(self) -> str | None:
        """Of the stage's split."""
        return split_digest(self.stage.inputs())


@dataclass(frozen=True)
class OthersInput(Input):
    """A file of others' dialogues about windows of a stage."""

    path: str
    stage: LanguageStagePlan

    def digest(self) -> str:
        """SHA-256 of its content."""
        from e2llm_core.stages.corpus.checks import others_of
        from e2llm_core.stages.data import EEGData

        content = _content(self.path)
        others_of(EEGData.open(self.stage.data), posixpath.basename(self.path), content)
        return hashlib.sha256(content).hexdigest()


class CorpusSpec(ClusterJob):
    """The dialogues of stage 2 or 3, drawn beforehand into Parquet."""

    kind: Literal["corpus"]
    stage: str = Field(min_length=1, description="spec of the stage that will train on it, such as jobs/stage3.yaml")
    overrides: tuple[str, ...] = Field((), description="key.path=value, settings of the stage that override the file's")
    samples: int | None = Field(None, ge=1, description="rows in all; null: as many as the stage's training reads")
    others: tuple[Place, ...] = Field((), description="Parquet files of your own dialogues, mixed in evenly")
    block: int = Field(4096, ge=1, description="rows that are drawn and written together")

    def training(self) -> LanguageStagePlan:
        """The stage's plan, with absolute paths.

        Raises
        ------
        InputError
            When the spec is not valid, or is of another kind of job.
        """
        from jobs.spec import SPECS, TrainingJob

        job = load_spec(spec_file(self.stage), self.overrides, SPECS).spec
        if not isinstance(job, LanguageStagePlan):
            kind = job.model_dump()["kind"]
            raise InputError(f"stage: {self.stage}", f"is a {kind} job", "Name a spec of stage 2 or 3.")
        plan = cast(LanguageStagePlan, cast(TrainingJob, absolute(job, root_folder())).plan())
        return plan.model_copy(update={"data": plan.data.model_copy(update={"corpus": None})})

    @model_validator(mode="after")
    def _others_have_names_of_their_own(self) -> Self:
        names = [posixpath.basename(path) for path in self.others]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"others: two files are named {twice[0]}, by which rows name their source")
        return self

    def preview(self) -> None:
        """Check the stage's spec."""
        self.training()

    def inputs(self) -> tuple[Input, ...]:
        """What the stage reads, and others' dialogues."""
        stage = self.training()
        others = (OthersInput(f"others.{number}", path, stage) for number, path in enumerate(self.others))
        return (StageInput("stage", self.stage, stage), *others)

    def work(self, facts: dict[str, Any]) -> None:
        """Write the corpus."""
        from cluster.batch.corpus import CorpusPlan, write_corpus

        others = {posixpath.basename(path): _content(path) for path in self.others}
        plan = CorpusPlan(self.training(), self.samples, others, self.block)
        print(f"[{self.kind}] {write_corpus(plan, self.run, self.resources)}", flush=True)


def _content(path: str) -> bytes:
    """Content of a file that a spec names; raises `InputError` where there is none."""
    folder, name = posixpath.split(path)
    place = locate(folder)
    if not place.exists(name):
        raise InputError(f"others: {path}", "no file here", "Correct the path.")
    return place.read(name)
