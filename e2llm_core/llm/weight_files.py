"""The safetensors files of a language model: their tensors, and the position of each parameter's elements."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from e2llm_core.llm.families.base import Family, Piece, Shape
from storage.errors import InputError

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
BLOCK = 1 << 22
"""Elements read at a time."""
_RECOMPUTED = re.compile(r"(^|\.)rotary_emb\.inv_freq$")
_REMEDY = "Give the folder of a complete checkpoint in safetensors, with the config.json that belongs to it"
_NAMED = 4


class WeightFiles:
    """The tensors of one checkpoint folder: one safetensors file, or several and their index.

    Only headers are read here. One file is open at a time.

    Parameters
    ----------
    folder
        Holds ``model.safetensors``, or ``model.safetensors.index.json`` and the files it names.

    Raises
    ------
    InputError
        If there is no such file, one is damaged, or the index does not fit the files.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.files: dict[str, str] = {}
        self.shapes: dict[str, Shape] = {}
        self._open: tuple[str, Any] | None = None
        indexed = self._index()
        for file in sorted(set(indexed.values())) if indexed else [SINGLE]:
            self._read_header(file)
        self.listing = INDEX if indexed else SINGLE
        if absent := sorted(name for name, file in indexed.items() if self.files.get(name) != file):
            file = indexed[absent[0]]
            raise InputError(str(folder / file), f"{INDEX} lists {_some(absent)}, which it lacks", _REMEDY)

    def _index(self) -> dict[str, str]:
        path = self.folder / INDEX
        if not path.is_file():
            if (self.folder / SINGLE).is_file():
                return {}
            raise InputError(str(self.folder), f"neither {INDEX} nor {SINGLE} exists", _REMEDY)
        try:
            index = {str(name): str(file) for name, file in json.loads(path.read_text())["weight_map"].items()}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(str(path), "is not an index of safetensors files", _REMEDY) from error
        if outside := [file for file in index.values() if Path(file).name != file]:
            raise InputError(str(path), f"names a file outside its folder: {outside[0]}", _REMEDY)
        return index

    def _read_header(self, file: str) -> None:
        path = self.folder / file
        try:
            with safe_open(path, framework="pt") as handle:
                for name in handle.keys():  # noqa: SIM118 - not a mapping
                    self.files[name] = file
                    self.shapes[name] = tuple(handle.get_slice(name).get_shape())
        except (OSError, SafetensorError) as error:
            raise InputError(str(path), f"cannot be read ({error})", _REMEDY) from error

    def read(self, name: str, start: int, out: Tensor) -> None:
        """Copy elements of a tensor, counted from `start` in row-major order, into `out`, cast to its dtype.

        Parameters
        ----------
        name
            Name of the tensor.
        start
            First element.
        out
            (elements,), on any device.
        """
        row = math.prod(self.shapes[name][1:])
        first, stop = start // row, -(-(start + out.numel()) // row)
        rows = self._handle(self.files[name]).get_slice(name)[first:stop]
        out.copy_(rows.reshape(-1).narrow(0, start - first * row, out.numel()))

    def same(self, first: str, second: str) -> bool:
        """Whether two tensors of one shape hold the same values."""
        numel = math.prod(self.shapes[first])
        ours, theirs = torch.empty(min(BLOCK, numel)), torch.empty(min(BLOCK, numel))
        for start in range(0, numel, BLOCK):
            count = min(BLOCK, numel - start)
            self.read(first, start, ours[:count])
            self.read(second, start, theirs[:count])
            if not torch.equal(ours[:count], theirs[:count]):
                return False
        return True

    def _handle(self, file: str) -> Any:
        if self._open is None or self._open[0] != file:
            self.close()
            self._open = file, safe_open(self.folder / file, framework="pt").__enter__()
        return self._open[1]

    def close(self) -> None:
        """Close the file that is open, if any."""
        if self._open is not None:
            self._open[1].__exit__(None, None, None)
            self._open = None


def match(
    parameters: Mapping[str, Shape], tied: Mapping[str, str], files: WeightFiles, family: Family
) -> dict[str, tuple[Piece, ...]]:
    """Find the tensors of every parameter, and no others.

    Parameters
    ----------
    parameters
        Shapes by name, each tied group once.
    tied
        Names that share the parameter of another name; their tensors may be absent.
    files
        Where to look.
    family
        Knows how parameters are stored.

    Raises
    ------
    InputError
        If a tensor is missing, unexpected or of another shape.
    """
    found: dict[str, tuple[Piece, ...]] = {}
    missing, wrong = [], []
    for name, shape in parameters.items():
        names = [name, *(other for other, source in tied.items() if source == name)]
        whole = next((other for other in names if other in files.shapes), None)
        found[name] = family.pieces(name, shape) if whole is None else (Piece(whole, shape),)
        missing += [piece.name for piece in found[name] if piece.name not in files.shapes]
        wrong += [
            f"{files.files[piece.name]}: {piece.name} {files.shapes[piece.name]}, not {piece.shape}"
            for piece in found[name]
            if files.shapes.get(piece.name, piece.shape) != piece.shape
        ]
    known = {piece.name for pieces in found.values() for piece in pieces} | set(tied)
    unexpected = [
        f"{file}: {name}" for name, file in files.files.items() if name not in known and not _RECOMPUTED.search(name)
    ]
    problems = {"missing": sorted(missing), "unexpected": sorted(unexpected), "wrong shape": sorted(wrong)}
    if told := "; ".join(f"{what} {_some(names)}" for what, names in problems.items() if names):
        raise InputError(str(files.folder / files.listing), told, _REMEDY)
    return found


def _some(names: list[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"[{', '.join(names[:_NAMED])}]{more}"
