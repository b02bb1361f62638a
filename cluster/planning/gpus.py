"""GPUs that runs are planned for, each with its usual node. Rates per second and direction."""

from dataclasses import dataclass

from e2llm_core.training import gpus
from storage.errors import InputError

_GB = 1e9
_HDR_GBS, _NDR_GBS = 200, 400  # 8 network cards of 200 or 400 Gb/s


@dataclass(frozen=True)
class GPU:
    """One kind of GPU, and its share of a node.

    Attributes
    ----------
    name
        On the command line.
    sheet
        The GPU alone.
    bf16_flops
        Dense bfloat16 tensor-core operations per second (data sheets also print twice that, with sparsity).
    network_bandwidth
        Of a node's network cards together, bytes per second and direction.
    host_bandwidth
        PCIe, bytes per second and direction.
    host_memory
        Main memory per GPU, bytes: the node's share.
    per_node
        GPUs of a node.
    source
        Source of the node's values.
    """

    name: str
    sheet: gpus.GPU
    bf16_flops: float
    network_bandwidth: float
    host_bandwidth: float
    host_memory: float
    source: str
    per_node: int = 8


def _gpu(name: str, network: int, host: int, memory: int, source: str) -> GPU:
    """Make a row of GB/s, GB/s and GB."""
    sheet = gpus.GPUS[name]
    assert sheet.bf16_flops is not None
    return GPU(name, sheet, sheet.bf16_flops, network * _GB, host * _GB, memory * _GB, source)


GPUS: dict[str, GPU] = {
    gpu.name: gpu
    for gpu in (
        _gpu("a100-40", _HDR_GBS, 32, 128, "NVIDIA DGX A100 data sheet, 1 TB"),
        _gpu("a100-80", _HDR_GBS, 32, 256, "NVIDIA DGX A100 data sheet, 2 TB"),
        _gpu("h100-80", _NDR_GBS, 64, 256, "NVIDIA DGX H100 data sheet, 2 TB"),
        _gpu("h200", _NDR_GBS, 64, 256, "NVIDIA DGX H200 data sheet, 2 TB"),
        _gpu("b200", _NDR_GBS, 64, 256, "NVIDIA DGX B200 data sheet, 2 TB"),
    )
}
"""Name on the command line -> rates."""


def gpu_of(name: str) -> GPU:
    """Find a GPU.

    Raises
    ------
    InputError
        When it is not in the table.
    """
    if name not in GPUS:
        raise InputError(f"--gpu {name}", "unknown GPU", f"Name one of {', '.join(GPUS)}.")
    return GPUS[name]
