"""What every reader hands to ingest."""

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
    """One recording as read, nothing personal.

    `pieces` are contiguous stretches of signal, (n_chans, n_times) float in µV, in the order recorded: one for
    a continuous file, one per clip where the data set hands out cut clips. `bads` are channels that the file
    marks as bad. `onsets` is the recording time in seconds at which each piece begins, where it is known.
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
    """Where one recording is found, before it is read; `position` is its place in its session, from 1."""

    recording_id: str
    subject: str
    session: str
    path: Path
    position: int = 1


@dataclass(frozen=True)
class Listing:
    """What a source holds: its recordings, and what lies beside them and is no recording of its own, and why."""

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
        """Find the recordings, and say what is left out; errors as of `list_recordings`."""
        return Listing(self.list_recordings())

    @abstractmethod
    def read(self, ref: RecordingRef) -> RawRecording:
        """Read one recording."""

    def files_of(self, ref: RecordingRef) -> tuple[Path, ...]:
        """Return every file that a recording's samples and labels come from, the named one first."""
        return (ref.path,)


def is_there(path: Path) -> bool:
    """Whether something has this name, if only a link to what is not there."""
    return path.is_symlink() or path.exists()


def assert_there(path: Path) -> None:
    """Refuse a link to content that was not fetched, as git-annex and DataLad leave it."""
    if path.is_symlink() and not path.exists():
        raise InputError(
            str(path), "is a link to content that is not there", f"Fetch it, for example by `datalad get {path.name}`."
        )


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, of a folder's names; remembered while its size and time of change stay the same.

    A file that changed just now is not remembered: its time of change is too coarse to show a second change.
    """
    if path.is_dir():  # the files in it are files of the recording themselves
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
