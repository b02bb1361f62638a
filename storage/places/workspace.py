"""The folder in which a node works on a run: the run's own, or a local copy if the run is in a bucket."""

import fnmatch
import os
import platform
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from storage.errors import InputError
from storage.places.base import Location
from storage.places.folder import Folder
from storage.places.location import locate
from storage.places.repeating import repeated
from storage.places.s3.bucket import Bucket
from storage.places.scratch import scratch_folder

_SECONDS_BETWEEN_SENDINGS = 5.0


class Workspace:
    """The folder in which a node works on a run.

    A run in a folder is worked on there, and nothing has to be sent or fetched: these calls do nothing. A run at a URL
    is worked on in a folder of this node's own; what is not sent is lost with it.

    Parameters
    ----------
    place : str, Path or Location
        The run's folder or URL.
    node : int or str
        Number of this node among those that work on the run, or what a process is that works beside them.

    Attributes
    ----------
    place : Location
        The run.
    folder : Path
        Where this node works.
    is_shared : bool
        Whether the folder is the run's own, which all nodes see.
    """

    def __init__(self, place: str | Path | Location, node: int | str = "launcher") -> None:
        self.place = locate(place)
        self.is_shared = isinstance(self.place, Folder)
        self.folder = (
            self.place.path if isinstance(self.place, Folder) else scratch_folder(str(self.place)) / f"node-{node}"
        )
        self._sent: dict[str, tuple[int, int]] = {}
        self._fetched: dict[str, str] = {}
        self._sending = threading.Lock()

    @property
    def name(self) -> str:
        """The run's own name."""
        return str(self.place).rsplit("/", 1)[-1]

    @property
    def identity(self) -> str:
        """The same for all processes that see the same folder; it has to be there."""
        if self.is_shared:
            return ""
        found = self.folder.stat()
        return f"{platform.node()} {found.st_dev} {found.st_ino}"

    @property
    def _bucket(self) -> Bucket:
        assert isinstance(self.place, Bucket)
        return self.place

    def send(self, *patterns: str) -> None:
        """Send the files of these names that hold something and have changed since they were last sent or fetched.

        Raises
        ------
        InputError
            When the object store does not take them.
        """
        if self.is_shared:
            return
        with self._sending:
            for path in sorted(path for pattern in patterns for path in self.folder.glob(pattern) if path.is_file()):
                key, stamp = self._key(path), _stamp(path)
                if path.stat().st_size and self._sent.get(key) != stamp:
                    self._bucket.upload(path, key)
                    self._sent[key] = stamp

    def send_file(self, path: Path) -> None:
        """Upload one file, in parallel with other uploads."""
        if not self.is_shared:
            self._bucket.upload(path, self._key(path))

    def send_folder(self, name: str) -> None:
        """Upload a folder and remove remote files that it no longer has."""
        if self.is_shared:
            return
        paths = {self._key(path): path for path in sorted((self.folder / name).rglob("*")) if path.is_file()}
        for key in self.place.files(name).keys() - paths.keys():
            self.place.remove(key)
        for key, path in paths.items():
            self._bucket.upload(path, key)

    def fetch(self, *patterns: str) -> None:
        """Have the files of these names here as they are in the run, and no others of these names."""
        if self.is_shared:
            return
        there = {
            key: stored
            for key, stored in self.place.files().items()
            if any(fnmatch.fnmatchcase(key, pattern) for pattern in patterns)
        }
        for path in [path for pattern in patterns for path in self.folder.glob(pattern)]:
            if self._key(path) not in there:
                path.unlink()
        for key, stored in there.items():
            path = self.folder / key
            if self._fetched.get(key) == stored.tag and path.exists():
                continue
            with suppress(FileNotFoundError):  # the run removes old files while we look
                stored = self._bucket.download(key, path)
                os.utime(path, (stored.modified, stored.modified))
                self._fetched[key], self._sent[key] = stored.tag, _stamp(path)

    def fetch_folder(self, key: str, folder: Path) -> None:
        """Fetch the run's files below a key."""
        if self.is_shared:
            return
        shutil.rmtree(folder, ignore_errors=True)
        for name in self.place.files(key):
            self._bucket.download(name, folder / name.removeprefix(f"{key}/"))

    @contextmanager
    def kept(self, *patterns: str) -> Iterator[None]:
        """Upload changes of these files while the block runs.

        An object store that does not answer for a while is tried again; at the end of a block without an exception it
        has to take them.
        """
        if self.is_shared or not patterns:
            yield
            return

        def attempt() -> None:
            with suppress(InputError, OSError):
                self.send(*patterns)

        with repeated(attempt, _SECONDS_BETWEEN_SENDINGS):
            yield
        self.send(*patterns)

    def discard(self) -> None:
        """Remove this node's own folder; the run is kept."""
        if not self.is_shared:
            shutil.rmtree(self.folder, ignore_errors=True)

    def _key(self, path: Path) -> str:
        return path.relative_to(self.folder).as_posix()


@contextmanager
def working_folder(place: str | Path) -> Iterator[Path]:
    """Work on a run in one process: yields a folder whose contents at the end of the block become the run's."""
    workspace = Workspace(place)
    workspace.discard()
    workspace.folder.mkdir(parents=True, exist_ok=True)
    yield workspace.folder
    workspace.send("**/*")
    workspace.discard()


def _stamp(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_mtime_ns, found.st_size
