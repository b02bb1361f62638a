"""A published table comes out again, or says where it does not; what has changed since is refused before it runs."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from jobs.cli import app
from jobs.reproduction.cells import Cell
from jobs.reproduction.page import digest_of, tables_of
from storage.twin import TwinConfig, twin_digest

SPEC = """\
kind: evaluate
run: runs/tested
data: {store: store.zarr}
model: tuned
"""
INGEST = """\
kind: ingest
run: runs/ingest
dataset: twin
store: store.zarr
source: {format: seed-vii, root: twin}
twin: {num_subjects: 1, clip_seconds: 4, fresh: {seed: 19, num_subjects: 1}}
"""
PAGE = """\
# Results

<!-- table: small
specs: [tested.yaml]
where: {metric: accuracy}
rows: [model]
columns: task
names: {de_svm: "DE | SVM"}
-->

What follows.

<!-- table: other
specs: [ingest.yaml, tested.yaml]
where: {metric: f1, task: A}
rows: [model, task]
also: [chance, n_subjects]
-->
"""
RESULTS = [
    {"task": "A", "model": "e2llm", "metric": "accuracy", "value": 0.51249, "ci_low": 0.4, "ci_high": 0.6},
    {"task": "B", "model": "e2llm", "metric": "accuracy", "value": 0.7, "ci_low": None, "ci_high": None},
    {"task": "A", "model": "de_svm", "metric": "accuracy", "value": 0.3, "ci_low": -0.1, "ci_high": 0.4},
    {"task": "A", "model": "e2llm", "metric": "f1", "value": 0.9, "ci_low": 0.8, "ci_high": 1.0},
]
RESULTS = [row | {"chance": 0.5, "n_subjects": 20} for row in RESULTS]
SMALL = """\
| model | A | B |
|---|---:|---:|
| e2llm | 0.512 (0.400 to 0.600) | 0.700 |
| DE \\| SVM | 0.300 (-0.100 to 0.400) | – |
"""
Results = list[dict[str, Any]]


@pytest.fixture
def jobs(root: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A page and its specs, and what was run, where a job takes its results from ``found.json``."""
    (root / "tested.yaml").write_text(SPEC)
    (root / "ingest.yaml").write_text(INGEST)
    (root / "page.md").write_text(PAGE)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    ran: list[str] = []

    def execute(path: Path, overrides: list[str], *, local: bool, check: bool) -> None:
        assert not overrides
        assert not check
        ran.append(f"{path.name} {'here' if local else 'on the cluster'}")
        summary = root / "runs" / "tested" / "summary.json"
        summary.parent.mkdir(parents=True, exist_ok=True)
        summary.write_text((root / "found.json").read_text())

    monkeypatch.setattr("jobs.__main__.execute", execute)
    found(root, RESULTS)
    return ran


def found(root: Path, results: Results) -> None:
    (root / "found.json").write_text(json.dumps({"results": results}))


def say(*words: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["reproduce", *words])
    return result.exit_code, " ".join(result.output.split())


@pytest.fixture
def written(root: Path, jobs: list[str]) -> list[str]:
    """The page with the numbers of both tables."""
    for name in ("small", "other"):
        assert say(f"page.md#{name}", "--write") == (0, "")
    jobs.clear()
    return jobs


def test_numbers_are_written_into_the_page(root: Path, written: list[str]) -> None:
    text = (root / "page.md").read_text()
    digest = digest_of(["tested.yaml"])
    assert (
        f'names: {{de_svm: "DE | SVM"}}\ndigest: {digest}\n-->\n\n{SMALL}\nWhat follows.\n\n<!-- table: other\n' in text
    )
    assert "| model | task | value (95 % interval) | chance | n_subjects |\n|---|---|---:|---:|---:|\n" in text
    assert "| e2llm | A | 0.900 (0.800 to 1.000) | 0.500 | 20 |\n" in text


def test_the_twin_stands_below_its_table(root: Path, written: list[str]) -> None:
    last = (root / "page.md").read_text().splitlines()[-1]
    fresh = twin_digest(TwinConfig(seed=19, num_subjects=1, clip_seconds=4))[:12]
    assert last.startswith("*Twin: effect 0.7; seed 7, digest `")
    assert last.endswith(f"subjects 2 to 2 those of seed 19, digest `{fresh}`*")


def test_writing_again_changes_nothing(root: Path, written: list[str]) -> None:
    before = (root / "page.md").read_text()
    for name in ("other", "small"):
        assert say(f"page.md#{name}", "--write") == (0, "")
    assert (root / "page.md").read_text() == before


def test_what_comes_out_again_agrees(root: Path, written: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    status, output = say("page.md#small")
    assert (status, output.count("agrees")) == (0, 3)
    assert output.endswith(f"page.md#small: 3 of 3 cells agree; results: {root}/runs/tested")
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:6379")
    assert say("page.md#other")[0] == 0
    assert written == ["tested.yaml here", "ingest.yaml on the cluster", "tested.yaml on the cluster"]


def shifted(by: float, number: int = 0) -> Results:
    """Results of another machine: one value elsewhere."""
    return [row | {"value": row["value"] + by} if place == number else row for place, row in enumerate(RESULTS)]


@pytest.mark.parametrize(
    ("results", "status", "said"),
    [
        (shifted(0.08), 0, "0.592 (0.400 to 0.600) │ agrees"),
        (shifted(-0.12), 1, "0.392 (0.400 to 0.600) │ differs"),
        (shifted(0.0004, 1), 0, "3 of 3 cells agree"),
        (shifted(0.002, 1), 1, "0.700 │ 0.702 │ differs"),
        (RESULTS[1:], 1, "is gone"),
        ([*RESULTS, RESULTS[0] | {"model": "probe"}], 1, "is new"),
    ],
)
def test_numbers_of_another_machine(root: Path, written: list[str], results: Results, status: int, said: str) -> None:
    found(root, results)
    got, output = say("page.md#small")
    assert got == status
    assert said in output


def edit(root: Path, name: str, old: str, new: str) -> None:
    text = (root / name).read_text()
    assert old in text
    (root / name).write_text(text.replace(old, new, 1))


@pytest.mark.parametrize(
    ("file", "old", "new", "said"),
    [
        (
            "tested.yaml",
            "model: tuned",
            "model: other",
            r"page.md#small: was made from specs \(\w{12}\) that have changed",
        ),
        ("tested.yaml", "model: tuned", "modle: tuned", r"tested.yaml:4: modle: unknown key"),
        ("page.md", "[tested.yaml]", "[gone.yaml]", r"gone.yaml: no such file"),
        ("page.md", "digest: ", "# ", r"page.md#small: does not record the digest of its specs"),
        ("page.md", "0.700", "about 0.7", r"page.md#small: e2llm / B: 'about 0.7' is not a number"),
        ("page.md", "| e2llm | 0.512", "| DE \\| SVM | 0.512", r"page.md#small: DE \| SVM / A occurs twice"),
        ("page.md", "| model |", "| who |", r"page.md#small: its columns are who, A, B"),
        ("page.md", "|---|---:|---:|\n", "", r"page.md#small: its comment is not followed by a table"),
        ("page.md", " | 0.700 |", " |", r"page.md#small: the row e2llm \| 0.512 .* does not have 3 cells"),
        ("page.md", "rows: [model]", "rows: []", r"page.md:3: the table's comment: rows: "),
        ("page.md", "rows: [model]", "rows: [model", r"page.md:3: the table's comment is not YAML"),
        ("page.md", "columns: task", "columns: task\nalso: [chance]", r"page.md:3: .* both `also` and `columns`"),
        ("page.md", "table: other", "table: small", r"page.md:19: is a second table named small"),
    ],
)
def test_what_is_refused_before_anything_runs(
    root: Path, written: list[str], file: str, old: str, new: str, said: str
) -> None:
    edit(root, file, old, new)
    status, output = say("page.md#small")
    assert status == 2, output
    assert re.search(said, output), output
    assert written == []


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("page.md#large", "there is no table large. It has small, other."),
        ("page.md", "names no table. It has small, other."),
        ("none.md#small", "none.md: cannot be read (No such file or directory)."),
        ("tested.yaml#small", "there is no table small. It has none"),
    ],
)
def test_tables_that_are_none(jobs: list[str], target: str, said: str) -> None:
    status, output = say(target)
    assert status == 2
    assert said in output
    assert jobs == []


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("where: {metric: accuracy}", "where: {metrics: accuracy}", "names metrics, which no result has. Results have"),
        ("where: {metric: accuracy}", "where: {metric: kappa}", "no result matches `where` in its comment"),
        ("where: {metric: accuracy}", "where: {}", "several results belong at e2llm / A"),
    ],
)
def test_comments_that_do_not_fit_the_results(root: Path, written: list[str], old: str, new: str, said: str) -> None:
    edit(root, "page.md", old, new)
    status, output = say("page.md#small")
    assert status == 2
    assert said in output


def test_a_run_without_results(root: Path, written: list[str]) -> None:
    (root / "found.json").write_text("{}")
    status, output = say("page.md#small")
    assert status == 2
    assert "summary.json: holds no results with values" in output


def test_the_digest_is_of_what_specs_say(root: Path, jobs: list[str]) -> None:
    before = digest_of(["tested.yaml"])
    (root / "tested.yaml").write_text(
        f"# a comment\nmodel: tuned\n{SPEC.replace('model: tuned', 'resources: {workers: 9}')}"
    )
    edit(root, "tested.yaml", "runs/tested", "runs/elsewhere")
    assert digest_of(["tested.yaml"]) == before
    (root / "chain.yaml").write_text("kind: chain\nchain: [{spec: tested.yaml}]\n")
    above = digest_of(["chain.yaml"])
    edit(root, "tested.yaml", "tuned", "other")
    assert digest_of(["tested.yaml"]) != before
    assert digest_of(["chain.yaml"]) != above
    (root / "chain.yaml").write_text("kind: chain\nchain: [{spec: chain.yaml}]\n")
    assert len(digest_of(["chain.yaml"])) == 64


numbers = st.floats(-1, 1)


@given(value=numbers, ends=st.none() | st.tuples(numbers, numbers))
def test_cells_are_read_as_they_were_written(value: float, ends: tuple[float, float] | None) -> None:
    cell = Cell.of(value, *(ends or (None, None)))
    assert Cell.parse(str(cell)) == cell
    assert str(Cell.parse(str(cell))) == str(cell)


def test_published_tables_name_specs_that_there_are() -> None:
    """Their numbers are compared by `e2llm reproduce`, which takes hours; a spec that moved shows here."""
    pages = sorted((Path(__file__).resolve().parents[3] / "docs").glob("*.md"))
    tables = [table for page in pages for table in tables_of(page).values()]
    assert [table.place for table in tables if not table.cells() or len(digest_of(table.spec.specs)) != 64] == []


def test_a_list_of_values_selects_the_results_of_any_of_them(root: Path, written: list[str]) -> None:
    edit(root, "page.md", "where: {metric: f1, task: A}", "where: {metric: [f1, accuracy], model: [e2llm], task: A}")
    edit(root, "page.md", "rows: [model, task]", "rows: [metric]")
    status, output = say("page.md#other", "--write")
    assert status == 0, output
    page = (root / "page.md").read_text()
    assert "| f1 | 0.900 (0.800 to 1.000) |" in page
    assert "| accuracy | 0.512 (0.400 to 0.600) |" in page
