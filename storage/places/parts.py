"""Pieces of a job's result that outlive a kill, beside a note of what they were made from."""

import json
from collections.abc import Collection, Mapping
from pathlib import Path

from storage.places.base import Location
from storage.places.location import locate


class Parts:
    """Partial results in one folder of a run; a resumed job computes only the missing ones.

    A file is there as a whole or not at all. The note ``<folder>.json`` says what all of them were made from; what was
    made from something else is removed when they are opened.

    Parameters
    ----------
    run : str, Path or Location
        The run's folder or URL.
    folder : str
        Name of the folder in the run.
    made_from : mapping of str to str
        All that the content of a part depends on, by its name.

    Attributes
    ----------
    differs : tuple of str
        Names of what removed parts were made from otherwise; empty when none were removed.
    """

    def __init__(self, run: str | Path | Location, folder: str, made_from: Mapping[str, str]) -> None:
        self._place, self._folder, self._note = locate(run), folder, f"{folder}.json"
        before = json.loads(self._place.read(self._note)) if self._place.exists(self._note) else {}
        self._there = {key.removeprefix(f"{folder}/") for key in self._place.files(folder)}
        names = sorted(name for name in before | dict(made_from) if before.get(name) != made_from.get(name))
        self.differs = tuple(names) if self._there else ()
        if names:
            self._place.remove(folder)
            self._there.clear()
            self._place.write(self._note, (json.dumps(dict(made_from), indent=2) + "\n").encode())

    def __contains__(self, name: str) -> bool:
        return name in self._there

    def __len__(self) -> int:
        return len(self._there)

    def keep_only(self, names: Collection[str]) -> None:
        """Remove all other files, and leftovers of killed writers."""
        for name in self._there.difference(names):
            self._place.remove(f"{self._folder}/{name}")
        self._there.intersection_update(names)

    def read(self, name: str) -> bytes:
        """Read a part."""
        return self._place.read(f"{self._folder}/{name}")

    def write(self, name: str, content: bytes) -> None:
        """Write a part, as a whole."""
        self._place.write(f"{self._folder}/{name}", content)
        self._there.add(name)


def discard_parts(run: str | Path | Location, folder: str) -> None:
    """Remove all parts below a folder of a run, and the note of what they were made from."""
    place = locate(run)
    place.remove(folder)
    place.remove(f"{folder}.json")
