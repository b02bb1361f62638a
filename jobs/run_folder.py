"""A run's folder or bucket: which spec owns it, and whether the run is done."""

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from e2llm_core.inputs import DONE, OWNER, read_facts
from storage.errors import InputError
from storage.places.base import Location
from storage.places.location import locate

SPEC, ENVIRONMENT = "spec.yaml", "environment.json"


@dataclass(frozen=True)
class RunFolder:
    """The folder, or the prefix in a bucket, of one run.

    Parameters
    ----------
    path : str or Path
        Absolute, or a URL.
    digest : str
        Identity of the run: its spec and everything it is built on.
    """

    path: str | Path
    digest: str

    @cached_property
    def place(self) -> Location:
        """Where its files are."""
        return locate(self.path)

    def is_done(self) -> bool:
        """Whether this very run has finished here.

        Raises
        ------
        InputError
            When the folder belongs to another spec, or the bucket cannot be read.
        """
        if Path(self.path).is_file():
            raise InputError(f"run: {self.path}", "is a file", "Name a folder for the run.")
        self.place.folders("")  # says when there is no such bucket, where an object would only be missing
        for name in (DONE, OWNER):
            if (there := read_facts(self.place, name).get("digest", self.digest)) != self.digest:
                state = "a finished" if name == DONE else "an interrupted"
                raise InputError(
                    str(self.path),
                    f"holds {state} run of a different spec or other inputs ({there[:12]}, not {self.digest[:12]})",
                    "Choose another `run:` or remove the folder; nothing was changed.",
                )
        return self.place.exists(DONE)

    @contextmanager
    def claimed(
        self, spec: dict[str, Any], environment: dict[str, Any], confirm: Callable[[], None] = lambda: None
    ) -> Iterator[None]:
        """Own the folder while the block runs; mark it done when the block ends well.

        `confirm` raises when another job has the run (:func:`storage.places.lock.only_job`): nothing is written then.
        """
        spent = float(read_facts(self.place, OWNER).get("seconds_spent", 0.0))
        started = time.monotonic()
        self._write(OWNER, {"digest": self.digest, "seconds_spent": spent})
        self.place.write(SPEC, yaml.safe_dump(spec, sort_keys=False).encode())
        self._write(ENVIRONMENT, environment)
        try:
            yield
        except BaseException:
            total = round(spent + time.monotonic() - started, 2)
            with suppress(InputError, OSError):  # a full disk, a silent bucket or a lost lock is told by the block
                confirm()
                self._write(OWNER, {"digest": self.digest, "seconds_spent": total})
            raise
        confirm()
        wall = round(spent + time.monotonic() - started, 2)
        finished = datetime.now(UTC).isoformat(timespec="seconds")
        self._write(DONE, {"digest": self.digest, "wall_seconds": wall, "finished": finished})

    def _write(self, name: str, content: dict[str, Any]) -> None:
        self.place.write(name, (json.dumps(content, indent=2) + "\n").encode())


def chained_digest(spec_digest: str, inputs: Sequence[str]) -> str:
    """Digest of a spec together with the digests of the runs and stores that it builds on."""
    return hashlib.sha256(json.dumps([spec_digest, *inputs]).encode()).hexdigest()
