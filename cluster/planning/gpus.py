"""Data-sheet rates of GPUs. Sizes in bytes (1 GB = 1e9 bytes), rates per second and direction."""

from pydantic import BaseModel, ConfigDict, Field

from storage.errors import InputError

_GB = 10**9
_NDR, _HDR = "8 x 400 Gb/s, 2 TB", "8 x 200 Gb/s, 1 or 2 TB"


class GPU(BaseModel):
    """One kind of GPU, and the node it usually stands in.

    Attributes
    ----------
    memory
        Bytes, in the data sheet's decimal gigabytes.
    flops
        Dense bfloat16 tensor-core operations per second (data sheets also print twice that, with sparsity).
    memory_bandwidth
        Bytes per second.
    link_bandwidth
        Between the GPUs of a node, bytes per second and direction (half of the data sheet's NVLink total).
    network_bandwidth
        Of a node's network cards together, bytes per second and direction.
    host_bandwidth
        PCIe, bytes per second and direction.
    host_memory
        Main memory per GPU, bytes: the node's share.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    memory: int = Field(gt=0)
    flops: float = Field(gt=0)
    memory_bandwidth: float = Field(gt=0)
    link_bandwidth: float = Field(gt=0)
    network_bandwidth: float = Field(gt=0)
    host_bandwidth: float = Field(gt=0)
    host_memory: int = Field(gt=0)
    per_node: int = Field(8, ge=1)
    source: str


def _gpu(name: str, memory: int, tflops: float, tb: float, link: int, network: int, host: int, source: str) -> GPU:
    return GPU(
        name=name,
        memory=memory * _GB,
        flops=tflops * 1e12,
        memory_bandwidth=tb * 1e12,
        link_bandwidth=link * _GB,
        network_bandwidth=network * _GB,
        host_bandwidth=host * _GB,
        host_memory=(128 if name == "a100-40" else 256) * _GB,
        source=source,
    )


GPUS: dict[str, GPU] = {
    gpu.name: gpu
    for gpu in (
        _gpu("a100-40", 40, 312, 1.555, 300, 200, 32, f"NVIDIA A100 data sheet, SXM4 40 GB; DGX A100, {_HDR}"),
        _gpu("a100-80", 80, 312, 2.039, 300, 200, 32, f"NVIDIA A100 data sheet, SXM4 80 GB; DGX A100, {_HDR}"),
        _gpu("h100-80", 80, 989, 3.35, 450, 400, 64, f"NVIDIA H100 data sheet, SXM5; DGX H100, {_NDR}"),
        _gpu("h200", 141, 989, 4.8, 450, 400, 64, f"NVIDIA H200 data sheet, SXM5; DGX H200, {_NDR}"),
        _gpu("b200", 180, 2250, 8.0, 900, 400, 64, f"NVIDIA DGX B200 data sheet, per GPU; {_NDR}"),
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
