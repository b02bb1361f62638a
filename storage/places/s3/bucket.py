"""Stores, runs and models at ``s3://bucket/prefix``: any server that speaks the S3 protocol."""

import math
import os
import random
import re
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import timedelta
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from storage.errors import InputError
from storage.places.base import Location, Stored, split_url
from storage.places.s3 import access
from storage.places.s3.access import Unconditional

if TYPE_CHECKING:
    from obstore import ListResult, ObjectMeta
    from obstore.store import S3Store

T = TypeVar("T")
_ENDLESS = 1000
"""Repetitions: more than fit into the patience, which is what ends repeating."""
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0
_CODE = re.compile(r"<Code>(\w+)</Code>")
_STATUS = re.compile(r"status code: (\d{3})")
_RANGE_NOT_SATISFIABLE, _NOT_IMPLEMENTED = 416, 501
_ASK_AGAIN = (408, 409, 429)
"""Timeout, a condition checked while another writes, too many requests."""
_METADATA_SERVICE = "169.254.169.254"
_PART_BYTES = 64 * 2**20
_PARTS_AT_ONCE = 4
_PAGE = 1000
"""Objects that one request lists."""
_VERSIONS = 10
"""Of an object that is replaced while it is downloaded, before that is given up."""


class Bucket(Location):
    """A prefix in a bucket.

    Credentials, region and endpoint come from the standard environment (``AWS_ACCESS_KEY_ID``,
    ``AWS_SECRET_ACCESS_KEY``, ``AWS_SESSION_TOKEN``, ``AWS_REGION``, ``AWS_ENDPOINT_URL``), or the
    machine's role; never from a URL or a spec. Failed and stalled requests are repeated with growing pauses.

    Parameters
    ----------
    url : str
        ``s3://bucket/prefix``.
    """

    def __init__(self, url: str) -> None:
        try:
            self.bucket, self.prefix = split_url(url)
        except ValueError as error:
            place = "s3://..." if "@" in url or "?" in url else url
            raise InputError(
                place, f"is not a valid place for a store: {error}", "Name a folder or s3://bucket/prefix."
            ) from None

    def __str__(self) -> str:
        return "/".join(part for part in ("s3:/", self.bucket, self.prefix) if part)

    def read(self, key: str) -> bytes:
        """GET an object."""
        return self._ask(key, lambda objects: bytes(objects.get(key).bytes()))

    def read_range(self, key: str, start: int, stop: int) -> bytes:
        """GET a range of an object; less, where it ends before."""
        from obstore.exceptions import BaseError

        def part(objects: "S3Store") -> bytes:
            try:
                return bytes(objects.get_range(key, start=start, end=stop))
            except BaseError as error:
                if _status(error) == _RANGE_NOT_SATISFIABLE:
                    return b""
                raise

        return self._ask(key, part)

    def read_end(self, key: str, length: int) -> bytes:
        """GET the last bytes of an object."""
        size = self.stored(key).size
        return self.read_range(key, max(0, size - length), size) if size else b""

    def write(self, key: str, content: bytes) -> None:
        """PUT an object, which is atomic, in one piece.

        An upload in parts could not be repeated when the answer to its last request is lost.

        Raises
        ------
        InputError
            When there is no such bucket, the server refuses, or was not to be reached for all of the patience.
        """
        try:
            self._ask(key, lambda objects: objects.put(key, content, use_multipart=False))
        except FileNotFoundError as error:
            raise self._no_bucket() from error

    def write_if(self, key: str, content: bytes, tag: str | None) -> str | None:
        """PUT an object if its tag is still this one, or it is still absent (None).

        Contents must differ from version to version: after a lost answer the object is read to see whose it is.

        Returns
        -------
        str, optional
            New tag of the object; None when its tag was another one, and it was left unchanged.

        Raises
        ------
        Unconditional
            When the server says that it cannot do this.
        InputError
            As :meth:`write`.
        """
        from obstore.exceptions import AlreadyExistsError, PreconditionError

        mode: Any = "create" if tag is None else {"e_tag": tag}
        try:
            put = self._ask(key, lambda objects: objects.put(key, content, mode=mode, use_multipart=False))
        except FileNotFoundError as error:
            raise self._no_bucket() from error
        except InputError as error:
            if _status(error.__cause__) == _NOT_IMPLEMENTED:
                raise Unconditional from error
            if not isinstance(error.__cause__, AlreadyExistsError | PreconditionError):
                raise
        else:
            return put["e_tag"]
        with suppress(FileNotFoundError):
            there, its_tag = self.read_version(key)
            return its_tag if there == content else None
        return None

    def read_version(self, key: str) -> tuple[bytes, str]:
        """GET an object and its tag; raises `FileNotFoundError` when there is none."""

        def get(objects: "S3Store") -> tuple[bytes, str]:
            found = objects.get(key)
            return bytes(found.bytes()), found.meta["e_tag"] or ""

        return self._ask(key, get)

    def append(self, key: str, content: bytes) -> None:
        """GET an object, PUT the longer one."""
        try:
            before = self.read(key)
        except FileNotFoundError:
            before = b""
        self.write(key, before + content)

    def upload(self, path: Path, key: str) -> None:
        """Write a file of any size; readers see the old one or the new one.

        Raises
        ------
        InputError
            When the server refuses, or was not to be reached for all of the patience.
        OSError
            When the file cannot be read.
        """
        size = path.stat().st_size
        if size <= _PART_BYTES:
            self.write(key, path.read_bytes())
            return

        from obstore.exceptions import BaseError

        before, parts = self._tag(key, size), self._client(max_retries=_ENDLESS)

        def put(_: "S3Store") -> None:
            try:
                with path.open("rb") as file:
                    parts.put(key, file, use_multipart=True, chunk_size=_PART_BYTES, max_concurrency=_PARTS_AT_ONCE)
            except BaseError:
                if self._tag(key, size) in (None, before):
                    raise  # else only the answer to the last request was lost

        try:
            self._ask(key, put, is_long=True)
        except FileNotFoundError as error:
            raise self._no_bucket() from error

    def _tag(self, key: str, size: int) -> str | None:
        """Tag of an object, if there is one of this size."""
        try:
            stored = self.stored(key)
        except FileNotFoundError:
            return None
        return stored.tag if stored.size == size else None

    def download(self, key: str, path: Path) -> Stored:
        """Read an object of any size into a file, in parts of one version of it, which is returned.

        Raises
        ------
        FileNotFoundError
            When there is no such object.
        InputError
            When the server refuses, was not to be reached for all of the patience, or the object never stays the same.
        OSError
            When the file cannot be written.
        """
        from obstore.exceptions import PreconditionError

        for attempt in range(1, _VERSIONS + 1):
            stored = self.stored(key)
            try:
                self._download(stored, key, path)
            except InputError as error:
                if attempt == _VERSIONS or not isinstance(error.__cause__, PreconditionError):
                    raise
            else:
                break
        return stored

    def _download(self, stored: Stored, key: str, path: Path) -> None:
        """Read one version of an object into a file."""
        size, tag, _ = stored
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f"{path.name}.partial")
        with partial.open("wb") as file, ThreadPoolExecutor(_PARTS_AT_ONCE) as threads:

            def fetch(start: int) -> None:
                span = (start, min(size, start + _PART_BYTES))
                content = self._ask(
                    key, lambda objects: objects.get(key, options={"range": span, "if_match": tag}).bytes()
                )
                os.pwrite(file.fileno(), content, start)

            list(threads.map(fetch, range(0, size, _PART_BYTES)))
        partial.replace(path)

    def exists(self, key: str) -> bool:
        """HEAD an object."""
        try:
            self.stored(key)
        except FileNotFoundError:
            return False
        return True

    def stored(self, key: str) -> Stored:
        """HEAD an object; raises `FileNotFoundError` when there is none."""
        return _stored(self._ask(key, lambda objects: objects.head(key)))

    def folders(self, key: str) -> list[str]:
        """List common prefixes."""
        return sorted(prefix.rstrip("/").rsplit("/", 1)[-1] for prefix in self._below(key)["common_prefixes"])

    def names(self, key: str = "") -> list[str]:
        """List objects and common prefixes."""
        return sorted([*self.folders(key), *(item["path"].rsplit("/", 1)[-1] for item in self._below(key)["objects"])])

    def _below(self, key: str) -> "ListResult[Sequence[ObjectMeta]]":
        return self._ask(key, lambda objects: objects.list_with_delimiter(f"{key}/" if key else None), is_long=True)

    def files(self, key: str = "") -> dict[str, Stored]:
        """List objects, page by page, so that one page that fails is one request to repeat."""
        found: dict[str, Stored] = {}
        last, is_full = None, True
        while is_full:
            page = self._ask(key, partial(_page, key=key, after=last))
            found |= {item["path"]: _stored(item) for item in page}
            last, is_full = next(reversed(found), None), len(page) == _PAGE
        return dict(sorted(found.items()))

    def remove(self, key: str) -> None:
        """DELETE an object and all below it."""
        names = list(self.files(key))
        self._ask(key, lambda objects: objects.delete([*names, key]), is_long=True)

    def settle(self, key: str) -> None:
        """Nothing to do: what an object store has acknowledged is kept."""

    def zarr(self, key: str) -> Any:
        """A `zarr.storage.ObjectStore`."""
        from storage.places.s3.zarr_store import PatientObjectStore

        return PatientObjectStore(below := Bucket(f"{self}/{key}"), below.objects)

    def tensorstore(self, key: str) -> dict[str, Any]:
        """Driver `s3`; TensorStore looks for credentials in the same places."""
        # Read by TensorStore once, at its first request.
        os.environ.setdefault("TENSORSTORE_CURL_CONNECT_TIMEOUT_SECONDS", f"{access.CONNECT_SECONDS:.0f}")
        os.environ.setdefault("TENSORSTORE_CURL_LOW_SPEED_TIME_SECONDS", f"{max(1, access.stalled_seconds()):.0f}")
        os.environ.setdefault("TENSORSTORE_CURL_LOW_SPEED_LIMIT_BYTES", "1")
        path = "/".join(part for part in (self.prefix, key) if part)
        spec: dict[str, Any] = {
            "driver": "s3",
            "bucket": self.bucket,
            "path": f"{path}/",
            "aws_region": access.region(),
            "s3_request_retries": {
                "max_retries": _ENDLESS,
                "initial_delay": f"{_FIRST_PAUSE:g}s",
                "max_delay": f"{_LONGEST_PAUSE:g}s",
            },
        }
        if endpoint := access.endpoint():
            spec["endpoint"] = endpoint
        if kind := access.credentials_kind():
            spec["aws_credentials"] = {"type": kind}
        return spec

    @contextmanager
    def writing(self, what: str) -> Iterator[None]:
        """Nothing to add: every request tells by itself why it failed."""
        yield

    @property
    def patience_seconds(self) -> float:
        """Patience from the environment, by default two minutes."""
        return access.patience_seconds()

    @property
    def seconds_between_looks(self) -> float:
        """Interval between looks; each is a request that costs money."""
        return 2.0

    @cached_property
    def objects(self) -> "S3Store":
        """The client, without retries of its own: :meth:`_ask` repeats failed requests."""
        return self._client(max_retries=0)

    def _client(self, max_retries: int) -> "S3Store":
        from obstore.exceptions import BaseError
        from obstore.store import S3Store

        endpoint, credentials = access.endpoint(), access.credentials(str(self))
        try:
            return S3Store(
                self.bucket,
                prefix=self.prefix or None,
                config={"region": access.region(), **({"endpoint": endpoint} if endpoint else {})},
                client_options={
                    "allow_http": bool(endpoint and endpoint.startswith("http://")),
                    "connect_timeout": timedelta(seconds=access.CONNECT_SECONDS),
                    "read_timeout": timedelta(seconds=access.stalled_seconds()),
                    "timeout": timedelta(seconds=access.patience_seconds()),
                },
                retry_config={
                    "max_retries": max_retries,
                    "retry_timeout": timedelta(seconds=self.patience_seconds / 2),
                    "backoff": {
                        "init_backoff": timedelta(seconds=_FIRST_PAUSE),
                        "max_backoff": timedelta(seconds=_LONGEST_PAUSE),
                        "base": 2,
                    },
                },
                **credentials,
            )
        except (BaseError, ValueError) as error:
            raise self._explained(error) from error

    def _ask(self, key: str, question: "Callable[[S3Store], T]", *, is_long: bool = False) -> T:
        """Repeat a request until it succeeds. Only the parts of an upload are repeated elsewhere.

        The client would repeat neither deletions nor broken-off bodies. The patience with a long question begins when
        it first fails.

        Raises
        ------
        FileNotFoundError
            When there is no such object.
        InputError
            When the server refuses, or was not to be reached for all of the patience.
        """
        from obstore.exceptions import BaseError, NotFoundError

        started, pause = time.monotonic(), _FIRST_PAUSE
        deadline = math.inf if is_long else started + self.patience_seconds
        while True:
            try:
                return question(self.objects)
            except (NotFoundError, FileNotFoundError) as error:
                raise FileNotFoundError(f"{self}/{key}") from error
            except BaseError as error:
                patience = self.patience_seconds / (2 if _METADATA_SERVICE in str(error) else 1)
                deadline = min(deadline, (time.monotonic() if is_long else started) + patience)
                if _is_final(error) or time.monotonic() + pause > deadline:
                    raise self._explained(error) from error
            time.sleep(random.SystemRandom().uniform(pause / 2, pause))  # workers that failed together part
            pause = min(2 * pause, _LONGEST_PAUSE)

    def _no_bucket(self) -> InputError:
        return InputError(str(self), "no such bucket", "Create it, or correct the URL and AWS_ENDPOINT_URL.")

    def _explained(self, error: Exception) -> InputError:
        return InputError(
            str(self),
            f"a request to the object store failed ({_reason(error)})",
            "Check the bucket, AWS_ENDPOINT_URL, AWS_REGION and the credentials, then run again.",
        )


def _page(objects: "S3Store", key: str, after: str | None) -> "Sequence[ObjectMeta]":
    return next(iter(objects.list(key or None, offset=after, chunk_size=_PAGE)), ())


def _stored(item: "ObjectMeta") -> Stored:
    return Stored(item["size"], item["e_tag"] or "", item["last_modified"].timestamp())


def _status(error: BaseException | None) -> int | None:
    found = _STATUS.search(str(error))
    return int(found[1]) if found else None


def _is_final(error: Exception) -> bool:
    """Whether asking again is of no use."""
    from obstore import exceptions

    if status := _status(error):
        return (status < 500 and status not in _ASK_AGAIN) or status == _NOT_IMPLEMENTED
    refusals = (exceptions.PermissionDeniedError, exceptions.UnauthenticatedError, exceptions.InvalidPathError)
    return isinstance(error, refusals)


def _reason(error: Exception) -> str:
    """A short description of the failure, without details of the request."""
    text = str(error)
    if _METADATA_SERVICE in text:
        return "no credentials: AWS_ACCESS_KEY_ID is not set and this machine has no role"
    found = [*_STATUS.findall(text)[:1], *_CODE.findall(text)[:1]]
    if found:
        return " ".join(["status", *found])
    first = re.split(r"[\n{]", text, maxsplit=1)[0]
    return f"{type(error).__name__}: {first.strip(': ')[:200]}"
