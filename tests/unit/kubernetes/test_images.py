"""The Dockerfiles, which are not built here: pinned, from the project's constraints, without root or secrets."""

import fnmatch
import json
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
FOLDER = ROOT / "cluster" / "kubernetes"
DOCKERFILES = [FOLDER / "Dockerfile", FOLDER / "Dockerfile.gpu"]
INSTRUCTIONS = {"FROM", "RUN", "WORKDIR", "ENV", "ARG", "COPY", "USER", "CMD"}
SECRET_FILES = ["ray.token", "serve.token", "e2llm.token", "cloud.env"]
images = pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)


def instructions(path: Path) -> list[tuple[str, str]]:
    """Instruction and arguments, continued lines joined."""
    text = "\n".join(line for line in path.read_text().splitlines() if not line.lstrip().startswith("#"))
    joined = re.sub(r"\\\n\s*", "", text)
    found = [tuple(line.split(maxsplit=1)) for line in joined.splitlines() if line.strip()]
    assert all(len(one) == 2 and one[0] in INSTRUCTIONS for one in found), found
    return [(one[0], one[1]) for one in found]


@images
def test_bases_are_pinned_to_a_full_version(path):
    bases = [words.split()[0] for name, words in instructions(path) if name == "FROM"]
    assert len(bases) == 2
    for base in bases:
        assert re.fullmatch(r"[\w./-]+:\d+\.\d+\.\d+-[\w.-]+(@sha256:[0-9a-f]{64})?", base), base
    assert len(set(bases)) == 1


@images
def test_every_package_is_constrained(path):
    installs = [
        part
        for name, words in instructions(path)
        if name == "RUN"
        for part in words.split("&&")
        if "pip install" in part
    ]
    assert installs
    assert all("--constraint constraints.txt" in part for part in installs)
    assert "--editable ." in installs[-1]
    assert "torch" in installs[0].split()


def test_flash_attn_is_pinned_beside_the_constraints():
    lines = [line for line in (FOLDER / "constraints-gpu.txt").read_text().splitlines() if not line.startswith("#")]
    assert len(lines) == 1
    assert re.fullmatch(r"flash-attn==[\w.]+", lines[0])
    installs = [words for name, words in instructions(DOCKERFILES[1]) if name == "RUN" and "flash-attn" in words]
    assert len(installs) == 1
    assert "--constraint constraints-gpu.txt --no-build-isolation" in installs[0]


@images
def test_it_ends_as_an_ordinary_user_with_the_uid_of_the_pods(path):
    last = [words for name, words in instructions(path) if name == "USER"]
    assert last == ["1000"]
    assert "runAsUser: 1000" in (FOLDER / "base" / "cluster" / "raycluster.yaml").read_text()


@images
def test_what_is_copied_and_started_exists(path):
    for name, words in instructions(path):
        if name == "COPY" and not words.startswith("--from="):
            *sources, _ = words.split()
            assert all((ROOT / source).exists() for source in sources), words
        if name == "CMD":
            command, *_ = json.loads(words)
            assert command in tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    copied = [words for name, words in instructions(path) if name == "COPY"]
    assert not [words for words in copied if words.split()[0] in {".", "./"}], "names what it needs"


@images
def test_it_holds_no_secret(path):
    for name, words in instructions(path):
        assert name not in {"ENV", "ARG"} or not re.search(r"token|secret|passw|_key", words, re.IGNORECASE), words
        assert not re.search(r"://[^/\s]*@", words)


@images
def test_a_login_shell_finds_the_packages_too(path):
    """Some versions of KubeRay start Ray by one, and it sets PATH anew."""
    run = " ".join(words for name, words in instructions(path) if name == "RUN")
    environment = " ".join(words for name, words in instructions(path) if name == "ENV")
    assert "export PATH=/opt/venv/bin:$PATH" in run
    assert "/etc/profile.d/" in run
    assert "PATH=/opt/venv/bin:$PATH" in environment


@pytest.mark.parametrize(
    "name",
    [".git", "data", "runs", ".venv", "tests", "a/b.zarr", "jobs/__pycache__", "x/.env", "id.pem", *SECRET_FILES],
)
def test_the_build_context_leaves_out(name):
    patterns = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    assert any(
        fnmatch.fnmatch(name, p.removeprefix("**/")) or fnmatch.fnmatch(Path(name).name, p.removeprefix("**/"))
        for p in patterns
    )


@pytest.mark.parametrize("name", SECRET_FILES)
def test_git_leaves_out_what_the_pages_tell_to_make_in_the_repository(name):
    patterns = (ROOT / ".gitignore").read_text().splitlines()
    assert any(fnmatch.fnmatch(name, pattern) for pattern in patterns)
    pages = "".join(path.read_text() for path in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
    assert name in pages
