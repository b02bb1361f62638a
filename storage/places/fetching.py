"""Models at a URL, copied once to each node that uses them."""

import hashlib
import shutil
from pathlib import Path, PurePosixPath

from filelock import FileLock

from storage.errors import InputError
from storage.places.base import Stored, is_url
from storage.places.folder import Folder
from storage.places.location import locate
from storage.places.s3.bucket import Bucket
from storage.places.scratch import scratch_folder

SETTINGS = frozenset({".json", ".jinja", ".txt"})
"""Kinds of files of a model folder that say what it is."""
MODEL = SETTINGS | {".safetensors"}
"""Kinds of files of a model folder."""
WEIGHTS = frozenset({".safetensors", ".ckpt"})
"""Kinds of files that hold weights of others' making."""


def fetched(place: str | Path, kinds: frozenset[str] = MODEL) -> Path:
    """Folder of this node with a model's files: the folder itself, or a copy of what is at the URL.

    A copy is made once for each content, by one process of the node while others wait for it.

    Parameters
    ----------
    place : str or Path
        Folder or URL of a model.
    kinds : frozenset of str
        Suffixes of the files to copy; others are left where they are.

    Raises
    ------
    InputError
        When the object store or the disk does not do its part.
    """
    if not is_url(str(place)):
        return Path(place)
    files = {key: stored for key, stored in locate(place).files().items() if PurePosixPath(key).suffix in kinds}
    return _copied(str(place), files)


def fetched_file(place: str | Path) -> Path:
    """One file, as :func:`fetched`.

    Raises
    ------
    InputError
        Also when it is not there, or of another kind than weights.
    """
    if not is_url(str(place)):
        return Path(place)
    url, _, name = str(place).rpartition("/")
    if PurePosixPath(name).suffix not in WEIGHTS:
        raise InputError(str(place), "is not a weights file", f"Name one that ends in {' or '.join(sorted(WEIGHTS))}.")
    try:
        files = {name: Bucket(url).stored(name)}
    except FileNotFoundError as error:
        raise InputError(str(place), "no such file", "Correct the URL.") from error
    return _copied(url, files) / name


def _copied(url: str, files: dict[str, Stored]) -> Path:
    """Copy files, unless an identical copy exists."""
    content = "".join(f"{key} {stored.size} {stored.tag}\n" for key, stored in files.items())
    folder = scratch_folder(url) / f"files-{hashlib.sha256(content.encode()).hexdigest()[:16]}"
    bucket = Bucket(url)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_suffix(".lock"), fallback_to_soft=False):
            if not folder.is_dir():
                partial = folder.with_suffix(".partial")
                shutil.rmtree(partial, ignore_errors=True)
                partial.mkdir()
                for key, stored in files.items():
                    if bucket.download(key, partial / key).tag != stored.tag:
                        raise FileNotFoundError(key)
                Folder(partial).settle("")
                partial.rename(folder)
    except FileNotFoundError as error:
        raise InputError(url, "changed while it was being read", "Wait until it is written, then run again.") from error
    except OSError as error:
        remedy = "Free space there, or name another folder in E2LLM_SCRATCH."
        raise InputError(str(folder), f"cannot be written ({error.strerror or error})", remedy) from error
    return folder
