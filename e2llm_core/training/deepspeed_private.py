"""All that is used of DeepSpeed beyond its documented interface; it is imported only where it is used.

``tests/unit/training/test_deepspeed_private.py`` names what has moved, and what of ours depends on it.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

BF16_OPTIMIZER = "BF16_Optimizer"
"""DeepSpeed's optimizer for bf16 under ZeRO-1 with float32 gradients, whose checkpoints nothing else can read."""

TO_UNIVERSAL = "deepspeed.checkpoint.ds_to_universal"
"""Module that converts a checkpoint for another number of workers, by ``--input_folder`` and ``--output_folder``."""


def __getattr__(name: str) -> Any:
    """Import ``CheckpointWriter``, the class by which DeepSpeed writes checkpoint files, when it is asked for."""
    if name != "CheckpointWriter":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from deepspeed.runtime.checkpoint_engine.torch_checkpoint_engine import TorchCheckpointEngine

    return TorchCheckpointEngine


def replace_writer(engine: Any, writer: Any) -> None:
    """Let an engine write its checkpoint files by `writer`, a ``CheckpointWriter``."""
    engine.checkpoint_engine = writer


def skipped_steps(engine: Any) -> int:
    """Count an engine's optimizer steps that were passed over because gradients were not finite."""
    return int(engine.skipped_steps)


@contextlib.contextmanager
def without_memory_reports() -> Iterator[None]:
    """While open, `BF16_OPTIMIZER` prints nothing: of memory at every group it is made of, and of what it loads."""
    from deepspeed.runtime import bf16_optimizer as module

    before = module.see_memory_usage
    module.see_memory_usage = lambda *arguments, **settings: None
    module.print = lambda *arguments, **settings: None
    try:
        yield
    finally:
        module.see_memory_usage = before
        del module.print


@contextlib.contextmanager
def universal_loading(engine: Any) -> Iterator[None]:
    """While open, an engine loads checkpoints in the universal form."""
    engine._config.load_universal_checkpoint = True
    try:
        yield
    finally:
        engine._config.load_universal_checkpoint = False


def optimizer_states(engine: Any) -> list[dict[str, Any]]:
    """Moments and step counter of every flat part that an engine's torch optimizer updates."""
    return list(engine.optimizer.optimizer.state.values())


def is_partitioned(parameter: nn.Parameter) -> bool:
    """Whether ZeRO-3 keeps only a stretch of a parameter here."""
    return hasattr(parameter, "ds_id")


def whole_shape(parameter: Any) -> tuple[int, ...]:
    """Shape of a parameter, also of one whose stretches are spread over the ranks."""
    return tuple(parameter.ds_shape if is_partitioned(parameter) else parameter.shape)


def partitioning(settings: dict[str, Any], dtype: torch.dtype, largest: int) -> Any:
    """Make a `deepspeed.zero.Init` that broadcasts nothing: what it partitions is read from files afterwards.

    Parameters
    ----------
    settings
        DeepSpeed's, of the run.
    dtype
        Data type of the parameters.
    largest
        Numbers in the largest parameter.
    """
    import deepspeed
    import torch.distributed as dist

    class Partitioning(deepspeed.zero.Init):
        def _zero_init_param(self, param: Any) -> None:
            self._convert_to_deepspeed_param(param)
            param.partition()

    own = copy.deepcopy(settings)
    offload = own["zero_optimization"].get("offload_param", {})
    if offload.get("device") == "nvme":
        offload["buffer_size"] = -(-largest // dist.get_world_size())
    context = Partitioning(config_dict_or_path=own)
    context.dtype = dtype
    return context


def own_stretch(parameter: Any) -> tuple[int, int]:
    """First number of a partitioned parameter that this rank keeps, and the one after its last."""
    length = parameter.ds_tensor.ds_numel
    start = length * parameter.ds_zero_partition_rank
    return start, max(start, min(start + length, parameter.ds_numel))


@contextlib.contextmanager
def partition_of(parameter: Any) -> Iterator[Tensor]:
    """Give this rank's partition of a parameter, brought from NVMe and back if it lives there."""
    from deepspeed.runtime.zero.offload_config import OffloadDeviceEnum

    on_disk = parameter.ds_tensor.final_location == OffloadDeviceEnum.nvme
    if on_disk:
        parameter.nvme_swapper.swap_in([parameter], async_op=False)
    yield parameter.ds_tensor.data
    if on_disk:
        parameter.nvme_swapper.swap_out_and_release([parameter])


def can_build(builder: Any) -> bool:
    """Whether DeepSpeed found that this machine can compile an extension."""
    import deepspeed

    return bool(deepspeed.ops.__compatible_ops__.get(builder.NAME, False))
