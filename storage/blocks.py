"""Folders that a job fills block by block: whole blocks or none, and a marker once all are there.

Layout::

    FOLDER/manifest.json   what the content was computed from; written first
    FOLDER/...             blocks, each by one atomic write
    FOLDER/COMPLETE        SHA-256 of the manifest (and of what else is sealed), once every block is there; written last
"""

import hashlib
import json
from abc import ABC, abstractmethod
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Generic, Self, TypeVar

import numpy as np
from pydantic import BaseModel, ConfigDict

from storage.errors import InputError
from storage.places.base import Location
from storage.places.location import locate

MANIFEST, COMPLETE = "manifest.json", "COMPLETE"


class Manifest(BaseModel):
    """Description of a folder of blocks.

    Attributes
    ----------
    format : int
        Version of the layout.
    block : int
        Rows per block.
    versions : dict
        Software that computed the content.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: int
    block: int
    versions: dict[str, str]

    @property
    @abstractmethod
    def num_rows(self) -> int:
        """Rows in all."""

    @property
    def num_blocks(self) -> int:
        """Number of blocks; the last one may be shorter."""
        return -(-self.num_rows // self.block)

    def rows(self, block: int) -> np.ndarray:
        """Numbers of the rows of a block."""
        return np.arange(block * self.block, min(self.num_rows, (block + 1) * self.block))


M = TypeVar("M", bound=Manifest)


class BlockFolder(ABC, Generic[M]):
    """A folder of blocks, open for reading or for writing missing blocks.

    Parameters
    ----------
    place : str, Path or Location
        Where it is: a folder that all nodes see, or a URL.
    manifest : Manifest
        Description of the content.
    """

    manifest_type: ClassVar[type[Manifest]]
    job: ClassVar[str]
    """Kind of the job that fills such a folder."""
    sealed: ClassVar[tuple[str, ...]] = (MANIFEST,)
    """Files that the marker vouches for."""

    def __init__(self, place: str | Path | Location, manifest: M) -> None:
        self.place, self.manifest = locate(place), manifest

    @classmethod
    def create(cls, place: str | Path, manifest: M) -> Self:
        """Start or resume writing; other content of the folder is removed."""
        root = locate(place)
        there = cls._read_manifest(root)
        if there is None or there.model_copy(update={"versions": manifest.versions}) != manifest:
            root.remove("")
            root.write(MANIFEST, manifest.model_dump_json(indent=1).encode())
        else:
            manifest = there
        return cls(root, manifest)

    @classmethod
    def open(cls, place: str | Path) -> Self:
        """Open a finished folder for reading.

        Raises
        ------
        InputError
            When there is none, it is not complete, or its manifest is damaged.
        """
        root = locate(place)
        manifest = cls._read_manifest(root)
        if manifest is None:
            raise InputError(str(root), f"no {cls.job} here", f"Run the {cls.job} job first, or correct the path.")
        if not root.exists(COMPLETE):
            raise InputError(str(root), f"is not complete (no {COMPLETE})", f"Run the {cls.job} job again.")
        if root.read(COMPLETE).decode().strip() != cls._digest(root):
            raise InputError(
                f"{root}/{cls.sealed[-1]}",
                "was changed after it was completed",
                "Remove the folder and compute it again.",
            )
        return cls(root, manifest)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of what the marker vouches for."""
        return self._digest(self.place)

    @abstractmethod
    def missing(self) -> list[int]:
        """Blocks that are still missing."""

    def complete(self) -> None:
        """Mark the folder as complete; raises `ValueError` if a block is missing."""
        if missing := self.missing():
            raise ValueError(f"{self.place}: blocks {missing[:4]} are missing")
        self.place.write(COMPLETE, f"{self.digest}\n".encode())

    @classmethod
    def _read_manifest(cls, place: Location) -> M | None:
        if not place.exists(MANIFEST):
            return None
        content, remedy = place.read(MANIFEST), f"Remove the folder and run its {cls.job} job again."
        try:
            fields = json.loads(content)
            current = fields["format"] == cls.manifest_type.model_fields["format"].default
            manifest = cls.manifest_type.model_validate(fields) if current else None
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"{place}/{MANIFEST}", "is damaged", remedy) from error
        if manifest is None:
            problem = f"is of format {fields['format']}, which another version wrote"
            raise InputError(f"{place}/{MANIFEST}", problem, remedy)
        return manifest  # type: ignore[return-value]

    @classmethod
    def _digest(cls, place: Location) -> str:
        return hashlib.sha256(b"".join(place.read(name) for name in cls.sealed)).hexdigest()
