"""Tables of a Markdown page that record which specs make them.

Each table follows an HTML comment, which the rendered page does not show::

    <!-- table: fresh-twin
    specs: [jobs/examples/twin/ingest_fresh.yaml, jobs/examples/twin/cross_validate.yaml]
    where: {metric: balanced_accuracy, condition: eeg}
    rows: [model]
    columns: readout
    digest: 0123...
    -->

    | model | generation | likelihood |
    |---|---|---|
    | e2llm | 0.512 (0.480 to 0.550) | ... |
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from jobs.paths import spec_file
from jobs.reproduction.cells import ABSENT, DIGITS, Cell, Number, Place
from jobs.source import SourceError, read_document
from storage.errors import InputError

FOOTNOTE = "*Twin: "
_LINE = r"[^\n]*(?:\n|\Z)"
_TABLE = re.compile(
    rf"<!--[ \t]*(?P<content>table:.*?)-->\n*(?P<body>(?:^\|{_LINE})*(?:\n^{re.escape(FOOTNOTE)}{_LINE})?)",
    re.DOTALL | re.MULTILINE,
)
_RULE = re.compile(r"\|(:?-+:?\|)+")
_DIGEST = re.compile(r"^digest:.*\n?", re.MULTILINE)
_NOT_OF_THE_NUMBERS = ("run", "resources")
"""Keys of a spec that do not affect any number."""

Wanted = str | int | float | bool | None


class TableSpec(BaseModel):
    """Content of a table's comment.

    Attributes
    ----------
    table
        Name of the table, as after the ``#`` of ``page.md#name``.
    specs
        Specs that are run one after another; the table shows the results of the last one.
    where
        Selects the results to show: key -> required value, or a list of values of which any will do; None matches an
        empty value.
    rows
        Keys of results whose values head the rows.
    columns
        Key of results whose values head the columns; without it, there is one column of numbers.
    also
        Keys of results that are shown after the numbers and not compared; only allowed without `columns`.
    names
        Value of `rows` or `columns` -> the words shown for it.
    digest
        Digest of the specs when the table was written.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    table: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$")]
    specs: tuple[str, ...] = Field(min_length=1)
    where: Mapping[str, Wanted | tuple[Wanted, ...]] = Field(default_factory=dict)
    rows: tuple[str, ...] = Field(min_length=1)
    columns: str | None = None
    also: tuple[str, ...] = ()
    names: Mapping[str, str] = Field(default_factory=dict)
    digest: str | None = None


@dataclass(frozen=True)
class Table:
    """A table of a page.

    Attributes
    ----------
    spec
        Content of the table's comment.
    page
        Path of the page.
    text
        Text of the whole page.
    comment, body
        Position (start, end) in `text` of the comment's content, and of the table's lines after it.
    """

    spec: TableSpec
    page: Path
    text: str
    comment: tuple[int, int]
    body: tuple[int, int]

    @property
    def place(self) -> str:
        """Name of the table in error messages."""
        return f"{self.page}#{self.spec.table}"

    def cells(self) -> dict[Place, Cell]:
        """Printed numbers by their position in the table.

        Raises
        ------
        InputError
            When no table follows the comment, its columns are not those that the comment names, a cell is not a
            number, or two cells have the same position.
        """
        lines = [line for line in self.text[slice(*self.body)].splitlines() if line.startswith("|")]
        if len(lines) < 3 or not _RULE.fullmatch(lines[1]):
            raise InputError(self.place, "its comment is not followed by a table", "Write the table with --write.")
        header, _, *rows = [_split(line) for line in lines]
        heads, also = len(self.spec.rows), len(self.spec.also)
        numbers = 1 if self.spec.columns is None else len(header) - heads
        if header[:heads] != list(self.spec.rows) or len(header) != heads + numbers + also or numbers < 1:
            problem = f"its columns are {', '.join(header)}, which are not those that its comment names"
            raise InputError(self.place, problem, "Write the table again with --write.")
        found: dict[Place, Cell] = {}
        for row in rows:
            if len(row) != len(header):
                raise InputError(
                    self.place, f"the row {' | '.join(row)} does not have {len(header)} cells", "Correct it."
                )
            for column in range(heads, heads + numbers):
                place = (*row[:heads], *([] if self.spec.columns is None else [header[column]]))
                if row[column] == ABSENT:
                    continue
                if place in found:
                    raise InputError(self.place, f"{' / '.join(place)} occurs twice", "Remove one of them.")
                try:
                    found[place] = Cell.parse(row[column])
                except ValueError as error:
                    raise InputError(
                        self.place, f"{' / '.join(place)}: {error}", "Write the table with --write."
                    ) from None
        return found

    def numbers(self, results: Sequence[Number]) -> dict[Place, Number]:
        """Results that the table shows, by their position in it.

        Raises
        ------
        InputError
            When no result matches, two have the same position, or the comment names a key that results lack.
        """
        found: dict[Place, Number] = {}
        for number in results:
            if not all(self._wanted(number.key(name, self.place), value) for name, value in self.spec.where.items()):
                continue
            keys = [*self.spec.rows, *([] if self.spec.columns is None else [self.spec.columns])]
            place = tuple(self._word(number.key(name, self.place)) for name in keys)
            if place in found:
                problem = f"several results belong at {' / '.join(place)}"
                raise InputError(self.place, problem, "Add keys to `where` or `rows` in its comment.")
            found[place] = number
        if not found:
            raise InputError(self.place, "no result matches `where` in its comment", "Correct the comment.")
        return found

    @staticmethod
    def _wanted(found: Any, value: Wanted | tuple[Wanted, ...]) -> bool:
        return found in value if isinstance(value, tuple) else found == value

    def written(self, results: Sequence[Number], digest: str, footnote: str = "") -> str:
        """Text of the page with this table rewritten from results, an optional footnote below it, and its digest."""
        start, end = self.comment
        content = f"{_DIGEST.sub('', self.text[start:end]).rstrip()}\ndigest: {digest}\n"
        table = "\n".join(self._lines(self.numbers(results)))
        parts = [
            f"{self.text[:start]}{content}{self.text[end : self.body[0]]}".rstrip("\n"),
            table,
            footnote and f"{FOOTNOTE}{footnote}*",
            self.text[self.body[1] :].strip("\n"),
        ]
        return "\n\n".join(part for part in parts if part) + "\n"

    def _lines(self, found: Mapping[Place, Number]) -> Iterator[str]:
        """Lines of the table in Markdown, with rows and columns in the order of the results."""
        heads, spec = len(self.spec.rows), self.spec
        cells = {place: Cell.of(number.value, number.ci_low, number.ci_high) for place, number in found.items()}
        columns = list(dict.fromkeys(place[heads:] for place in cells))
        titles = ["value (95 % interval)"] if spec.columns is None else [words for (words,) in columns]
        yield _joined([*spec.rows, *titles, *spec.also])
        yield "|" + "---|" * heads + "---:|" * (len(titles) + len(spec.also))
        for row in dict.fromkeys(place[:heads] for place in cells):
            numbers = [str(cells.get((*row, *column), ABSENT)) for column in columns]
            also = [_printed(found[row].key(name, self.place)) for name in spec.also]
            yield _joined([*row, *numbers, *also])

    def _word(self, value: Any) -> str:
        text = ABSENT if value is None else str(value)
        return self.spec.names.get(text, text)


def tables_of(page: Path) -> dict[str, Table]:
    """Tables of a page by name.

    Raises
    ------
    InputError
        When the page cannot be read, a comment does not follow `TableSpec`, or two tables have the same name.
    """
    try:
        text = page.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise InputError(str(page), f"cannot be read ({reason})", "Name a table as page.md#name.") from None
    found: dict[str, Table] = {}
    for match in _TABLE.finditer(text):
        place = f"{page}:{text.count(chr(10), 0, match.start()) + 1}"
        try:
            spec = TableSpec.model_validate(yaml.safe_load(match["content"]))
        except yaml.YAMLError as error:
            raise InputError(place, f"the table's comment is not YAML ({_one_line(error)})", "Correct it.") from None
        except ValidationError as error:
            first = error.errors()[0]
            keys = ".".join(map(str, first["loc"]))
            raise InputError(place, f"the table's comment: {keys}: {first['msg']}", "Correct it.") from None
        if spec.also and spec.columns is not None:
            raise InputError(place, "the table's comment has both `also` and `columns`", "Leave one of them out.")
        if spec.table in found:
            raise InputError(place, f"is a second table named {spec.table}", "Give it another name.")
        found[spec.table] = Table(spec, page, text, match.span("content"), match.span("body"))
    return found


def digest_of(specs: Sequence[str]) -> str:
    """SHA-256 of specs and of the specs that they name; ignores comments, key order, `run` and `resources`.

    Raises
    ------
    InputError
        When a spec cannot be read.
    """
    contents = [_content(name) for name in specs]
    return hashlib.sha256(json.dumps(contents, sort_keys=True).encode()).hexdigest()


def _content(name: str, above: tuple[str, ...] = ()) -> dict[str, Any]:
    """Content of a spec, together with that of the specs that it names."""
    try:
        data = read_document(spec_file(name)).data
    except SourceError as error:
        place, _, problem = str(error).partition(": ")
        raise InputError(place, problem, "Correct the spec, or its name in the table's comment.") from None
    kept = {key: value for key, value in data.items() if key not in _NOT_OF_THE_NUMBERS}
    inner = {text for text in _texts(kept) if text.endswith(".yaml") and spec_file(text).is_file()} - {*above, name}
    return {"says": kept, "names": {text: _content(text, (*above, name)) for text in sorted(inner)}}


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)


def _split(line: str) -> list[str]:
    return [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line.strip()[1:-1])]


def _joined(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _printed(value: Any) -> str:
    if value is None:
        return ABSENT
    return f"{value:.{DIGITS}f}" if isinstance(value, float) else str(value)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
