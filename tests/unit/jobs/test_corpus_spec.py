"""The spec of the corpus job: which stage it names, what is part of its identity, and what it refuses."""

from pathlib import Path

import pytest

from e2llm_core.stages.stage3.plan import Stage3Plan
from jobs.corpus import CorpusSpec, OthersInput
from jobs.load import SpecErrors, load_spec
from jobs.spec import SPECS
from storage.errors import InputError

ROOT = Path(__file__).resolve().parents[3]


def spec(*overrides: str) -> CorpusSpec:
    made = load_spec(ROOT / "jobs/corpus.yaml", overrides, SPECS).spec
    assert isinstance(made, CorpusSpec)
    return made


def test_it_draws_what_the_named_stage_trains():
    plan = spec('overrides=[train.seed=7, data.corpus=elsewhere, "tasks=[IED]"]').training()
    assert isinstance(plan, Stage3Plan)
    assert (plan.train.seed, plan.tasks, plan.data.corpus) == (7, ("IED",), None)
    assert Path(plan.model.start).is_absolute()


@pytest.mark.parametrize(
    ("overrides", "problem"),
    [
        (["stage=jobs/ingest.yaml"], r"stage: jobs/ingest\.yaml: is a ingest job\. Name a spec of stage 2 or 3"),
        (["stage=jobs/features.yaml"], "is a features job"),
        (["overrides=[train.sed=1]"], r"train\.sed"),
        (["stage=jobs/nowhere.yaml"], "nowhere"),
    ],
)
def test_another_kind_of_job_or_a_spec_that_is_not_valid_is_refused_by_check(overrides, problem):
    with pytest.raises(InputError, match=problem):
        spec(*overrides).preview()


def test_two_files_of_one_name_are_refused():
    with pytest.raises(SpecErrors, match=r"two files are named ours\.parquet"):
        spec("others=[a/ours.parquet, b/ours.parquet]")


def test_every_file_of_others_is_an_input_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setenv("E2LLM_ROOT", str(tmp_path))
    inputs = spec(f"others=[{tmp_path}/a.parquet, {tmp_path}/b.parquet]").inputs()
    assert [given.field for given in inputs] == ["stage", "others.0", "others.1"]
    assert isinstance(inputs[1], OthersInput)
    with pytest.raises(InputError, match=r"others: .*a\.parquet: no file here"):
        inputs[1].digest()


@pytest.fixture
def digest(monkeypatch):
    monkeypatch.setattr("jobs.corpus.check_inputs", lambda inputs: {"data.store": "d"})
    monkeypatch.setattr("jobs.corpus.split_digest", lambda inputs: str(inputs))

    def of(*overrides: str) -> str:
        (stage,) = spec(f"overrides=[{', '.join(overrides)}]").inputs()
        return stage.digest()

    return of


@pytest.mark.parametrize(
    "change", ["train.seed=1", "train.max_steps=3", "train.claims.number=2", "data.split.seed=3", '"tasks=[IED]"']
)
def test_what_decides_the_rows_is_part_of_the_identity(digest, change):
    assert digest(change) != digest()


@pytest.mark.parametrize("change", ["train.learning_rate=1.0e-7", "train.lora.r=3"])
def test_what_does_not_is_no_part_of_it(digest, change):
    assert digest(change) == digest()
