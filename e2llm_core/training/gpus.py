"""Data-sheet rates of GPUs, the one table that metrics and plans look them up in."""

from dataclasses import dataclass


@dataclass(frozen=True)
class GPU:
    """One GPU's data-sheet values, dense (without structured sparsity).

    Attributes
    ----------
    names
        Beginnings of the names that the driver gives it, without ``NVIDIA``.
    bf16_flops
        bfloat16 matrix products with float32 sums, FLOP/s; None where the hardware has none.
    fp32_flops
        float32 without tensor cores, FLOP/s.
    memory_bytes
        As sold (1 GB = 1e9 bytes).
    memory_bandwidth
        Bytes/s.
    link_bandwidth
        To the other GPUs of a node, one direction, bytes/s: NVLink where there is one, else PCIe.
    source
        Document the values are from.
    """

    names: tuple[str, ...]
    bf16_flops: float | None
    fp32_flops: float
    memory_bytes: float
    memory_bandwidth: float
    link_bandwidth: float
    source: str


def _gpu(names: str, bf16: float | None, fp32: float, memory: float, bandwidth: float, link: float, source: str) -> GPU:
    """Make a row of values in TFLOP/s, TFLOP/s, GB, GB/s and GB/s; names are separated by ``|``."""
    peak = None if bf16 is None else bf16 * 1e12
    return GPU(tuple(names.split("|")), peak, fp32 * 1e12, memory * 1e9, bandwidth * 1e9, link * 1e9, source)


GPUS: dict[str, GPU] = {
    "b200": _gpu("B200", 2250, 75, 180, 7700, 900, "NVIDIA HGX B200 data sheet, per GPU"),
    "h200": _gpu("H200", 989.4, 66.9, 141, 4800, 450, "NVIDIA H200 data sheet, SXM"),
    "h200-nvl": _gpu("H200 NVL", 835.5, 60, 141, 4800, 450, "NVIDIA H200 data sheet, NVL"),
    "gh200": _gpu("GH200", 989.4, 66.9, 96, 4000, 450, "NVIDIA GH200 data sheet, 96 GB"),
    "h100-80": _gpu("H100 80GB HBM3|H100", 989.4, 66.9, 80, 3350, 450, "NVIDIA H100 data sheet, SXM"),
    "h100-pcie": _gpu("H100 PCIe", 756, 51, 80, 2000, 300, "NVIDIA H100 data sheet, PCIe"),
    "h100-nvl": _gpu("H100 NVL", 835.5, 60, 94, 3900, 300, "NVIDIA H100 data sheet, NVL"),
    "h800": _gpu("H800", 989.4, 66.9, 80, 3350, 200, "NVIDIA H800 data sheet, SXM"),
    "h20": _gpu("H20", 148, 44, 96, 4000, 450, "NVIDIA H20 data sheet"),
    "a100-80": _gpu("A100-SXM4-80GB|A100 80GB", 312, 19.5, 80, 2039, 300, "NVIDIA A100 data sheet, 80 GB SXM"),
    "a100-40": _gpu("A100-SXM4-40GB|A100-PCIE-40GB", 312, 19.5, 40, 1555, 300, "NVIDIA A100 data sheet, 40 GB"),
    "a800": _gpu("A800", 312, 19.5, 80, 2039, 200, "NVIDIA A800 data sheet, 80 GB"),
    "a30": _gpu("A30", 165, 10.3, 24, 933, 100, "NVIDIA A30 data sheet"),
    "a40": _gpu("A40", 149.7, 37.4, 48, 696, 56, "NVIDIA A40 data sheet"),
    "a10": _gpu("A10", 125, 31.2, 24, 600, 32, "NVIDIA A10 data sheet"),
    "l40s": _gpu("L40S", 362.05, 91.6, 48, 864, 32, "NVIDIA L40S data sheet"),
    "l40": _gpu("L40", 181.05, 90.5, 48, 864, 32, "NVIDIA L40 data sheet"),
    "l4": _gpu("L4", 121, 30.3, 24, 300, 32, "NVIDIA L4 data sheet"),
    "v100-32": _gpu("Tesla V100|V100", None, 15.7, 32, 900, 150, "NVIDIA V100 data sheet, SXM2"),
    "rtx-6000-ada": _gpu("RTX 6000 Ada", 364.2, 91.1, 48, 960, 32, "NVIDIA Ada GPU architecture, appendix A"),
    "rtx-a6000": _gpu("RTX A6000", 154.8, 38.7, 48, 768, 56, "NVIDIA GA102 GPU architecture, appendix A"),
    "rtx-4090": _gpu("GeForce RTX 4090", 165.2, 82.6, 24, 1008, 32, "NVIDIA Ada GPU architecture, appendix A"),
    "rtx-3090": _gpu("GeForce RTX 3090", 71, 35.6, 24, 936, 56, "NVIDIA GA102 GPU architecture, appendix A"),
}
"""By key. bfloat16 of GeForce cards is their rate with float32 sums, which is what training uses."""


def gpu_named(device_name: str) -> GPU | None:
    """Find a GPU by the name that the driver gives it, as in ``torch.cuda.get_device_name()``; None if unknown.

    The longest beginning that fits wins, up to the end of a word: ``"NVIDIA A100-SXM4-80GB"`` is an A100, no A10.
    """
    name = device_name.removeprefix("NVIDIA ")
    fits = [
        (len(start), key)
        for key, gpu in GPUS.items()
        for start in gpu.names
        if name.startswith(start) and not name[len(start) : len(start) + 1].isalnum()
    ]
    return GPUS[max(fits)[1]] if fits else None
