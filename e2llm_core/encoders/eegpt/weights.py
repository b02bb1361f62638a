"""Reading EEGPT weights: safetensors directly, Lightning checkpoints without unrestricted unpickling."""

from __future__ import annotations

import argparse
import collections
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from e2llm_core.tensors import load_strict

PREFIX = "target_encoder."
_PUBLISHED = "Give the published EEGPT checkpoint"


def load_eegpt_weights(encoder: nn.Module, path: Path) -> None:
    """Load a weights file strictly into an EEGPT encoder, in place.

    Parameters
    ----------
    encoder
        The encoder to fill.
    path
        ``.safetensors`` with the bare encoder keys or with the ``target_encoder.`` prefix, or the published
        Lightning ``.ckpt``.

    Raises
    ------
    ValueError
        If the file is absent, of another format, not readable as tensors only, or does not fit the encoder.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"encoder weights {path}: no such file. Give a .safetensors or .ckpt file")
    if path.suffix == ".safetensors":
        tensors: Mapping[str, Tensor] = load_file(path)
    elif path.suffix == ".ckpt":
        tensors = _tensors_of_checkpoint(path, allow=[])
    else:
        raise ValueError(f"encoder weights {path}: unknown suffix. Give a .safetensors or .ckpt file")
    load_strict(encoder, strip_prefix(tensors), place=f"encoder weights {path}")


def convert_checkpoint(ckpt: str | Path, out_safetensors: str | Path) -> Path:
    """Convert a Lightning checkpoint's target encoder to safetensors.

    The checkpoint is read with ``weights_only=True`` and a short list of harmless container classes that
    Lightning stores beside the tensors; nothing else in it can be executed.

    Returns
    -------
    Path
        The written file, with the bare encoder keys.

    Raises
    ------
    ValueError
        If the checkpoint holds other classes (they are named) or no ``target_encoder.`` tensors.
    """
    source, target = Path(ckpt), Path(out_safetensors)
    if not source.is_file():
        raise ValueError(f"checkpoint {source}: no such file. Give the Lightning .ckpt file")
    tensors = strip_prefix(_tensors_of_checkpoint(source, allow=_lightning_containers()))
    contiguous = {name: tensor.detach().clone().contiguous() for name, tensor in tensors.items()}
    partial = target.with_name(target.name + ".partial")
    save_file(contiguous, partial, metadata={"format": "pt", "source": source.name})
    partial.replace(target)
    return target


def strip_prefix(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Keep the target encoder's tensors with bare keys; a mapping without the prefix stays as it is."""
    prefixed = {key[len(PREFIX) :]: value for key, value in tensors.items() if key.startswith(PREFIX)}
    return prefixed or dict(tensors)


def _lightning_containers() -> list[Any]:
    """Classes without side effects that Lightning checkpoints store beside their tensors."""
    plain = [dict, list, tuple, set, int, float, str, bool]
    return [collections.OrderedDict, collections.defaultdict, argparse.Namespace, *plain]


def _tensors_of_checkpoint(path: Path, allow: list[Any]) -> dict[str, Tensor]:
    try:
        with torch.serialization.safe_globals(allow):
            checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        advice = (
            "Make it again from a trusted source"
            if allow
            else f"Convert it once with {__name__}.convert_checkpoint(ckpt, out_safetensors)"
        )
        raise ValueError(f"checkpoint {path}: not readable as tensors only ({reason}). {advice}") from error
    state = checkpoint.get("state_dict", checkpoint) if isinstance(checkpoint, dict) else None
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ValueError(f"checkpoint {path}: holds no 'state_dict' of tensors. {_PUBLISHED}")
    if not any(key.startswith(PREFIX) for key in state):
        raise ValueError(f"checkpoint {path}: no tensor begins with {PREFIX!r}. {_PUBLISHED}")
    return state
