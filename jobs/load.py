"""Read a job spec: YAML text and ``key.path=value`` overrides in, one validated pydantic model out.

Every problem of a spec is reported at once, one line each, naming file and line (or the override),
the key, what was expected, and the nearest valid key. Nothing heavy is imported here.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, TypeAdapter, ValidationError

from jobs.explain import problems_of, unknown
from jobs.source import Document, Override, SourceError, apply_overrides, parse_override, read_document
from storage.errors import InputError

_CREDENTIALS = re.compile(r"://[^/@\s]*@")
"""What a URL may hold before its host, and no message repeats."""


class SpecErrors(InputError):
    """All problems of one spec.

    Attributes
    ----------
    lines : tuple of str
        One self-contained line for each problem, in the order of the file.
    """

    def __init__(self, lines: Sequence[str]) -> None:
        self.lines = tuple(_CREDENTIALS.sub("://***@", line) for line in lines)
        place, _, problem = self.lines[0].partition(": ")
        super().__init__(place, problem, "Correct the spec.")
        self.args = ("\n".join(self.lines),)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.lines,)


@dataclass(frozen=True)
class LoadedSpec:
    """A validated spec and its origin.

    Attributes
    ----------
    spec : BaseModel
        The validated model.
    path : Path
        The YAML file it was read from.
    overrides : tuple of str
        The ``key.path=value`` arguments, as given.
    digest : str
        SHA-256 (hex) of the canonical JSON of ``spec``: equal settings have equal digests,
        however they were written.
    text : str
        The file's text, unchanged.
    """

    spec: BaseModel
    path: Path
    overrides: tuple[str, ...]
    digest: str
    text: str


def load_spec(path: Path, overrides: Sequence[str], specs: Mapping[str, type[BaseModel]]) -> LoadedSpec:
    """Read, override and validate a job spec.

    Parameters
    ----------
    path : Path
        YAML file with a top-level ``kind``.
    overrides : sequence of str
        ``key.path=value`` assignments; values are YAML, list items are addressed by number.
        The last of several assignments to one key wins.
    specs : mapping of str to model class
        The known kinds.

    Returns
    -------
    LoadedSpec

    Raises
    ------
    SpecErrors
        With one line for each problem found.
    """
    try:
        document = read_document(path)
    except SourceError as error:
        raise SpecErrors([str(error)]) from None
    lines = [str(problem) for problem in document.duplicates]
    parsed: list[Override] = []
    for text in overrides:
        try:
            parsed.append(parse_override(text))
        except SourceError as error:
            lines.append(str(error))
    lines += [str(problem) for problem in apply_overrides(document, parsed)]
    model = _model_of_kind(document, specs, lines)
    if model is None:
        raise SpecErrors(lines)
    try:
        spec = model.model_validate(document.data)
    except ValidationError as error:
        raise SpecErrors([*lines, *problems_of(error, model, document)]) from None
    if lines:
        raise SpecErrors(lines)
    return LoadedSpec(spec, path, tuple(overrides), spec_digest(spec), document.text)


def spec_digest(spec: BaseModel) -> str:
    """Return the SHA-256 (hex) of the canonical JSON of a spec."""
    canonical = json.dumps(spec.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def json_schema(specs: Mapping[str, type[BaseModel]]) -> dict[str, Any]:
    """Return one JSON Schema that accepts any known job spec, for editors.

    Parameters
    ----------
    specs : mapping of str to model class
        The known kinds; each schema requires its own ``kind``.
    """
    inputs: list[tuple[type[BaseModel], Literal["validation"]]] = [(m, "validation") for m in specs.values()]
    references, definitions = TypeAdapter.json_schemas([(m, mode, TypeAdapter(m)) for m, mode in inputs])
    branches = [references[(model, "validation")] for model in specs.values()]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "E2-LLM job",
        "type": "object",
        "required": ["kind"],
        "properties": {"kind": {"enum": list(specs)}},
        "oneOf": branches,
        **definitions,
    }


def _model_of_kind(
    document: Document, specs: Mapping[str, type[BaseModel]], lines: list[str]
) -> type[BaseModel] | None:
    """Return the model class that ``kind`` names, or None after adding a line that says why not."""
    known = ", ".join(specs)
    if "kind" not in document.data:
        lines.append(f"{document.place(('kind',))}: kind: required key is missing; one of {known}")
        return None
    kind = document.data["kind"]
    model = specs.get(kind) if isinstance(kind, str) else None
    if model is None:
        lines.append(f"{document.place(('kind',))}: kind: {unknown('kind', kind, specs)}")
    return model
