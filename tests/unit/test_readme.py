"""What the README and the documents name exists, and every command line in them is accepted as written."""

import re
import shlex
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from jobs.cli import app
from jobs.load import load_spec
from jobs.spec import SPECS

ROOT = Path(__file__).resolve().parents[2]
NAMES = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")
PAGES = [*(ROOT / name for name in NAMES), *sorted((ROOT / "docs").glob("*.md"))]
SPEC_FILES = sorted((ROOT / "jobs").glob("*.yaml"))
_BLOCK = re.compile(r"```(\w+)\n(.*?)```", re.DOTALL)
_CODE = re.compile(r"`([^`\n]+)`")


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def commands(page: Path) -> list[list[str]]:
    """Return every command line of a page, as words, from its shell blocks and its code spans."""
    text = page.read_text(encoding="utf-8")
    if page.suffix == ".md":
        lines = [line for kind, body in _BLOCK.findall(text) if kind == "bash" for line in body.splitlines()]
        lines += _CODE.findall(_BLOCK.sub("", text))
    else:
        lines = [line.removeprefix("#   ") for line in text.splitlines() if line.startswith("#   ")]
    starts = ("make ", "e2llm ", "ray job submit ", "sbatch ", "./jobs/", "eval ")
    return [shlex.split(line, comments=True) for line in lines if line.startswith(starts) and "…" not in line]


def overrides_of(words: list[str], place: int) -> list[str]:
    """Overrides behind the spec at a place of a command line; the options of ``e2llm`` may have values of their own."""
    if words[0] != "e2llm":
        return [word for word in words[place + 1 :] if not word.startswith("-")]
    command = typer.main.get_command(app).commands[words[1]]
    return list(command.make_context(words[1], words[2:]).params.get("overrides") or [])


def leaves(page: Path) -> list[str]:
    return re.findall(r"\]\(([^)#\s]+)", _BLOCK.sub("", page.read_text(encoding="utf-8")))


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    missing = [link for link in leaves(page) if "://" not in link and not (page.parent / link).exists()]
    assert not missing


@pytest.mark.parametrize("page", [*PAGES, *SPEC_FILES], ids=name_of)
def test_specs_are_accepted_with_the_overrides_shown(page: Path) -> None:
    for words in commands(page):
        places = [place for place, word in enumerate(words) if word.endswith(".yaml")]
        if words[0] == "make" or not places:
            continue
        overrides = [word.replace("{task}", "1") for word in overrides_of(words, places[0])]
        load_spec(ROOT / words[places[0]].removeprefix("./"), overrides, SPECS)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_make_targets_exist(page: Path) -> None:
    targets = re.findall(r"^([\w.-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    named = {word for words in commands(page) if words[0] == "make" for word in words[1:] if "=" not in word}
    assert named <= set(targets)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_e2llm_commands_exist(page: Path) -> None:
    group = typer.main.get_command(app)
    for words in commands(page):
        if words[0] != "e2llm":
            continue
        command = group
        for word in words[1:]:
            known = getattr(command, "commands", None)
            if known is None:
                break
            assert word in known, " ".join(words)
            command = known[word]


def test_the_light_commands_run_as_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "jobs").symlink_to(ROOT / "jobs")
    monkeypatch.chdir(tmp_path)
    light = [words for words in commands(ROOT / "README.md") if words[:2] in (["e2llm", "check"], ["e2llm", "schema"])]
    assert len(light) == 2
    for words in light:
        result = CliRunner().invoke(app, words[1:])
        assert result.exit_code == 0, result.output
    assert (tmp_path / "schema.json").exists()


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_python_blocks_compile(page: Path) -> None:
    for kind, body in _BLOCK.findall(page.read_text(encoding="utf-8")):
        if kind == "python":
            compile(body, str(page), "exec")
