"""Starts and ends of trials in SEED-VII's raw recordings, from triggers or from the trigger table beside them."""

import csv
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import numpy as np

from storage.errors import InputError

START, STOP = "1", "2"
LARGEST_DISAGREEMENT_S = 2.0

Mark = tuple[float, str]


def in_turn(codes: Sequence[str], num_trials: int) -> bool:
    """Whether the codes alternately start and end `num_trials` trials."""
    return list(codes) == [START, STOP] * num_trials


def read_trigger_table(path: Path) -> list[tuple[datetime, str]]:
    """Read `*_trigger_info.csv`: each row holds a code (1 start, 2 end), and a date and time.

    Raises
    ------
    InputError
        When the file is missing or a row has another form.
    """
    if not path.exists():
        raise InputError(str(path), "no such file", "Copy `save_info` from the data set.")
    rows: list[tuple[datetime, str]] = []
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        for line, cells in enumerate(csv.reader(file), start=1):
            if not any(cell.strip() for cell in cells):
                continue
            try:
                code, moment = str(int(float(cells[0]))), datetime.fromisoformat(cells[1].strip())
            except (ValueError, IndexError, OverflowError) as error:
                raise InputError(
                    f"{path}:{line}", "does not hold a trigger with its date and time", "Use the original file."
                ) from error
            if code in (START, STOP):
                rows.append((moment.replace(tzinfo=None), code))
    return rows


def from_table(
    rows: Sequence[tuple[datetime, str]], started: datetime, marks: Sequence[Mark], place: str
) -> list[Mark]:
    """Place a table's rows in a recording, in seconds from its start.

    Parameters
    ----------
    rows : sequence of (datetime, str)
        Rows of the table: time and code.
    started : datetime
        Start of the recording by the same clock, in whole seconds.
    marks : sequence of (float, str)
        Triggers that the recording itself holds (seconds, code); they give the fraction of a second. May be empty.
    place : str
        Recording that error messages name.

    Raises
    ------
    InputError
        When a trigger of the recording is more than 2 s away from every row with its code.
    """
    placed = [((moment - started).total_seconds(), code) for moment, code in rows]
    distances = []
    for second, code in marks:
        distance = min((second - other for other, kind in placed if kind == code), key=abs, default=np.inf)
        if abs(distance) > LARGEST_DISAGREEMENT_S:
            raise InputError(
                place,
                f"its trigger {code} at {second:.1f} s is {abs(distance):.1f} s away from its trigger table",
                "Use the original files.",
            )
        distances.append(distance)
    shift = float(np.median(distances)) if distances else 0.0
    return [(second + shift, code) for second, code in placed]
