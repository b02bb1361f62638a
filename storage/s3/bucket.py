"""Stores at ``s3://bucket/prefix``: any server that speaks the S3 protocol."""

import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

from storage.errors import InputError
from storage.location import Location, split_url
from storage.s3 import access

if TYPE_CHECKING:
    from obstore.store import S3Store

T = TypeVar("T")
MAX_RETRIES = 1000
"""More than fit into the patience, which is what ends repeating."""
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0
_CODE = re.compile(r"<Code>(\w+)</Code>")
_STATUS = re.compile(r"status code: (\d{3})")
_RANGE_NOT_SATISFIABLE = 416
_METADATA_SERVICE = "169.254.169.254"


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
                place, f"is no place for a store: {error}", "Name a folder or s3://bucket/prefix."
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
        size = self._size(key)
        return self.read_range(key, max(0, size - length), size) if size else b""

    def write(self, key: str, content: bytes) -> None:
        """PUT an object, which is atomic, in one piece.

        An upload in parts could not be repeated when the answer to its last request is lost.
        """
        self._ask(key, lambda objects: objects.put(key, content, use_multipart=False))

    def exists(self, key: str) -> bool:
        """HEAD an object."""
        try:
            self._size(key)
        except FileNotFoundError:
            return False
        return True

    def folders(self, key: str) -> list[str]:
        """List common prefixes."""
        found = self._ask(key, lambda objects: objects.list_with_delimiter(f"{key}/" if key else None))
        return sorted(prefix.rstrip("/").rsplit("/", 1)[-1] for prefix in found["common_prefixes"])

    def num_bytes(self, key: str = "") -> int:
        """List objects and add up their sizes."""
        return sum(size for _, size in self._below(key))

    def remove(self, key: str) -> None:
        """DELETE an object and all below it."""
        names = [name for name, _ in self._below(key)]
        self._ask(key, lambda objects: objects.delete([*names, key]))

    def _below(self, key: str) -> list[tuple[str, int]]:
        return self._ask(
            key,
            lambda objects: [(item["path"], item["size"]) for batch in objects.list(key or None) for item in batch],
        )

    def _size(self, key: str) -> int:
        return self._ask(key, lambda objects: objects.head(key)["size"])

    def settle(self, key: str) -> None:
        """Nothing to do: what an object store has acknowledged is kept."""

    def zarr(self, key: str) -> Any:
        """A `zarr.storage.ObjectStore`."""
        from storage.s3.zarr_store import PatientObjectStore

        return PatientObjectStore(Bucket(f"{self}/{key}"))

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
                "max_retries": MAX_RETRIES,
                "initial_delay": f"{_FIRST_PAUSE:g}s",
                "max_delay": f"{_LONGEST_PAUSE:g}s",
            },
        }
        if endpoint := access.endpoint():
            spec["endpoint"] = endpoint
        if kind := access.credentials_kind():
            spec["aws_credentials"] = {"type": kind}
        return spec

    def refuse_foreign(self) -> None:
        """Look whether the prefix is taken."""
        found = self._ask("", lambda objects: objects.list_with_delimiter(None))
        names = [item["path"] for item in found["objects"]] + [name.rstrip("/") for name in found["common_prefixes"]]
        if foreign := [name for name in names if name not in ("zarr.json", "recordings")]:
            raise InputError(str(self), f"is a prefix with other content ({foreign[0]})", "Choose another prefix.")

    @contextmanager
    def writing(self, what: str) -> Iterator[None]:
        """Nothing to add: every request tells by itself why it failed."""
        yield

    def sweep(self) -> None:
        """Nothing to do: an object is there as a whole or not at all."""

    @property
    def patience_seconds(self) -> float:
        """As the environment says, else two minutes."""
        return access.patience_seconds()

    @cached_property
    def objects(self) -> "S3Store":
        """The client."""
        from obstore.exceptions import BaseError

        endpoint = access.endpoint()
        credentials = access.credentials(str(self))
        try:
            return self._client(endpoint, credentials)
        except (BaseError, ValueError) as error:
            raise self._explained(error) from error

    def _client(self, endpoint: str | None, credentials: dict[str, Any]) -> "S3Store":
        from obstore.store import S3Store

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
                "max_retries": MAX_RETRIES,
                "retry_timeout": timedelta(seconds=self.patience_seconds / 2),
                "backoff": {
                    "init_backoff": timedelta(seconds=_FIRST_PAUSE),
                    "max_backoff": timedelta(seconds=_LONGEST_PAUSE),
                    "base": 2,
                },
            },
            **credentials,
        )

    def _ask(self, key: str, question: "Callable[[S3Store], T]") -> T:
        """Ask until there is an answer, since the client itself repeats neither deletions nor broken-off bodies.

        Raises
        ------
        FileNotFoundError
            When there is no such object.
        InputError
            When the server refuses, or was not to be reached for all of the patience.
        """
        from obstore.exceptions import BaseError, NotFoundError

        deadline, pause = time.monotonic() + self.patience_seconds, _FIRST_PAUSE
        while True:
            try:
                return question(self.objects)
            except (NotFoundError, FileNotFoundError) as error:
                raise FileNotFoundError(f"{self}/{key}") from error
            except BaseError as error:
                if _is_final(error) or time.monotonic() + pause > deadline:
                    raise self._explained(error) from error
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    def _explained(self, error: Exception) -> InputError:
        return InputError(
            str(self),
            f"the object store does not answer as it should ({_reason(error)})",
            "Check the bucket, AWS_ENDPOINT_URL, AWS_REGION and the credentials, then run again.",
        )


def _status(error: Exception) -> int | None:
    found = _STATUS.search(str(error))
    return int(found[1]) if found else None


def _is_final(error: Exception) -> bool:
    """Whether asking again is of no use."""
    from obstore import exceptions

    if status := _status(error):
        return status < 500 and status not in (408, 429)
    refusals = (exceptions.PermissionDeniedError, exceptions.UnauthenticatedError, exceptions.InvalidPathError)
    return isinstance(error, refusals) or _METADATA_SERVICE in str(error)


def _reason(error: Exception) -> str:
    """What went wrong, in a few words, without anything of the request."""
    text = str(error)
    if _METADATA_SERVICE in text:
        return "no credentials: AWS_ACCESS_KEY_ID is not set and this machine has no role"
    found = [*_STATUS.findall(text)[:1], *_CODE.findall(text)[:1]]
    if found:
        return " ".join(["status", *found])
    first = re.split(r"[\n{]", text, maxsplit=1)[0]
    return f"{type(error).__name__}: {first.strip(': ')[:200]}"
