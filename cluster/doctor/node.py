"""What one node has: asked on the node itself."""

import importlib
import os
import resource
import secrets
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from cluster.environment import environment
from storage.errors import InputError
from storage.places.location import locate

_PROBE_BYTES = 32 << 20


class StorageFacts(BaseModel):
    """How a node reaches the folder or bucket for data and runs.

    Attributes
    ----------
    problem : str
        Why it does not; empty when it does.
    is_shared : bool
        Whether what another node wrote is there.
    write_rate, read_rate : float
        Bytes per second of one file of 32 MiB; what was just written may be read from memory.
    free_bytes : int or None
        None for object stores.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    problem: str = ""
    is_shared: bool = False
    write_rate: float = 0
    read_rate: float = 0
    free_bytes: int | None = None


class NodeFacts(BaseModel):
    """Facts about one node.

    Attributes
    ----------
    name : str
        In the report.
    versions : dict
        Versions of Python and the packages.
    gpus : list of str
        As the driver lists them.
    torch_cuda : str
        CUDA that torch was built for; empty for a CPU build.
    flash_attention : str
        Version of the package flash-attn; empty when it cannot be imported.
    open_files : int
        Soft limit of this process.
    free_bytes : int
        Free space for temporary files.
    clock_offset, clock_error : float
        Seconds ahead of the asking node, and how far off that may be.
    storage : StorageFacts
        Facts about the folder or bucket for data and runs.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    versions: dict[str, str]
    gpus: list[str]
    torch_cuda: str
    flash_attention: str
    open_files: int
    free_bytes: int
    storage: StorageFacts
    clock_offset: float = 0
    clock_error: float = 0


def examine(name: str, place: str, shared_key: str) -> tuple[NodeFacts, float]:
    """Examine this node.

    Parameters
    ----------
    name : str
        In the report.
    place : str
        Folder or ``s3://bucket/prefix`` for data and runs.
    shared_key : str
        Name of a file there that another node wrote.

    Returns
    -------
    NodeFacts
        Facts about the node.
    float
        The node's clock at the end, in seconds since 1970.
    """
    import torch

    here = environment(Path(__file__).resolve().parents[2])
    facts = NodeFacts(
        name=name,
        versions={"python": here["python"], **here["packages"]},
        gpus=here["gpus"],
        torch_cuda=torch.version.cuda or "",
        flash_attention=_flash_attention() if here["gpus"] else "",
        open_files=resource.getrlimit(resource.RLIMIT_NOFILE)[0],
        free_bytes=shutil.disk_usage(tempfile.gettempdir()).free,
        storage=examine_storage(place, shared_key),
    )
    return facts, time.time()


def examine_storage(place: str, shared_key: str) -> StorageFacts:
    """Write and read a file of random bytes, and look for one that another node wrote."""
    key, content = f".doctor-{secrets.token_hex(8)}", os.urandom(_PROBE_BYTES)
    try:
        location = locate(place)
        try:
            started = time.perf_counter()
            location.write(key, content)
            written = time.perf_counter()
            found = location.read(key)
            read = time.perf_counter()
        finally:
            location.remove(key)
        return StorageFacts(
            problem="" if found == content else "other bytes were read than written",
            is_shared=location.exists(shared_key),
            write_rate=_PROBE_BYTES / (written - started),
            read_rate=_PROBE_BYTES / (read - written),
            free_bytes=shutil.disk_usage(place).free if Path(place).is_dir() else None,
        )
    except (OSError, InputError) as error:
        return StorageFacts(problem=str(error))


def _flash_attention() -> str:
    try:
        module: Any = importlib.import_module("flash_attn")
    except ImportError:
        return ""
    return str(module.__version__)
