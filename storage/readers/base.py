"""Data types and base class that every reader shares; `ingest` reads through them."""

import hashlib
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict

from storage.errors import InputError
from storage.labels import LabelSet

_SETTLING_NS = 2_000_000_000


@dataclass(frozen=True)
class TrialSpan:
    """A labelled stretch of one piece: `start`..`stop` in samples of that piece, `stop` excluded.

    `intensity` holds one value in 0..1 per label window, if known.
    """

    piece: int
    start: int
    stop: int
    trial: int
    position: int
    clip: int
    label: str | None
    intensity: tuple[float, ...] | None = None


@dataclass(frozen=True)
class RawRecording:
    """One recording as read, without personal data.

    `pieces` are contiguous stretches of signal, (n_chans, n_times) float in µV, in the order recorded: one for
    a continuous file, one per clip if the data set is distributed as clips. `bads` are channels that the file
    marks as bad. `onsets` is the recording time in seconds at which each piece begins, if known.
    """

    channels: tuple[str, ...]
    sfreq_hz: float
    pieces: Sequence[np.ndarray]
    trials: Sequence[TrialSpan]
    bads: tuple[str, ...] = ()
    provenance: dict[str, str | float | list[str] | None] = field(default_factory=dict)
    onsets: tuple[float, ...] = ()


@dataclass(frozen=True)
class RecordingRef:
    """Location and identity of a recording that has not been read yet; `position` counts within its session, from 1."""

    recording_id: str
    subject: str
    session: str
    path: Path
    position: int = 1


@dataclass(frozen=True)
class Listing:
    """Contents of a source: its recordings, and a line with the reason for each file or folder left out."""

    refs: list[RecordingRef]
    left_out: tuple[str, ...] = ()


class Source(BaseModel, ABC):
    """A typed description of a data set on disk."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @property
    @abstractmethod
    def label_set(self) -> LabelSet:
        """The classes of this source."""

    @abstractmethod
    def list_recordings(self) -> list[RecordingRef]:
        """Find the recordings; raises `InputError` when files are missing or contradict each other."""

    def listing(self) -> Listing:
        """Find the recordings and report what is left out; raises the same errors as `list_recordings`."""
        return Listing(self.list_recordings())

    @abstractmethod
    def read(self, ref: RecordingRef) -> RawRecording:
        """Read one recording."""

    def files_of(self, ref: RecordingRef) -> tuple[Path, ...]:
        """Return all files that a recording's samples and labels come from, starting with `ref.path`."""
        return (ref.path,)


def is_there(path: Path) -> bool:
    """Whether the path exists; a broken link counts as existing."""
    return path.is_symlink() or path.exists()


def assert_there(path: Path) -> None:
    """Refuse a broken link, which git-annex and DataLad leave in place of content that was not fetched."""
    if path.is_symlink() and not path.exists():
        raise InputError(
            str(path),
            "is a link to content that has not been fetched",
            f"Fetch it, for example with `datalad get {path.name}`.",
        )


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, or of the names in a folder; cached while size and modification time stay the same.

    A file that was modified less than 2 s ago is not cached: its modification time may be too coarse to show a change.
    """
    if path.is_dir():  # `files_of` lists the files in it as well
        names = sorted(file.relative_to(path).as_posix() for file in path.rglob("*"))
        return hashlib.sha256("\n".join(names).encode()).hexdigest()
    status = path.stat()
    settled = time.time_ns() - status.st_mtime_ns > _SETTLING_NS
    remembered = _sha256 if settled else _sha256.__wrapped__
    return remembered(path, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=1024)
def _sha256(path: Path, size: int, mtime_ns: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
