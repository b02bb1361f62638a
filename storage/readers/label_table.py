"""Labels in a table beside the recordings: CSV, TSV or Excel."""

import io
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Literal

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field

from storage.errors import InputError
from storage.readers.mne_file import Continuous
from storage.readers.text import read_text
from storage.readers.trials import Stretch

_OPTIONAL = ("start_seconds", "stop_seconds", "clip", "subject", "session")


class TableLabels(BaseModel):
    """Labels from a table with the columns ``file`` and ``label``, and any of the optional ones.

    There is one row per trial; ``file`` is the file's path below `root`, or its name. Optional columns are
    ``start_seconds`` and ``stop_seconds`` (recording time including pauses; without them, the whole file), ``clip``
    (number of the stimulus), ``subject`` and ``session`` (instead of the pattern's groups).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["table"] = "table"
    path: str = Field(min_length=1)
    """CSV, TSV or Excel file; relative to `root`."""
    label_of: dict[str, str] = Field(default_factory=dict)
    """Value in the table -> label; a value that is not listed is used as the label itself."""

    def file(self, root: Path) -> Path:
        """Path of the table."""
        return root / self.path

    def rows(self, root: Path, path: Path) -> pd.DataFrame:
        """Rows of one recording; empty when the table does not name it."""
        table = _load(self.file(root), self.file(root).stat().st_mtime_ns if self.file(root).is_file() else 0)
        below = PurePosixPath(path.relative_to(root)).as_posix() if path.is_relative_to(root) else path.name
        exact = table[table["file"] == below]
        return exact if len(exact) else table[table["file"] == path.name]

    def entity(self, root: Path, path: Path, column: Literal["subject", "session"]) -> str | None:
        """Subject or session that the table gives for a recording; None if it gives none.

        Raises
        ------
        InputError
            When its rows contradict each other or leave it empty.
        """
        rows = self.rows(root, path)
        if column not in rows or not len(rows):
            return None
        words = rows[column].unique()
        if len(words) > 1 or not words[0]:
            raise InputError(
                str(self.file(root)), f"gives no single {column} for {path.name}", "Give the same one in all its rows."
            )
        return str(words[0])

    def stretches(self, root: Path, path: Path, file: Continuous) -> list[Stretch]:
        """Trials of one recording.

        Raises
        ------
        InputError
            When the table has no row for the recording, or a row's times or clip are not valid numbers.
        """
        rows, place = self.rows(root, path), str(self.file(root))
        if not len(rows):
            raise InputError(place, f"has no row for {path.name}", "Add one, or narrow `source.pattern`.")
        found = []
        for row in rows.to_dict("records"):
            start = _number(row.get("start_seconds") or "0", place, "start_seconds")
            stop = _number(row.get("stop_seconds") or str(file.end), place, "stop_seconds")
            if stop <= start:
                raise InputError(
                    place, f"{path.name}: {start:g}..{stop:g} s is not a valid stretch", "Correct the row."
                )
            clip = int(_number(row["clip"], place, "clip")) if row.get("clip") else None
            label = self.label_of.get(str(row["label"]), str(row["label"]))
            found.append(Stretch(start, stop, label, clip))
        return found


def _number(word: str, place: str, column: str) -> float:
    try:
        return float(word.replace(",", ".") if word.count(",") == 1 and "." not in word else word)
    except ValueError:
        raise InputError(place, f"{column} {word!r} is not a number", "Correct the table.") from None


def _semicolons(text: str) -> bool:
    """Whether semicolons separate the first line's columns, as is usual with decimal commas."""
    first = text.partition("\n")[0]
    return first.count(";") > first.count(",")


@lru_cache(maxsize=8)
def _load(path: Path, mtime_ns: int) -> pd.DataFrame:
    if not path.is_file():
        raise InputError(str(path), "no such table", "Correct `source.labels_from.path`.")
    try:
        if path.suffix.lower() in {".xlsx", ".xls"}:
            table = pd.read_excel(path, dtype=str, keep_default_na=False)
        else:
            text = read_text(path)
            separator = "\t" if path.suffix.lower() == ".tsv" else ";" if _semicolons(text) else ","
            table = pd.read_csv(io.StringIO(text), sep=separator, dtype=str, keep_default_na=False, index_col=False)
    except Exception as error:  # pandas passes on any error of its parsers
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise InputError(str(path), f"is not a table ({reason})", "Save it as CSV, TSV or Excel.") from error
    if missing := [name for name in ("file", "label") if name not in table]:
        raise InputError(
            str(path), f"lacks the column {missing[0]}", f"Give it file, label and any of {', '.join(_OPTIONAL)}."
        )
    return table.map(str.strip)
