"""What a place is: the verbs that folders and prefixes of an object store share, and how specs spell one."""

import re
from abc import ABC, abstractmethod
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

_SCHEME = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]*://")
_S3 = re.compile(r"s3://(?P<bucket>[a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(/(?P<prefix>.*))?")
PLACE_FORMAT = "folder-or-url"
"""Format of a `Place` in JSON Schema."""


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
    """Return a text unchanged; raises `ValueError` if it is a URL but not a valid place."""
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
    """Metadata of a stored file, without reading it.

    Attributes
    ----------
    size : int
        Bytes.
    tag : str
        ETag: changes whenever the content does.
    modified : float
        When it was written, in seconds since 1970.
    """

    size: int
    tag: str
    modified: float


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
    def names(self, key: str = "") -> list[str]:
        """Sorted names of the objects and folders directly below `key`; empty if there are none."""

    def num_bytes(self, key: str = "") -> int:
        """Bytes of all objects below `key`."""
        return sum(stored.size for stored in self.files(key).values())

    @abstractmethod
    def remove(self, key: str) -> None:
        """Remove an object, or a folder with its contents; missing ones are ignored."""

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
    def writing(self, what: str) -> AbstractContextManager[None]:
        """Turn a failure to write `what` inside the block into `InputError`."""

    @property
    @abstractmethod
    def patience_seconds(self) -> float:
        """How long a read may take before it is given up."""

    @property
    @abstractmethod
    def seconds_between_looks(self) -> float:
        """How long to wait between two looks for something new."""
