"""Where stores, runs and models lie: folders of this machine or prefixes of an object store, with the same verbs."""

import os
import re
import shutil
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from stat import S_ISREG
from typing import Any, NamedTuple

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from storage.errors import InputError
from storage.places.files import flush, write_bytes

_SCHEME = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]*://")
_S3 = re.compile(r"s3://(?P<bucket>[a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(/(?P<prefix>.*))?")
PLACE_FORMAT = "folder-or-url"
"""Format of a `Place` in JSON Schema."""
_PARTIAL = ("zarr.json.*.partial", "index/*.partial", "recordings/*.partial", "recordings/*/*.partial")
LOCKS = (".ingest.lock", ".writers.lock")
"""Files in the folder of a store by which ingests keep out of each other's way (:mod:`storage.places.lock`)."""


def is_url(place: str) -> bool:
    """Tell ``s3://...`` from a folder."""
    return bool(_SCHEME.match(place))


def split_url(url: str) -> tuple[str, str]:
    """Bucket and prefix of ``s3://bucket/prefix``.

    Raises
    ------
    ValueError
        When it is something else, or carries credentials; the text never repeats them.
    """
    if "@" in url or "?" in url or re.match(r"[^/]*//[^/]*:", url):
        raise ValueError(
            "the URL holds credentials, a port or a query; name s3://bucket/prefix and set the AWS_ variables"
        )
    match = _S3.fullmatch(url.rstrip("/"))
    if match is None:
        raise ValueError("expected a folder or s3://bucket/prefix")
    parts = (match["prefix"] or "").split("/")
    if parts != [""] and not all(part not in ("", ".", "..") for part in parts):
        raise ValueError("the prefix holds an empty part, '.' or '..'")
    return match["bucket"], match["prefix"] or ""


def checked_url(place: str) -> str:
    """Return a text as it is; raises `ValueError` when it is a URL that is no place."""
    if is_url(place):
        split_url(place)
    return place


class Place(str):
    """A folder, relative to a spec's root, or an ``s3://bucket/prefix``: the type of a spec's fields that name one."""

    __slots__ = ()

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        text = core_schema.no_info_before_validator_function(_as_text, core_schema.str_schema())
        return core_schema.no_info_after_validator_function(cls._checked, text)

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {**handler(schema), "format": PLACE_FORMAT}

    @classmethod
    def _checked(cls, place: str) -> "Place":
        if not place.strip():
            raise ValueError("expected a folder or s3://bucket/prefix")
        return cls(checked_url(place).rstrip("/") if is_url(place) else Path(place))


def _as_text(place: Any) -> Any:
    return str(place) if isinstance(place, Path) else place


StoreURL = Place
"""Place of a store."""


class Stored(NamedTuple):
    """What a place says of a file without reading it.

    Attributes
    ----------
    size : int
        Bytes.
    tag : str
        Another one for another content.
    modified : float
        When it was written, in seconds since 1970.
    """

    size: int
    tag: str
    modified: float


def _unless_gone(error: OSError) -> None:
    """Pass over folders that are removed while a tree is listed, and those that may not be read."""
    if not isinstance(error, FileNotFoundError | NotADirectoryError | PermissionError):
        raise error


def locate(place: "str | Path | Location") -> "Location":
    """Turn a folder or an ``s3://bucket/prefix`` into a location.

    Raises
    ------
    InputError
        When the scheme is not known, the bucket is missing, or the URL carries credentials.
    """
    if isinstance(place, Location):
        return place
    if not is_url(str(place)):
        return Folder(Path(place).absolute())
    from storage.places.s3.bucket import Bucket

    return Bucket(str(place))


class Location(ABC):
    """A place that holds objects by their key, ``a/b/c``. ``str()`` gives its folder or URL."""

    @abstractmethod
    def read(self, key: str) -> bytes:
        """Read an object; raises `FileNotFoundError` when there is none."""

    @abstractmethod
    def read_range(self, key: str, start: int, stop: int) -> bytes:
        """Read bytes `start`..`stop` of an object; raises `FileNotFoundError` when there is none."""

    @abstractmethod
    def read_end(self, key: str, length: int) -> bytes:
        """Read the last bytes of an object, fewer if it is shorter."""

    @abstractmethod
    def write(self, key: str, content: bytes) -> None:
        """Write an object: readers see the old one or the new one."""

    @abstractmethod
    def append(self, key: str, content: bytes) -> None:
        """Write to the end of an object, made if absent; for one writer at a time."""

    @abstractmethod
    def exists(self, key: str) -> bool:
        """Whether there is an object of this name."""

    @abstractmethod
    def files(self, key: str = "") -> dict[str, Stored]:
        """All objects below `key`, by their whole key, sorted."""

    @abstractmethod
    def folders(self, key: str) -> list[str]:
        """Names of the folders directly below `key`, sorted."""

    @abstractmethod
    def num_bytes(self, key: str = "") -> int:
        """Bytes of all objects below `key`."""

    @abstractmethod
    def remove(self, key: str) -> None:
        """Remove an object or a folder with all that is in it; absent ones are no error."""

    @abstractmethod
    def settle(self, key: str) -> None:
        """Return when everything below `key` would survive a loss of power."""

    @abstractmethod
    def zarr(self, key: str) -> Any:
        """Give zarr-python a store whose root is `key`."""

    @abstractmethod
    def tensorstore(self, key: str) -> dict[str, Any]:
        """TensorStore's `kvstore` specification of `key`."""

    @abstractmethod
    def refuse_foreign(self) -> None:
        """Raise `InputError` when something that is no store is in the way of a new one."""

    @abstractmethod
    def writing(self, what: str) -> AbstractContextManager[None]:
        """Turn a failure to write `what` inside the block into `InputError`."""

    @abstractmethod
    def sweep(self) -> None:
        """Remove what writers that were killed left of single objects."""

    @property
    @abstractmethod
    def patience_seconds(self) -> float:
        """How long a read may take before it is given up."""

    @property
    @abstractmethod
    def seconds_between_looks(self) -> float:
        """How long to wait between two looks for something new."""


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
        below = self.path / key
        return sorted(path.name for path in below.iterdir() if path.is_dir()) if below.is_dir() else []

    def num_bytes(self, key: str = "") -> int:
        """Bytes of all files below a folder."""
        return sum(stored.size for stored in self.files(key).values())

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

    def refuse_foreign(self) -> None:
        """Make the folder, and look at what is in it."""
        self.path.mkdir(parents=True, exist_ok=True)
        if foreign := [path for path in self.path.iterdir() if not _is_ours(path)]:
            raise InputError(
                str(self), f"is a folder with other content ({foreign[0].name})", "Choose another store folder."
            )

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

    def sweep(self) -> None:
        """Remove the first names of files that were never renamed."""
        for pattern in _PARTIAL:
            for path in self.path.glob(pattern):
                path.unlink(missing_ok=True)

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


def _is_ours(path: Path) -> bool:
    if path.name == "recordings" and path.is_dir():
        return (path / "zarr.json").exists() or all(_is_ours(child) for child in path.iterdir())
    return path.name.startswith("zarr.") or path.name in LOCKS
