"""A folder as a place."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from stat import S_ISREG
from typing import Any

from storage.errors import InputError
from storage.places.base import Location, Stored
from storage.places.files import flush, write_bytes


class Folder(Location):
    """A folder on a local or mounted file system."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __str__(self) -> str:
        return str(self.path)

    def read(self, key: str) -> bytes:
        """Read a file."""
        return self._existing(key).read_bytes()

    def read_range(self, key: str, start: int, stop: int) -> bytes:
        """Read a part of a file."""
        with self._existing(key).open("rb") as file:
            file.seek(start)
            return file.read(stop - start)

    def read_end(self, key: str, length: int) -> bytes:
        """Read the end of a file."""
        path = self._existing(key)
        size = path.stat().st_size
        return self.read_range(key, max(0, size - length), size)

    def write(self, key: str, content: bytes) -> None:
        """Write a file by an atomic rename that survives a loss of power."""
        path = self.path / key
        write_bytes(path, content)
        flush(path.parent)

    def append(self, key: str, content: bytes) -> None:
        """Write to the end of a file."""
        path = self.path / key
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab") as file:
            file.write(content)

    def exists(self, key: str) -> bool:
        """Whether there is a file of this name."""
        return (self.path / key).is_file()

    def files(self, key: str = "") -> dict[str, Stored]:
        """All files below a folder."""
        found = {}
        tree = os.walk(self.path / key, onerror=_unless_gone)
        for path in sorted(Path(folder, name) for folder, _, names in tree for name in names):
            with suppress(FileNotFoundError):  # gone since it was listed
                if S_ISREG((stat := path.stat()).st_mode):
                    tag = f"{stat.st_ino}-{stat.st_mtime_ns}"
                    found[path.relative_to(self.path).as_posix()] = Stored(stat.st_size, tag, stat.st_mtime)
        return found

    def folders(self, key: str) -> list[str]:
        """Names of subfolders."""
        return [name for name in self.names(key) if (self.path / key / name).is_dir()]

    def names(self, key: str = "") -> list[str]:
        """List a folder."""
        below = self.path / key
        return sorted(path.name for path in below.iterdir()) if below.is_dir() else []

    def remove(self, key: str) -> None:
        """Remove a file or a folder."""
        path = self.path / key
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)

    def settle(self, key: str) -> None:
        """Flush files and folders, up to the store's own, from the page cache."""
        path = self.path / key
        above = [parent for parent in path.parents if parent.is_relative_to(self.path)]
        for name in [*path.rglob("*"), path, *above]:
            flush(name)

    def zarr(self, key: str) -> Any:
        """A `zarr.storage.LocalStore`."""
        from zarr.storage import LocalStore

        return LocalStore(self.path / key)

    def tensorstore(self, key: str) -> dict[str, Any]:
        """Driver `file`."""
        return {"driver": "file", "path": f"{self.path / key}/"}

    @contextmanager
    def writing(self, what: str) -> Iterator[None]:
        """Full disks, missing permissions."""
        try:
            yield
        except OSError as error:
            raise InputError(
                str(self),
                f"{what} cannot be written ({error.strerror or error})",
                "Make room or correct permissions and run the job again; what was in the store is unchanged.",
            ) from error

    @property
    def patience_seconds(self) -> float:
        """A mounted file system may hang."""
        return 120.0

    @property
    def seconds_between_looks(self) -> float:
        """As people read."""
        return 0.2

    def _existing(self, key: str) -> Path:
        path = self.path / key
        if not path.is_file():
            raise FileNotFoundError(str(path))
        return path


def _unless_gone(error: OSError) -> None:
    """Pass over folders that are removed while a tree is listed, and those that may not be read."""
    if not isinstance(error, FileNotFoundError | NotADirectoryError | PermissionError):
        raise error
