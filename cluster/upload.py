"""Size of the uploaded code, and a warning for files that look like data."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict

from cluster.ray_private import walk_shipped
from storage.errors import InputError

MOST_BYTES = 200_000_000
_NOTICED_BYTES = 4_000_000
"""Twice what the stand-in language model in `jobs/stand-in` takes."""
_NAMED = 5
_REMEDY = "Move it out of the folder, or list it in .rayignore."


class Upload(BaseModel):
    """What Ray would copy of a folder.

    Attributes
    ----------
    files : int
        How many.
    sizes : dict of str to int
        Bytes of each entry at the top of the folder.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    files: int
    sizes: dict[str, int]

    @property
    def total(self) -> int:
        """Bytes of all files."""
        return sum(self.sizes.values())

    def __str__(self) -> str:
        return f"{_megabytes(self.total)} of code in {self.files} files"

    def largest(self, at_least: int = 0) -> str:
        """Name the largest entries of so many bytes or more, with their sizes."""
        entries = sorted(self.sizes.items(), key=lambda entry: -entry[1])
        return ", ".join(f"{name} ({_megabytes(size)})" for name, size in entries[:_NAMED] if size >= at_least)


def measure(root: Path) -> Upload:
    """Look at what Ray would copy of a folder: all but what its ignore files and Ray itself leave out."""
    sizes: dict[str, int] = {}
    files = 0

    def add(path: Path) -> None:
        nonlocal files
        if path.is_file():
            name = path.relative_to(root).parts[0]
            sizes[name] = sizes.get(name, 0) + path.stat().st_size
            files += 1

    walk_shipped(root, add)
    return Upload(files=files, sizes=sizes)


def announce(root: Path) -> None:
    """Say in a line what is copied to the nodes, and in another what of it is hardly code.

    Raises
    ------
    InputError
        When it is too much to copy.
    """
    upload = measure(root)
    if upload.total > MOST_BYTES:
        problem = f"too much to copy to the nodes: {upload}, the largest {upload.largest()}"
        raise InputError(str(root), problem, _REMEDY)
    print(f"ships {upload} to the nodes", flush=True)
    if heavy := upload.largest(_NOTICED_BYTES):
        print(f"warning: ships {heavy}. {_REMEDY}", flush=True)


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"
