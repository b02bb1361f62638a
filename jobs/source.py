"""The text side of a job spec: YAML with line numbers, and overrides applied to it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

Keys = tuple[str | int, ...]


class SourceError(ValueError):
    """A spec or override that cannot be read; the text is one line that names the place."""


class _Loader(yaml.SafeLoader):
    """SafeLoader that also reads ``1e-4`` as a number, as YAML 1.2 does (PyYAML follows 1.1)."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(?:\d+(?:\.\d*)?|\.\d+)[eE][-+]?\d+$"),
    list("-+.0123456789"),
)


@dataclass(frozen=True)
class Override:
    """One ``key.path=value`` argument.

    Attributes
    ----------
    text : str
        The argument as given.
    keys : tuple of str or int
        Path to the value; numbers address list items.
    value : object
        The value, parsed as YAML.
    """

    text: str
    keys: Keys
    value: Any


@dataclass
class Document:
    """A YAML mapping that remembers where each key was written.

    Attributes
    ----------
    name : str
        How messages call the file.
    text : str
        The file's text, unchanged.
    data : dict
        The parsed mapping; overrides are applied in place.
    lines : dict
        Line number (from 1) of each key path.
    duplicates : list of SourceError
        Keys given twice in one mapping.
    overridden : dict
        Text of the override that set a key path.
    """

    name: str
    text: str
    data: dict[str, Any]
    lines: dict[Keys, int]
    duplicates: list[SourceError]
    overridden: dict[Keys, str] = field(default_factory=dict)

    def place(self, keys: Keys) -> str:
        """Return where a key comes from: the override that set it, else file and line of the nearest key."""
        for end in range(len(keys), 0, -1):
            if keys[:end] in self.overridden:
                return f"override '{self.overridden[keys[:end]]}'"
            if keys[:end] in self.lines:
                break
        for path, text in self.overridden.items():
            if keys and path[: len(keys)] == keys and keys not in self.lines:
                return f"override '{text}'"
        return f"{self.name}:{self.line(keys)}"

    def line(self, keys: Keys) -> int:
        """Return the line of a key path, or of its nearest ancestor that has one."""
        prefixes = (keys[:end] for end in range(len(keys), 0, -1))
        return next((self.lines[prefix] for prefix in prefixes if prefix in self.lines), 1)


def read_document(path: Path) -> Document:
    """Read a YAML file whose top level is a mapping.

    Raises
    ------
    SourceError
        If the file cannot be read, is not YAML, is empty, or is not a mapping.
    """
    text = _read_text(path)
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        lines: dict[Keys, int] = {}
        duplicates: list[SourceError] = []
        if node is not None:
            _record(node, (), lines, duplicates, str(path), set())
        data = loader.construct_document(node) if node is not None else None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        raise SourceError(f"{path}:{line}: not valid YAML: {error.problem or error.context}") from None
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise SourceError(f"{path}:1: not valid YAML: {' '.join(str(error).split())}") from None
    finally:
        loader.dispose()
    if data is None:
        raise SourceError(f"{path}: the spec is empty; its first key must be 'kind'")
    if not isinstance(data, dict):
        raise SourceError(f"{path}:1: expected a mapping of keys to values, got {type(data).__name__}")
    return Document(str(path), text, data, lines, duplicates)


def parse_override(text: str) -> Override:
    """Parse ``key.path=value``.

    Raises
    ------
    SourceError
        If ``=`` or a part of the path is missing, or the value is not YAML.
    """
    path, equals, value = text.partition("=")
    if not equals:
        raise SourceError(f"override '{text}': expected key.path=value")
    keys = path.strip().split(".")
    if not all(keys):
        raise SourceError(f"override '{text}': the key path has an empty part; expected key.path=value")
    try:
        parsed = yaml.load(value, Loader=_Loader)
    except (yaml.YAMLError, RecursionError, ValueError):
        raise SourceError(f"override '{text}': the value is not valid YAML; quote it") from None
    return Override(text, tuple(int(key) if key.isdigit() else key for key in keys), parsed)


def apply_overrides(document: Document, overrides: Sequence[Override]) -> list[SourceError]:
    """Apply overrides to a document in place, in order, and return those that could not be applied."""
    problems = []
    for override in overrides:
        try:
            keys = _assign(document.data, override)
        except SourceError as error:
            problems.append(error)
            continue
        for path in [known for known in document.overridden if known[: len(keys)] == keys]:
            del document.overridden[path]
        document.overridden[keys] = override.text
    return problems


def _assign(data: dict[str, Any], override: Override) -> Keys:
    """Set one value; return the path with the key types the containers really have."""
    target: Any = data
    done: list[str | int] = []
    for depth, key in enumerate(override.keys):
        last = depth == len(override.keys) - 1
        if isinstance(target, list):
            if not isinstance(key, int) or key >= len(target):
                raise SourceError(
                    f"override '{override.text}': {show(done)} is a list of {len(target)};"
                    f" expected an item number from 0 to {len(target) - 1}, got '{key}'"
                )
            done.append(key)
        elif isinstance(target, dict):
            key = key if key in target else str(key)
            done.append(key)
            if not last and target.get(key) is None:
                target[key] = {}
        else:
            raise SourceError(f"override '{override.text}': {show(done)} is a single value, not a mapping")
        if last:
            target[key] = override.value
        else:
            target = target[key]
    return tuple(done)


def show(keys: Sequence[str | int]) -> str:
    """Return a key path as the user would write it in an override."""
    return ".".join(map(str, keys))


def can_be_spelled(key: str | int) -> bool:
    """Whether a key path of an override can name a key; one with a dot, for example, it cannot."""
    text = str(key)
    try:
        return tuple(map(str, parse_override(f"{text}=0").keys)) == (text,)
    except SourceError:
        return False


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise SourceError(f"{path}: no such file; name a job spec such as jobs/stage1.yaml") from None
    except IsADirectoryError:
        raise SourceError(f"{path}: is a folder; name a job spec such as jobs/stage1.yaml") from None
    except UnicodeDecodeError:
        raise SourceError(f"{path}: is not UTF-8 text; a job spec is a YAML file") from None
    except OSError as error:
        raise SourceError(f"{path}: cannot be read: {error.strerror}") from None


def _record(
    node: yaml.Node,
    keys: Keys,
    lines: dict[Keys, int],
    duplicates: list[SourceError],
    name: str,
    seen: set[int],
) -> None:
    """Collect the line of every key path; each node is entered once, so aliases cannot loop."""
    if id(node) in seen:
        return
    seen.add(id(node))
    if isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            lines[(*keys, index)] = item.start_mark.line + 1
            _record(item, (*keys, index), lines, duplicates, name, seen)
    elif isinstance(node, yaml.MappingNode):
        first: dict[str, int] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            if key.tag == "tag:yaml.org,2002:merge":
                _record(value, keys, lines, duplicates, name, seen)
                continue
            numeric = key.tag == "tag:yaml.org,2002:int" and key.value.isdigit()
            path = (*keys, int(key.value) if numeric else str(key.value))
            if key.value in first:
                where = f"{name}:{line}: {show(path)}"
                duplicates.append(SourceError(f"{where}: key given twice; first on line {first[key.value]}"))
            first.setdefault(str(key.value), line)
            lines[path] = line
            _record(value, path, lines, duplicates, name, seen)
