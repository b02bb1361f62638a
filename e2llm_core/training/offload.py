"""Where parameters and optimizer state live while they are not needed: on the device, in main memory, or on NVMe."""

import os
import tempfile
from typing import Any

from e2llm_core.training.config import TrainConfig
from e2llm_core.training.world import World
from storage.errors import InputError


def offload_settings(config: TrainConfig, world: World) -> dict[str, Any]:
    """DeepSpeed's ``zero_optimization`` entries: optimizer state goes out, and under ZeRO-3 the parameters too."""
    if config.offload == "none":
        return {}
    place: dict[str, Any] = {"device": config.offload, "pin_memory": world.device.type == "cuda"}
    if config.offload == "nvme":
        place["nvme_path"] = str(config.nvme_path)
    settings = {"offload_optimizer": dict(place)}
    if config.zero_stage == 3:
        settings["offload_param"] = dict(place)
    return settings


def adam_settings(config: TrainConfig) -> dict[str, Any]:
    """Which AdamW: torch's (fused for state in main memory), or DeepSpeed's for NVMe, which knows how to swap."""
    return {"none": {"torch_adam": True}, "cpu": {"torch_adam": True, "fused": True}, "nvme": {"torch_adam": False}}[
        config.offload
    ]


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
    from deepspeed.ops.op_builder import AsyncIOBuilder

    if not AsyncIOBuilder().is_compatible(verbose=False):
        raise InputError(
            "train.offload",
            "nvme needs DeepSpeed's async_io, and the library it is built on, libaio, is not installed",
            "Install libaio with its headers (libaio-dev or libaio-devel) on every worker, or use cpu",
        )
