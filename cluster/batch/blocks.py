"""Blocks of a folder, computed by Ray Data: every block one row, every worker one copy of what computes."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np

from cluster.progress import watch
from cluster.resources import Resources
from storage.blocks import BlockFolder
from storage.errors import InputError


class BlockWriter(ABC):
    """Computes and writes blocks, in a worker."""

    @abstractmethod
    def write(self, block: int) -> None:
        """Compute and write one block; may raise `InputError`."""

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, Any]:
        """Write the blocks of column ``block``; a refusal comes back as text, for the others to go on."""
        refusals = [self._refusal(int(block)) for block in batch["block"]]
        columns = list(zip(*refusals, strict=True))
        return dict(zip(("place", "problem", "remedy"), map(list, columns), strict=True)) | {"block": batch["block"]}

    def _refusal(self, block: int) -> tuple[str, str, str]:
        try:
            self.write(block)
        except InputError as error:
            return error.place, error.problem, error.remedy
        return "", "", ""


def write_missing(
    folder: BlockFolder[Any], writer: type[BlockWriter], arguments: Sequence[Any], resources: Resources
) -> None:
    """Compute the blocks of a folder that are not there.

    Parameters
    ----------
    folder : BlockFolder
        Folder whose writing has begun.
    writer : type
        Class of the workers.
    arguments : sequence
        What each is made with.
    resources : Resources
        `workers` blocks are worked on side by side.

    Raises
    ------
    InputError
        The first refusal, after every other block is there.
    """
    import ray

    missing, total = folder.missing(), folder.manifest.num_blocks
    print(f"[{folder.job}] {total - len(missing)} of {total} blocks are there", flush=True)
    if not missing:
        return
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    blocks = ray.data.from_items([{"block": block} for block in missing], override_num_blocks=len(missing))
    written = blocks.map_batches(
        writer,
        fn_constructor_args=tuple(arguments),
        batch_size=1,
        concurrency=resources.workers,
        num_cpus=resources.cpus_per_worker,
        num_gpus=resources.gpus_per_worker or None,
    )
    seconds = 5 * folder.place.seconds_between_looks
    with watch(folder.job, total, lambda: total - len(folder.missing()), seconds):
        refused = [row for row in written.iter_rows() if row["place"]]
    if refused:
        first = min(refused, key=lambda row: row["block"])
        rest = f" ({len(refused)} of {total} blocks refused)" if len(refused) > 1 else ""
        raise InputError(first["place"], first["problem"] + rest, first["remedy"])
