"""Redirect the output of Ray and other libraries to a file beside the run, whose name is printed once."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from storage.places.folder import Folder
from storage.places.location import locate
from storage.places.scratch import scratch_folder

RAY_LOG = "ray.log"
_STDERR = 2


def ray_log(run: str | Path) -> Path:
    """Name the file: in the run's folder; for a run at a URL, in this node's scratch space."""
    place = locate(run)
    if isinstance(place, Folder):
        return place.path / RAY_LOG
    folder = scratch_folder(str(place))
    return folder.with_name(f"{folder.name}.{RAY_LOG}")


@contextmanager
def stderr_in(log: Path) -> Iterator[None]:
    """While the block runs, append what this process writes to its standard error to a file.

    That is what Ray's C++ core, its loggers, warnings and the traces of a crash write. What is ours is printed to
    standard output, or raised and so printed after the block.

    Parameters
    ----------
    log : Path
        Log file, in an existing folder.
    """
    with log.open("ab") as file:
        sys.stderr.flush()
        kept = os.dup(_STDERR)
        os.dup2(file.fileno(), _STDERR)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(kept, _STDERR)
            os.close(kept)
