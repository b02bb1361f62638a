"""A run's folder: which spec owns it, and whether the run is done."""

import hashlib
import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from storage.errors import InputError
from storage.files import write_json

DONE, OWNER, SPEC, ENVIRONMENT = "DONE.json", "run.json", "spec.yaml", "environment.json"


@dataclass(frozen=True)
class RunFolder:
    """The folder of one run.

    Parameters
    ----------
    path : Path
        Absolute.
    digest : str
        Identity of the run: its spec and everything it is built on.
    """

    path: Path
    digest: str

    def is_done(self) -> bool:
        """Whether this very run has finished here.

        Raises
        ------
        InputError
            When the folder belongs to another spec.
        """
        if self.path.exists() and not self.path.is_dir():
            raise InputError(f"run: {self.path}", "is a file", "Name a folder for the run.")
        for name in (DONE, OWNER):
            file = self.path / name
            if file.exists() and (there := json.loads(file.read_text())["digest"]) != self.digest:
                state = "a finished" if name == DONE else "an interrupted"
                raise InputError(
                    str(self.path),
                    f"holds {state} run of a different spec or other inputs ({there[:12]}, not {self.digest[:12]})",
                    "Choose another `run:` or remove the folder; nothing was changed.",
                )
        return (self.path / DONE).exists()

    @contextmanager
    def claimed(self, spec: dict[str, Any], environment: dict[str, Any]) -> Iterator[None]:
        """Own the folder while the block runs; mark it done when the block ends well."""
        self.path.mkdir(parents=True, exist_ok=True)
        spent = self._seconds_spent()
        started = time.monotonic()
        write_json(self.path / OWNER, {"digest": self.digest, "seconds_spent": spent})
        (self.path / SPEC).write_text(yaml.safe_dump(spec, sort_keys=False))
        write_json(self.path / ENVIRONMENT, environment)
        try:
            yield
        except BaseException:
            total = round(spent + time.monotonic() - started, 2)
            write_json(self.path / OWNER, {"digest": self.digest, "seconds_spent": total})
            raise
        wall = round(spent + time.monotonic() - started, 2)
        finished = datetime.now(UTC).isoformat(timespec="seconds")
        write_json(self.path / DONE, {"digest": self.digest, "wall_seconds": wall, "finished": finished})

    def _seconds_spent(self) -> float:
        owner = self.path / OWNER
        return float(json.loads(owner.read_text())["seconds_spent"]) if owner.exists() else 0.0


def chained_digest(spec_digest: str, inputs: Sequence[str]) -> str:
    """Digest of a spec together with the digests of the runs and stores that it builds on."""
    return hashlib.sha256(json.dumps([spec_digest, *inputs]).encode()).hexdigest()


def finished_digest(run: Path, field: str) -> str:
    """Digest of a finished run.

    Raises
    ------
    InputError
        When the run is not there or has not finished.
    """
    done = run / DONE
    if not done.exists():
        raise InputError(f"{field}: {run}", "no finished run here", "Run the job that makes it first.")
    return str(json.loads(done.read_text())["digest"])
