"""The folder of an export: one export at a time, atomic files, and no other files touched."""

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import lock_descriptor

from storage.errors import InputError
from storage.places.files import flush, write_json
from storage.places.folder import Folder

RECORD = ".e2llm-export.json"
_STAGING = ".e2llm-staging"


class ExportFolder:
    """An export's folder, held by this process.

    Parameters
    ----------
    path : Path
        Where finished files are.
    record : dict
        Contents and settings of the export.
    """

    def __init__(self, path: Path, record: Mapping[str, Any]) -> None:
        self.path, self.record = path, record

    @property
    def staging(self) -> Path:
        """An empty folder beside the finished files."""
        staging = self.path / _STAGING
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir()
        return staging

    def publish(self, staging: Path, last: str) -> None:
        """Move the contents of `staging` to their place, `last` after all others; existing files are replaced."""
        Folder(staging).settle("")
        for path in sorted(staging.iterdir(), key=lambda path: path.name == last):
            path.replace(self.path / path.name)
        flush(self.path)


@contextmanager
def held(path: Path, record: Mapping[str, Any], *, record_in_units: bool) -> Iterator[ExportFolder]:
    """Make a folder, or continue in one that the same export began.

    Parameters
    ----------
    path : Path
        The folder.
    record : dict
        Contents and settings of the export; must equal those of an earlier export.
    record_in_units : bool
        The record lies in each subfolder, because readers of the format take every name in the folder for theirs.

    Raises
    ------
    InputError
        When the folder holds something else or another export, is in use, or cannot be written.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDONLY)
        try:
            if not lock_descriptor(handle, blocking=False):
                raise InputError(str(path), "another export is writing there", "Wait until it ends.")
            _refuse_foreign(path, record, record_in_units)
            folder = ExportFolder(path, record)
            try:
                if not record_in_units:
                    staging = folder.staging
                    write_json(staging / RECORD, record)
                    folder.publish(staging, RECORD)
                yield folder
            finally:
                shutil.rmtree(path / _STAGING, ignore_errors=True)
        finally:
            os.close(handle)
    except OSError as error:
        raise InputError(
            str(path),
            f"cannot be written ({error.strerror or error})",
            "Make room, correct permissions or name another folder, then run it again: finished files are kept.",
        ) from error


def _refuse_foreign(path: Path, record: Mapping[str, Any], in_units: bool) -> None:
    entries = sorted(entry for entry in path.iterdir() if entry.name != _STAGING)
    for holder in (entries if in_units else [path]) if entries else []:
        found = _read(holder / RECORD)
        if found is None:
            raise InputError(
                str(path), f"holds other files than this export's ({entries[0].name})", "Name a new or empty folder."
            )
        if changed := [key for key in (*record, *found) if record.get(key) != found.get(key)]:
            raise InputError(
                str(path),
                f"holds an export with another {changed[0]} ({found.get(changed[0])}, now {record.get(changed[0])})",
                "Name another folder.",
            )


def _read(path: Path) -> dict[str, Any] | None:
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None
