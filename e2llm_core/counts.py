"""Parameter tensors and saved activations of modules, counted without making them. Light to import."""

from __future__ import annotations

from collections.abc import Iterable

from pydantic import BaseModel, ConfigDict, Field


class Tensors(BaseModel):
    """Equal parameter tensors: `count` of them, `numel` elements each."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    numel: int = Field(ge=1)
    count: int = Field(1, ge=1)


def total_numel(tensors: Iterable[Tensors]) -> int:
    """Elements of all tensors."""
    return sum(tensor.numel * tensor.count for tensor in tensors)


def linear_tensors(name: str, inputs: int, outputs: int, count: int = 1) -> list[Tensors]:
    """Weights and biases of `count` equal linear layers."""
    weight = Tensors(name=f"{name}.weight", numel=inputs * outputs, count=count)
    return [weight, Tensors(name=f"{name}.bias", numel=outputs, count=count)]


def norm_tensors(name: str, width: int, count: int = 1) -> Tensors:
    """Gains and biases of `count` equal layer norms."""
    return Tensors(name=name, numel=width, count=2 * count)


def block_tensors(name: str, width: int, hidden: int, count: int) -> list[Tensors]:
    """Tensors of `count` blocks of `e2llm_core.encoders.blocks`."""
    return [
        norm_tensors(f"{name}.norms", width, 2 * count),
        *linear_tensors(f"{name}.qkv", width, 3 * width, count),
        *linear_tensors(f"{name}.proj", width, width, count),
        *linear_tensors(f"{name}.fc1", width, hidden, count),
        *linear_tensors(f"{name}.fc2", hidden, width, count),
    ]


def block_numbers(mlp_ratio: float) -> float:
    """Numbers that autograd keeps of one token in such a block, per width: see docs/plan.md."""
    return 9 + 2 * mlp_ratio
