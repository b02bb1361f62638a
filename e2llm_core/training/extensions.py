"""DeepSpeed's compiled extensions, built one process at a time: a killed build must not stop those after it."""

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from filelock import FileLock

FOREIGN_SECONDS = 600.0
"""How old another program's mark of a build gets before it counts as left behind: builds take one to three minutes."""
_POLL_SECONDS = 0.2
_BUILDING = "building"


def build_communication() -> None:
    """Load the shared-memory communication that DeepSpeed uses on CPUs; the first time on a machine compiles it."""
    from deepspeed.accelerator import get_accelerator

    from e2llm_core.training.deepspeed_private import can_build

    builder = get_accelerator().create_op_builder("ShareMemCommBuilder")
    if builder is not None and can_build(builder):
        _load(builder)


def build_asynchronous_io() -> bool:
    """Load what DeepSpeed moves parameters to NVMe with, compiled at first; tell whether this machine can build it."""
    from deepspeed.ops.op_builder import AsyncIOBuilder
    from deepspeed.ops.op_builder.pin_memory import PinMemoryBuilder

    builder = AsyncIOBuilder()
    if not builder.is_compatible(verbose=False):
        return False
    for each in (PinMemoryBuilder(), builder):
        _load(each)
    return True


def _load(builder: Any) -> None:
    from torch.utils.cpp_extension import _get_build_directory

    with only_build(Path(_get_build_directory(builder.name, verbose=False))):
        builder.load()


@contextlib.contextmanager
def only_build(folder: Path) -> Iterator[None]:
    """Let one process at a time build in a folder, and remove what a killed build left there.

    torch marks a build by a file ``lock`` that outlives a killed process, and every later start waits for it without
    end. The system's own lock, taken here, ends with its process, and its file says whether that was in the middle of a
    build: then the mark is nobody's. Otherwise it is that of a program which does not take this lock.

    Parameters
    ----------
    folder : Path
        Where torch builds one extension.
    """
    mark, own = folder / "lock", folder.with_name(f".{folder.name}.lock")
    with FileLock(own, fallback_to_soft=False):
        was_killed = own.read_text() == _BUILDING
        with contextlib.suppress(FileNotFoundError):
            while not was_killed and time.time() - mark.stat().st_mtime < FOREIGN_SECONDS:
                time.sleep(_POLL_SECONDS)
            mark.unlink()
        own.write_text(_BUILDING)
        try:
            yield
        finally:
            own.write_text("")
