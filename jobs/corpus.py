"""The spec of the corpus job, which names the spec of a stage. Light to import."""

import hashlib
import json
import posixpath
from dataclasses import dataclass
from typing import Any, Literal, cast

from pydantic import Field

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
    """The stage that a corpus is written for, with what it reads."""

    stage: LanguageStagePlan

    def digest(self) -> str:
        """Digest of the settings that decide what is drawn, and of the stage's inputs."""
        settings = hashlib.sha256(json.dumps(self.stage.drawn_with, sort_keys=True).encode()).hexdigest()
        return chained_digest(settings, list(check_inputs(self.stage.inputs()).values()))

    def split_digest(self) -> str | None:
        """Of the stage's split."""
        return split_digest(self.stage.inputs())


@dataclass(frozen=True)
class OthersInput(Input):
    """A file of others' dialogues."""

    path: str

    def digest(self) -> str:
        """SHA-256 of its content."""
        return hashlib.sha256(_content(self.field, self.path)).hexdigest()


class CorpusSpec(ClusterJob):
    """The dialogues of stage 2 or 3, drawn beforehand into Parquet."""

    kind: Literal["corpus"]
    stage: str = Field(min_length=1, description="spec of the stage that will train on it, such as jobs/stage3.yaml")
    overrides: tuple[str, ...] = Field((), description="key.path=value, settings of the stage that override the file's")
    samples: int | None = Field(
        None, ge=1, description="dialogues to draw; null: as many as the stage's training asks for"
    )
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

    def inputs(self) -> tuple[Input, ...]:
        """What the stage reads, and others' dialogues."""
        return (StageInput("stage", self.training()), *(OthersInput("others", path) for path in self.others))

    def work(self, facts: dict[str, Any]) -> None:
        """Write the corpus."""
        from cluster.batch.corpus import CorpusPlan, write_corpus

        stage = self.training()
        samples = self.samples or stage.train.max_steps * stage.train.global_batch
        others = {str(path): _content("others", path) for path in self.others}
        place = write_corpus(CorpusPlan(stage, samples, others, self.block), self.run, self.resources)
        print(f"[{self.kind}] {place}", flush=True)


def _content(field: str, path: str) -> bytes:
    """Content of a file that a spec names; raises `InputError` where there is none."""
    folder, name = posixpath.split(path)
    place = locate(folder)
    if not place.exists(name):
        raise InputError(f"{field}: {path}", "no file here", "Correct the path.")
    return place.read(name)
