"""Tensors by name: written to safetensors, and loaded into a module, without anything missing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor, nn

_SHOWN = 8


def save_tensors(tensors: dict[str, Tensor], path: Path) -> None:
    """Write a state dict as safetensors by an atomic rename.

    Raises
    ------
    ValueError
        If a tensor is empty (a parameter that ZeRO-3 partitioned and nobody gathered).
    """
    refuse_empty(tensors, path.name)
    contiguous = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()}
    partial = path.with_name(path.name + ".partial")
    save_file(contiguous, partial, metadata={"format": "pt"})
    partial.replace(path)


def refuse_empty(tensors: dict[str, Tensor], place: str) -> None:
    """Refuse a state dict with empty tensors, which is what ungathered ZeRO-3 parameters look like.

    Raises
    ------
    ValueError
        Naming the first empty tensors.
    """
    empty = [name for name, tensor in tensors.items() if tensor.numel() == 0]
    if empty:
        raise ValueError(f"{place}: empty tensors {empty[:4]}. Gather ZeRO-3 parameters on all ranks first")


def load_strict(module: nn.Module, tensors: Mapping[str, Tensor], place: str) -> None:
    """Load tensors into a module, requiring exactly its keys and shapes.

    Raises
    ------
    ValueError
        Naming `place` and the missing, unexpected and misshapen tensors.
    """
    wanted = module.state_dict()
    problems = []
    if missing := [key for key in wanted if key not in tensors]:
        problems.append(f"missing {_shorten(missing)}")
    if unexpected := [key for key in tensors if key not in wanted]:
        problems.append(f"unexpected {_shorten(unexpected)}")
    shapes = [
        f"{key} {tuple(tensors[key].shape)} instead of {tuple(value.shape)}"
        for key, value in wanted.items()
        if key in tensors and tensors[key].shape != value.shape
    ]
    if shapes:
        problems.append(f"wrong shape {_shorten(shapes)}")
    if problems:
        raise ValueError(f"{place}: {'; '.join(problems)}. Use weights made for this configuration")
    module.load_state_dict(dict(tensors), strict=True)


def _shorten(names: list[str]) -> str:
    rest = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + rest
