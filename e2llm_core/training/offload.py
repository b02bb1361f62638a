"""Where parameters and optimizer state are while they are not needed: on the device, in main memory, or on NVMe."""

import os
import tempfile
from typing import Any

from e2llm_core.training.config import TrainConfig
from e2llm_core.training.extensions import build_asynchronous_io
from e2llm_core.training.world import World
from storage.errors import InputError


def offload_settings(config: TrainConfig, world: World) -> dict[str, Any]:
    """DeepSpeed's ``zero_optimization`` entries.

    Optimizer state goes to main memory, and under ZeRO-3 the parameters to main memory or NVMe.

    Notes
    -----
    DeepSpeed can keep the optimizer state on NVMe too, but on two ranks its version 0.19.8 then updates some parameters
    with wrong gradients, without a word (seen with its own loading as well: third loss 2.82 instead of 2.30).
    """
    if config.offload == "none":
        return {}
    pinned = world.device.type == "cuda"
    settings: dict[str, Any] = {"offload_optimizer": {"device": "cpu", "pin_memory": pinned}}
    if config.zero_stage == 3:
        settings["offload_param"] = {"device": config.offload, "pin_memory": pinned}
    if config.offload == "nvme":
        settings["offload_param"]["nvme_path"] = str(config.nvme_path)
    return settings


def adam_settings(config: TrainConfig) -> dict[str, Any]:
    """Which AdamW: torch's, fused where the state is in main memory; DeepSpeed's own is compiled for minutes first."""
    return {"torch_adam": True} if config.offload == "none" else {"torch_adam": True, "fused": True}


def check_offload(config: TrainConfig) -> None:
    """Refuse offload to NVMe that this machine cannot do, before any work.

    Raises
    ------
    InputError
        If the folder cannot be written, or DeepSpeed cannot build its asynchronous I/O.
    """
    if config.offload != "nvme" or config.nvme_path is None:
        return
    try:
        config.nvme_path.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=config.nvme_path) as probe:
            probe.write(b"\0" * 4096)
            probe.flush()
            os.fsync(probe.fileno())
    except OSError as error:
        problem = f"{config.nvme_path} cannot be written: {error.strerror or error}"
        raise InputError("train.nvme_path", problem, "Name a folder on a local NVMe disk of every worker") from error
    try:
        is_there = build_asynchronous_io()
    except Exception as error:  # from compilers and their absence, of many types
        raise InputError(
            "train.offload",
            f"DeepSpeed's async_io, which nvme needs, cannot be built: {str(error).strip().partition(chr(10))[0]}",
            "Install a C++ compiler, ninja and, for GPUs, the CUDA toolkit on every worker, or use cpu",
        ) from error
    if not is_there:
        raise InputError(
            "train.offload",
            "nvme needs DeepSpeed's async_io, and the library it is built on, libaio, is not installed",
            "Install libaio with its headers (libaio-dev or libaio-devel) on every worker, or use cpu",
        )
