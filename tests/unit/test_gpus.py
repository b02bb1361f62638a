import pytest

from e2llm_core.training.gpus import GPUS, gpu_named


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("NVIDIA H200", "h200"),
        ("NVIDIA H200 NVL", "h200-nvl"),
        ("NVIDIA H100 80GB HBM3", "h100-80"),
        ("NVIDIA H100 PCIe", "h100-pcie"),
        ("NVIDIA A100-SXM4-80GB", "a100-80"),
        ("NVIDIA A100 80GB PCIe", "a100-80"),
        ("NVIDIA A100-PCIE-40GB", "a100-40"),
        ("NVIDIA A10", "a10"),
        ("NVIDIA L40S", "l40s"),
        ("NVIDIA L40", "l40"),
        ("NVIDIA GeForce RTX 4090", "rtx-4090"),
        ("Tesla V100-SXM2-32GB", "v100-32"),
    ],
)
def test_a_gpu_is_found_by_the_name_that_the_driver_gives(name, key):
    assert gpu_named(name) is GPUS[key]


@pytest.mark.parametrize("name", ["NVIDIA A10G", "NVIDIA A100X", "NVIDIA GeForce GTX 1080", "Some other", ""])
def test_an_unknown_gpu_has_no_rates(name):
    assert gpu_named(name) is None


@pytest.mark.parametrize("key", GPUS)
def test_rates_have_sane_units(key):
    gpu = GPUS[key]
    assert 10e12 < gpu.fp32_flops < 100e12
    assert gpu.bf16_flops is None or 1.9 < gpu.bf16_flops / gpu.fp32_flops < 40
    assert 16e9 <= gpu.memory_bytes <= 300e9
    assert 0.2e12 <= gpu.memory_bandwidth <= 10e12
    assert gpu.link_bandwidth < gpu.memory_bandwidth
    assert gpu.source.startswith("NVIDIA")
