"""docs/specs.md has one row for every key of every job spec: what it accepts and its default, as the models say."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from jobs.explain import describe
from jobs.spec import SPECS

ROOT = Path(__file__).resolve().parents[2]


def rows(schema: dict[str, Any], root: dict[str, Any], prefix: str = "") -> Iterator[str]:
    """Yield the first three cells of each key's row, depth first."""
    while "$ref" in schema:
        schema = root["$defs"][schema["$ref"].rsplit("/", 1)[-1]]
    for branch in (*schema.get("anyOf", ()), *schema.get("oneOf", ())):
        yield from rows(branch, root, prefix)
    for name, value in schema.get("properties", {}).items():
        below = list(dict.fromkeys(rows(value, root, f"{prefix}{name}.")))
        if below:
            yield from below
            continue
        required = name in schema.get("required", ()) or ("default" not in value and "const" in value)
        default = "required" if required else f"`{json.dumps(value['default'])}`" if "default" in value else "empty"
        accepts = describe(value, root).replace("|", "\\|")
        yield f"| `{prefix}{name}` | {accepts} | {default} |"


@pytest.mark.parametrize("kind", SPECS)
def test_every_key_is_documented(kind: str) -> None:
    text = (ROOT / "docs" / "specs.md").read_text(encoding="utf-8")
    schema = SPECS[kind].model_json_schema()
    missing = [row for row in dict.fromkeys(rows(schema, schema)) if row not in text]
    assert f"`{kind}`" in text
    assert not missing, "docs/specs.md lacks or contradicts:\n" + "\n".join(missing)


def test_nothing_else_is_documented() -> None:
    text = (ROOT / "docs" / "specs.md").read_text(encoding="utf-8")
    schemas = [model.model_json_schema() for model in SPECS.values()]
    known = tuple(row for schema in schemas for row in rows(schema, schema))
    stale = [line for line in text.splitlines() if line.startswith("| `") and not line.startswith(known)]
    assert not stale
