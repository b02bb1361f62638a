"""Scratch space on this node's own disk, for copies of objects at a URL."""

import hashlib
import os
import stat
import tempfile
from pathlib import Path

from storage.errors import InputError

VARIABLE = "E2LLM_SCRATCH"


def scratch_folder(url: str) -> Path:
    """Return this node's folder for copies of objects at a URL: below ``E2LLM_SCRATCH``, else the temporary folder.

    Raises
    ------
    InputError
        When it cannot be made, or somebody else can write there.
    """
    digest = hashlib.sha256(url.encode()).hexdigest()[:16]
    return _own_folder() / f"{url.rsplit('/', 1)[-1]}-{digest}"


def is_scratch(path: Path) -> bool:
    """Whether a folder is a copy that `scratch_folder` named."""
    return path.resolve().is_relative_to(_own_folder().resolve())


def _own_folder() -> Path:
    root = Path(os.environ.get(VARIABLE) or tempfile.gettempdir()).absolute()
    folder = root / f"e2llm-{os.getuid()}"
    remedy = f"Name a folder on a local disk with enough space in {VARIABLE}."
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.lstat()
    except OSError as error:
        raise InputError(str(folder), f"cannot be made ({error.strerror})", remedy) from error
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o022:
        raise InputError(str(folder), "is accessible to other users", remedy)
    return folder
