"""A spec cannot name code: no text in it is imported, evaluated, run by a shell, or made into an object."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from jobs.job import absolute
from jobs.load import json_schema, load_spec
from jobs.spec import SPECS
from storage.errors import InputError

ROOT = Path(__file__).resolve().parents[3]
SPEC_FILES = [*sorted((ROOT / "jobs").glob("*.yaml")), ROOT / "jobs/demo/stage1.yaml"]
MODULE = "named_by_a_spec"
HOSTILE = (
    f"{MODULE}:run",
    f"{MODULE}.run",
    MODULE,
    f"__import__('{MODULE}')",
    f"{{{{ __import__('{MODULE}') }}}}",
    f"${{oc.create:{MODULE}.run}}",
    f"$(python -m {MODULE})",
    f"; python -m {MODULE};",
    f"!!python/name:{MODULE}.run",
)
TAGS = (
    f'!!python/object/apply:{MODULE}.run ["now"]',
    f"!!python/object/new:{MODULE}.run [now]",
    f"!!python/module:{MODULE}",
    f"!!python/name:{MODULE}.run",
    "!!python/object/apply:os.system [touch executed]",
    "!!python/tuple [1, 2]",
)
NAMES_OF_LAYERS = {"target_modules"}
SPEAKS_OF_CODE = (
    "import",
    "module",
    "class",
    "callable",
    "function",
    "script",
    "command",
    "hook",
    "remote_code",
    "eval_",
)


@pytest.fixture(autouse=True)
def trap(monkeypatch, tmp_path):
    """A module that leaves a file when it is imported or run, in the current folder."""
    (tmp_path / f"{MODULE}.py").write_text("open('executed', 'w').close()\ndef run(*_): pass\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    yield
    assert not (tmp_path / "executed").exists()
    assert MODULE not in sys.modules


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Places of all texts and numbers of a document; of a list, of its first entry."""
    if isinstance(value, dict | list):
        entries = value.items() if isinstance(value, dict) else list(enumerate(value))[:1]
        for key, below in entries:
            yield from leaves(below, (*path, key))
    else:
        yield path


def replaced(document: Any, path: tuple[Any, ...], text: str) -> Any:
    """A copy with another value at one place."""
    if not path:
        return text
    copy = dict(document) if isinstance(document, dict) else list(document)
    copy[path[0]] = replaced(document[path[0]], path[1:], text)
    return copy


@pytest.mark.parametrize("file", SPEC_FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_no_value_of_a_spec_is_executed(file, tmp_path):
    document = yaml.safe_load(file.read_text())
    accepted = 0
    for number, path in enumerate(leaves(document)):
        spec = tmp_path / "spec.yaml"
        spec.write_text(yaml.safe_dump(replaced(document, path, HOSTILE[number % len(HOSTILE)])))
        try:
            loaded = load_spec(spec, [], SPECS)
        except InputError:
            continue
        absolute(loaded.spec, tmp_path).model_dump_json()
        accepted += 1
    assert accepted, "every text was refused, nothing was tried"


@pytest.mark.parametrize("text", [*HOSTILE, *TAGS])
def test_no_override_is_executed(text):
    with pytest.raises(InputError):
        load_spec(ROOT / "jobs/stage1.yaml", [f"train.max_steps={text}"], SPECS)


@pytest.mark.parametrize("tag", TAGS)
def test_tags_that_make_objects_are_refused_with_their_line(tag, tmp_path):
    spec = tmp_path / "spec.yaml"
    spec.write_text(f"kind: stage1\nrun: {tag}\n")
    with pytest.raises(InputError, match=r"spec\.yaml:2"):
        load_spec(spec, [], SPECS)


def keys(schema: Any) -> Iterator[str]:
    """Names of all properties, at any depth."""
    if isinstance(schema, dict):
        yield from schema.get("properties", {})
        for below in schema.values():
            yield from keys(below)
    elif isinstance(schema, list):
        for below in schema:
            yield from keys(below)


def test_no_key_of_any_spec_speaks_of_code():
    found = set(keys(json_schema(SPECS))) - NAMES_OF_LAYERS
    assert len(found) > 100
    assert not [key for key in found if any(word in key for word in SPEAKS_OF_CODE)]
