"""Names what has moved in DeepSpeed, of what is not its documented interface, and what of ours depends on it."""

import importlib.util
import inspect
from pathlib import Path

import deepspeed
import pytest
from deepspeed.runtime import bf16_optimizer
from deepspeed.runtime.checkpoint_engine.torch_checkpoint_engine import TorchCheckpointEngine
from deepspeed.runtime.config import DeepSpeedConfig
from deepspeed.runtime.engine import MEMORY_OPT_ALLREDUCE_SIZE, DeepSpeedEngine
from deepspeed.runtime.zero import stage3
from deepspeed.runtime.zero.offload_config import OffloadDeviceEnum
from deepspeed.runtime.zero.partition_parameters import Init

from cluster.planning.memory import REDUCE_BUCKET
from e2llm_core.training import deepspeed_private

SOURCES = Path(deepspeed_private.__file__).parent


def source(of: object) -> str:
    return inspect.getsource(of)  # type: ignore[arg-type]


INIT, ZERO3 = inspect.getmodule(Init), stage3.DeepSpeedZeroOptimizer_Stage3
SWAPPER = "deepspeed.runtime.swap_tensor.partitioned_param_swapper"
PLACES = {
    "DeepSpeedEngine.checkpoint_engine": (
        lambda: "self.checkpoint_engine.save(" in source(DeepSpeedEngine),
        "background.py: checkpoint files are written beside training",
    ),
    "CheckpointEngine.save(state_dict, path), preserves_storage_sharing()": (
        lambda: (
            list(inspect.signature(TorchCheckpointEngine.save).parameters) == ["self", "state_dict", "path"]
            and ".preserves_storage_sharing()" in source(inspect.getmodule(DeepSpeedEngine))
        ),
        "background.py: its writer overrides both",
    ),
    "DeepSpeedEngine.skipped_steps": (
        lambda: "self.skipped_steps += 1" in source(DeepSpeedEngine),
        "engine.py: gradients that are not finite end the run",
    ),
    "DeepSpeedConfig.load_universal_checkpoint": (
        lambda: (
            "self.load_universal_checkpoint =" in source(DeepSpeedConfig)
            and "self._config.load_universal_checkpoint" in source(DeepSpeedEngine.load_universal_checkpoint)
        ),
        "engine.py: checkpoints of another number of workers",
    ),
    "deepspeed.checkpoint.ds_to_universal --input_folder --output_folder": (
        lambda: (
            importlib.util.find_spec(deepspeed_private.TO_UNIVERSAL) is not None
            and all(
                f"'--{name}'" in Path(importlib.util.find_spec(deepspeed_private.TO_UNIVERSAL).origin).read_text()
                for name in ("input_folder", "output_folder")
            )
        ),
        "universal.py: converts checkpoints",
    ),
    "ZeRO-3 optimizer.optimizer.state, param_groups[0] for all": (
        lambda: all(
            piece in source(ZERO3.load_hp_checkpoint_state_from_checkpoint_dir_stage3)
            for piece in ("self.optimizer.state[fp32_param]['step'] = state_step", '["param_groups"][0]')
        ),
        "universal.py: repair_groups undoes just this; look whether it is still needed",
    ),
    "zero.Init._zero_init_param(param), _convert_to_deepspeed_param(param), param.partition(), dtype": (
        lambda: (
            list(inspect.signature(Init._zero_init_param).parameters) == ["self", "param"]
            and next(iter(inspect.signature(Init._convert_to_deepspeed_param).parameters)) == "self"
            and "param.partition = partition" in source(Init._convert_to_deepspeed_param)
            and "self.dtype" in source(INIT)
        ),
        "zero_loading.py: parameters are partitioned without a broadcast",
    ),
    "parameter.ds_id, ds_numel, ds_shape, ds_tensor.ds_numel, ds_tensor.final_location, ds_zero_partition_rank": (
        lambda: all(
            piece in source(INIT)
            for piece in (
                "param.ds_id =",
                "param.ds_numel =",
                "param.ds_shape =",
                "param.ds_tensor.ds_numel =",
                "param.ds_tensor.final_location =",
                "param.ds_zero_partition_rank =",
            )
        ),
        "zero_loading.py: which stretch of a parameter is read by whom; decay.py: what has two dimensions",
    ),
    "parameter.nvme_swapper.swap_in, swap_out_and_release; OffloadDeviceEnum.nvme": (
        lambda: (
            "param.nvme_swapper =" in source(INIT)
            and OffloadDeviceEnum.nvme == "nvme"
            and all(f"def {name}(" in module_text(SWAPPER) for name in ("swap_in", "swap_out_and_release"))
        ),
        "zero_loading.py: parameters that live on NVMe",
    ),
    "deepspeed.ops.__compatible_ops__": (
        lambda: isinstance(deepspeed.ops.__compatible_ops__, dict),
        "extensions.py: builds only what this machine can build",
    ),
    "data_types.grad_accum_dtype, BF16_Optimizer": (
        lambda: (
            "GRAD_ACCUM_DTYPE" in source(inspect.getmodule(DeepSpeedConfig))
            and deepspeed_private.BF16_OPTIMIZER in source(DeepSpeedEngine._configure_bf16_optimizer)
            and "dtype=self.gradient_accumulation_dtype" in source(ZERO3)
        ),
        "engine.py: gradients add up in float32 under bf16",
    ),
    "bf16_optimizer.see_memory_usage, print": (
        lambda: all(
            f"{piece}(" in source(bf16_optimizer) and "sys.stdout" not in source(bf16_optimizer)
            for piece in ("see_memory_usage", "print")
        ),
        "engine.py: a run's start and resumption print its own lines only",
    ),
    "BF16_Optimizer.fp32_groups_gradients_flat, MEMORY_OPT_ALLREDUCE_SIZE": (
        lambda: (
            "torch.zeros_like(self.bf16_groups_flat[i], dtype=self.grad_acc_dtype)" in source(bf16_optimizer)
            and MEMORY_OPT_ALLREDUCE_SIZE == REDUCE_BUCKET
            and "tensor.to(self.communication_data_type)" in source(DeepSpeedEngine.allreduce_bucket)
        ),
        "cluster/planning/memory.py: what ZeRO-1 keeps and sends in bf16",
    ),
}
"""Piece of DeepSpeed: whether it is where it was, and what of ours depends on it."""


def module_text(name: str) -> str:
    return Path(importlib.util.find_spec(name).origin).read_text()  # type: ignore[union-attr,arg-type]


@pytest.mark.parametrize("piece", PLACES)
def test_what_is_private_to_deepspeed_is_where_it_was(piece):
    is_there, ours = PLACES[piece]
    assert is_there(), f"DeepSpeed {deepspeed.__version__} has moved {piece}, which {ours}"


def test_private_pieces_are_used_in_one_file_only():
    """By their names, in code that runs under DeepSpeed."""
    private = ("ds_id", "ds_numel", "ds_shape", "ds_tensor", "nvme_swapper", "__compatible_ops__", "skipped_steps")
    private += ("_config.load_universal_checkpoint", "ds_to_universal", "optimizer.optimizer", "_zero_init_param")
    users = {
        path.name
        for path in SOURCES.rglob("*.py")
        if any(name in path.read_text().replace("deepspeed_private.skipped_steps", "") for name in private)
    }
    assert users == {"deepspeed_private.py"}
