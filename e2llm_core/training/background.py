"""Checkpoint files written while training goes on."""

import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from e2llm_core.training.deepspeed_private import CheckpointWriter


class BackgroundCheckpointEngine(CheckpointWriter):
    """DeepSpeed's writer of checkpoint files: takes a copy in memory, and writes it in a thread.

    Memory: one copy of what this rank writes, while it is being written.

    Parameters
    ----------
    written : callable, optional
        Called in the thread with every file that is there.
    """

    def __init__(self, written: Callable[[Path], None] = lambda path: None) -> None:
        super().__init__()
        self._written = written
        self.name = "BackgroundCheckpointEngine"
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._writes: list[Future[None]] = []

    def save(self, state_dict: Any, path: str) -> None:
        """Copy now, write later."""
        self._writes.append(self._thread.submit(self._write, _copied(state_dict), Path(path)))

    def preserves_storage_sharing(self) -> bool:
        """Copies share nothing, so DeepSpeed need not copy before."""
        return False

    @property
    def is_writing(self) -> bool:
        """Whether files are still being written."""
        return any(not write.done() for write in self._writes)

    def finish(self) -> None:
        """Wait for the files.

        Raises
        ------
        OSError
            When one could not be written, or whatever `written` raises.
        """
        writes, self._writes = self._writes, []
        for write in writes:
            write.result()

    def _write(self, state: Any, path: Path) -> None:
        with path.open("wb") as file:
            torch.save(state, file, _use_new_zipfile_serialization=False)
            file.flush()
            os.fsync(file.fileno())  # the marker of the checkpoint must not be on disk before it
        self._written(path)


def _copied(value: Any) -> Any:
    """The same structure with tensors in memory of their own."""
    if isinstance(value, Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, dict):
        copy = value.copy()
        copy.update({key: _copied(item) for key, item in value.items()})
        return copy
    if type(value) in (list, tuple):
        return type(value)(_copied(item) for item in value)
    return value
