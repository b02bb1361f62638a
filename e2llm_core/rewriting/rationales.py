"""A file of rationales: one JSON object per line, before and after rewriting."""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from e2llm_core.claims.claims import Claim, statements_in
from storage.errors import InputError

_Line = TypeVar("_Line", bound=BaseModel)


class Rationale(BaseModel):
    """One line of the file that is read; keys beside these are copied.

    Attributes
    ----------
    id
        Names the line; no other one has it.
    label, labels
        The label that the rationale ends in, and all labels of the data set.
    rationale
        Its text.
    claims
        What it claims, each as `Claim.to_dict` has it: the same claims as the text makes.
    """

    model_config = ConfigDict(extra="allow", frozen=True)

    id: str = Field(min_length=1)
    label: str = Field(min_length=1)
    labels: tuple[str, ...] = Field(min_length=2)
    rationale: str = Field(min_length=1)
    claims: tuple[dict[str, Any], ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _can_be_checked(self) -> "Rationale":
        if self.label not in self.labels:
            raise ValueError(f"label {self.label} is none of labels {', '.join(self.labels)}")
        if statements_in(self.rationale).unreadable:
            raise ValueError("rationale says something about the signal that is no claim of this version")
        return self


class Rewritten(BaseModel):
    """What a line that is written has beside the one that was read; its `rationale` is the text that was accepted.

    Attributes
    ----------
    original
        The text that was read.
    rewritten
        Whether `rationale` is the model's.
    reason
        Why it is not; None where it is.
    rewriter
        The model's name.
    """

    model_config = ConfigDict(extra="allow", frozen=True)

    id: str
    rationale: str
    original: str
    rewritten: bool
    reason: str | None
    rewriter: str


def read_rationales(path: Path) -> Iterator[Rationale]:
    """Read a file, line by line.

    Raises
    ------
    InputError
        When it cannot be read, a line is not as `Rationale` says, its claims are not those of its text, or an `id`
        occurs twice; naming file, line and key.
    """
    seen: dict[str, int] = {}
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, start=1):
                if not line.strip():
                    continue
                one = _parsed(Rationale, line, place := f"{path}:{number}")
                claimed = Counter(Claim.from_dict(claim, f"{place}: claims") for claim in one.claims)
                if claimed != Counter(statements_in(one.rationale).claims):
                    raise InputError(f"{place}: claims", "are not the claims that rationale makes", "Correct the line.")
                if one.id in seen:
                    raise InputError(place, f"id {one.id} is that of line {seen[one.id]}", "Make it unique.")
                seen[one.id] = number
                yield one
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise InputError(str(path), f"cannot be read: {reason}", "Name a file of JSON lines.") from None


def read_rewritten(path: Path) -> dict[str, Rewritten]:
    """Read what was written so far, by `id`; a last line that was cut off is removed from the file.

    Raises
    ------
    InputError
        When the file holds something else.
    """
    if not path.exists():
        return {}
    content = path.read_bytes()
    whole = content.rfind(b"\n") + 1
    lines = content[:whole].decode("utf-8", errors="replace").splitlines()
    found = [_parsed(Rewritten, line, f"{path}:{number}") for number, line in enumerate(lines, start=1)]
    if whole < len(content):
        with path.open("r+b") as file:
            file.truncate(whole)
    return {one.id: one for one in found}


def _parsed(model: type[_Line], line: str, place: str) -> _Line:
    try:
        return model.model_validate(json.loads(line))
    except ValidationError as error:
        first = error.errors()[0]
        keys = ".".join(map(str, first["loc"]))
        raise InputError(f"{place}: {keys}" if keys else place, first["msg"], "Correct the line.") from None
    except ValueError as error:
        raise InputError(place, f"is no JSON ({error})", "Correct the line.") from None
