"""Turn pydantic's validation errors into lines a user can act on.

pydantic reports what is wrong and where; what would have been right is taken from the model's own
JSON Schema, so nothing about a key is written down twice.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Collection, Iterable, Iterator
from typing import Any

from pydantic import BaseModel, ValidationError

from jobs.source import Document, Keys, show
from storage.places.base import PLACE_FORMAT

_Schema = dict[str, Any]


def nearest(word: object, known: Iterable[str]) -> str:
    """Return ``; did you mean '...'?`` for the closest known word, or an empty string."""
    matches = difflib.get_close_matches(str(word), list(known), n=1, cutoff=0.6)
    return f"; did you mean '{matches[0]}'?" if matches else ""


def unknown(what: str, word: object, known: Collection[str]) -> str:
    """Return ``unknown <what> '<word>'`` with the nearest known word and all of them."""
    hint, names = nearest(word, known), ", ".join(known)
    return f"unknown {what} {word!r}{hint} One of {names}" if hint else f"unknown {what} {word!r}; one of {names}"


def problems_of(error: ValidationError, model: type[BaseModel], document: Document) -> list[str]:
    """Return one line for each distinct problem, in the order of the file.

    Parameters
    ----------
    error : ValidationError
        Error that pydantic raised for ``document.data``.
    model : type
        The model it was validated against.
    document : Document
        The source, for line numbers and the values given.
    """
    root = model.model_json_schema()
    found: dict[tuple[Keys, str], str] = {}
    for item in error.errors(include_url=False):
        keys, schema = _locate(item["loc"], document.data, root)
        if item["type"] in ("union_tag_not_found", "union_tag_invalid"):
            keys = (*keys, str(item["ctx"]["discriminator"]).strip("'"))
        text = _explain(dict(item), keys, schema, root)
        where = document.place(keys)
        found.setdefault((keys, text), f"{where}: {show(keys)}: {text}" if keys else f"{where}: {text}")
    ordered = sorted(found.items(), key=lambda entry: document.line(entry[0][0]))
    return [line for _, line in ordered]


def describe(schema: _Schema, root: _Schema) -> str:
    """Say in words what a JSON Schema accepts, for example ``an integer >= 1``.

    Parameters
    ----------
    schema : dict
        The schema of one key.
    root : dict
        The schema that holds ``$defs``.
    """
    schema = _resolve(schema, root)
    if "const" in schema:
        return repr(schema["const"])
    if "enum" in schema:
        return "one of " + ", ".join(map(repr, schema["enum"]))
    branches = schema.get("anyOf") or schema.get("oneOf")
    if branches:
        return " or ".join(dict.fromkeys(describe(branch, root) for branch in branches))
    words = {
        "integer": "an integer",
        "number": "a number",
        "string": _TEXTS.get(schema.get("format", ""), "text"),
        "boolean": "true or false",
        "array": "a list",
        "object": "a mapping",
        "null": "null",
    }
    return words.get(str(schema.get("type")), "another value") + _limits(schema)


_TEXTS = {"path": "a path", "file-path": "a path", "directory-path": "a path", PLACE_FORMAT: "a folder or URL"}
"""What a text of some format is."""


def _limits(schema: _Schema) -> str:
    signs = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}
    bounds = [f"{sign} {schema[name]:g}" for name, sign in signs.items() if name in schema]
    if "multipleOf" in schema:
        bounds.append(f"a multiple of {schema['multipleOf']:g}")
    text = f" {' and '.join(bounds)}" if bounds else ""
    for low, high, unit in (("minItems", "maxItems", "items"), ("minLength", "maxLength", "characters")):
        if low in schema and schema.get(low) == schema.get(high):
            text += f" of exactly {schema[low]} {unit}"
        elif low in schema or high in schema:
            ends = [f"at least {schema[low]}"] if low in schema else []
            ends += [f"at most {schema[high]}"] if high in schema else []
            text += f" of {' and '.join(ends)} {unit}"
    if "pattern" in schema:
        text += f" matching {schema['pattern']}"
    return text


def _explain(item: dict[str, Any], keys: Keys, schema: _Schema | None, root: _Schema) -> str:
    kind, context = item["type"], item.get("ctx", {})
    if kind == "extra_forbidden":
        known = list(_properties(schema, root))
        return f"unknown key{nearest(keys[-1], known) or '; known keys: ' + ', '.join(known)}"
    if kind == "missing":
        wanted = f"; expected {describe(schema, root)}" if schema else ""
        return f"required key is missing{wanted}"
    if kind == "value_error":
        return " ".join(str(context["error"]).split())
    if kind == "union_tag_not_found":
        return "required key is missing"
    if kind == "union_tag_invalid":
        tags = [tag.strip(" '") for tag in context["expected_tags"].split(",")]
        tag, name = context["tag"], context["discriminator"].strip("'")
        return unknown(name, tag, tags)
    if kind == "invalid_key":
        return "keys must be text; quote it"
    if schema is None or kind in ("assertion_error", "recursion_loop"):
        return " ".join(item["msg"].split())
    wanted = f"expected {describe(schema, root)}, got {_brief(item['input'])}"
    choices = [str(choice) for choice in _choices(schema, root)]
    return wanted + (nearest(item["input"], choices) if choices else "")


def _brief(value: object, limit: int = 60) -> str:
    if isinstance(value, dict):
        return "a mapping"
    text = json.dumps(value) if value is None or isinstance(value, bool) else repr(value)
    return text if len(text) <= limit else text[: limit - 3] + "..."


def _choices(schema: _Schema, root: _Schema) -> Iterator[Any]:
    schema = _resolve(schema, root)
    yield from schema.get("enum", [])
    if "const" in schema:
        yield schema["const"]
    for branch in schema.get("anyOf", []) + schema.get("oneOf", []):
        yield from _choices(branch, root)


def _resolve(schema: _Schema, root: _Schema) -> _Schema:
    while "$ref" in schema:
        schema = root["$defs"][schema["$ref"].rsplit("/", 1)[-1]]
    return schema


def _objects(schema: _Schema | None, root: _Schema) -> Iterator[_Schema]:
    """Yield every object or array schema that a (possibly united) schema can mean."""
    if schema is None:
        return
    schema = _resolve(schema, root)
    branches = schema.get("anyOf", []) + schema.get("oneOf", [])
    if not branches:
        yield schema
    for branch in branches:
        yield from _objects(branch, root)


def _properties(schema: _Schema | None, root: _Schema) -> dict[str, _Schema]:
    return {name: sub for option in _objects(schema, root) for name, sub in option.get("properties", {}).items()}


def _child(schema: _Schema | None, key: str | int, root: _Schema) -> _Schema | None:
    for option in _objects(schema, root):
        if isinstance(key, int):
            prefix = option.get("prefixItems", [])
            found = prefix[key] if key < len(prefix) else option.get("items")
        else:
            found = option.get("properties", {}).get(key, option.get("additionalProperties"))
        if isinstance(found, dict):
            return found
    return None


def _tagged(schema: _Schema | None, tag: object, root: _Schema) -> _Schema | None:
    """Return the branch of a discriminated union that a tag selects."""
    mapping = _resolve(schema or {}, root).get("discriminator", {}).get("mapping", {})
    return {"$ref": mapping[tag]} if tag in mapping else None


def _locate(loc: Iterable[str | int], data: Any, root: _Schema) -> tuple[Keys, _Schema | None]:
    """Follow pydantic's location through data and schema, dropping the union tags it contains.

    Returns the user's key path and the schema there; for an unknown key, the schema of its mapping.
    """
    keys: list[str | int] = []
    schema: _Schema | None = root
    for part in loc:
        branch = _tagged(schema, part, root)
        if branch is not None and not (isinstance(data, dict) and part in data):
            schema = branch
            continue
        if isinstance(data, dict) and (part in data or part in _properties(schema, root)):
            keys.append(part)
            child = _child(schema, part, root)
            unknown = child is None and part not in _properties(schema, root)
            schema, data = (schema if unknown else child), data.get(part)
        elif isinstance(data, list) and isinstance(part, int):
            keys.append(part)
            schema, data = _child(schema, part, root), data[part] if part < len(data) else None
    return tuple(keys), schema
