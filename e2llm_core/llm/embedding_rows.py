"""Rows for new tokens: the spare ones that an embedding table has, or ones that are added to it.

An added row is the mean of the table's, in the input and the output embedding alike: its logit is the mean logit, so
that it takes little of any answer's probability. The mean of a table is the same to the last bit however the model is
loaded, and nothing random is drawn.

Shape suffixes: R rows, M width.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

_MULTIPLE = 64
"""An enlarged table has a multiple of so many rows: matrix products of other sizes are slow on GPUs."""
_AT_ONCE = 1 << 22
"""Elements that are added up at a time."""


def table_rows(present: int, needed: int) -> int:
    """Rows of a table that has `present` and of which `needed` are used."""
    return present if needed <= present else -(-needed // _MULTIPLE) * _MULTIPLE


def rows_at_once(width: int) -> int:
    """Rows of a table that `mean_row` takes as one block."""
    return max(1, _AT_ONCE // width)


def mean_row(blocks: Iterable[Tensor]) -> Tensor:
    """Mean of a table's rows: blocks (R, M) of `rows_at_once` -> (M,) float64."""
    total, rows = torch.zeros((), dtype=torch.float64), 0
    for block in blocks:
        total, rows = total.to(block.device) + block.double().sum(dim=0), rows + len(block)
    return total / rows


@torch.no_grad()
def enlarge(llm: Any, rows: int) -> None:
    """Add rows to the input and output embeddings of a whole model, tied or not, until they have `rows`."""
    embedding, head = llm.get_input_embeddings(), llm.get_output_embeddings()
    tied = head.weight is embedding.weight
    embedding.weight, embedding.num_embeddings = _enlarged(embedding.weight, rows), rows
    head.weight, head.out_features = embedding.weight if tied else _enlarged(head.weight, rows), rows
    llm.config.vocab_size = rows


def _enlarged(weight_RM: nn.Parameter, rows: int) -> nn.Parameter:
    new = mean_row(weight_RM.split(rows_at_once(weight_RM.shape[1]))).to(weight_RM.dtype)
    table = torch.cat([weight_RM, new.expand(rows - len(weight_RM), -1)])
    return nn.Parameter(table, requires_grad=weight_RM.requires_grad)
