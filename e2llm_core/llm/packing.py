"""Bin packing of samples into rows without padding, balanced over ranks.

Shape suffixes: L packed length, S samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from e2llm_core.llm.supervision import IGNORED, supervised_places


@dataclass(frozen=True)
class TokenSample:
    """One sample's tokens.

    Parameters
    ----------
    ids : np.ndarray
        (length,) int64 token ids.
    weights : np.ndarray
        (length,) float32 loss weight of each token; 0 where it is not supervised. The first token never is.
    task : int
        Number of the task it belongs to.
    """

    ids: np.ndarray
    weights: np.ndarray
    task: int = 0

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def num_targets(self) -> float:
        """Number of supervised tokens, counted by their weights."""
        return float(self.weights.sum())

    def without_weight(self) -> TokenSample:
        """The same tokens as filler, with weight 0."""
        return TokenSample(self.ids, np.zeros_like(self.weights), self.task)


def pack(lengths: Sequence[int], max_tokens: int, max_samples: int, ranks: int) -> list[list[list[int]]]:
    """Pack samples into rows (bin packing), and distribute the rows to ranks.

    Parameters
    ----------
    lengths : sequence of int
        Tokens of each sample.
    max_tokens : int
        Largest number of tokens in a row; a longer sample has its own row.
    max_samples : int
        Largest number of samples in a row.
    ranks : int
        Number of ranks.

    Returns
    -------
    list
        For every rank the samples of each of its rows; equally many rows for all, some of which may be empty. Samples
        of a row are in ascending order.

    Notes
    -----
    Longest first, each into the lightest row with room: rows of one pass differ by little, so ranks wait little for
    each other. The number of passes is the smallest that this finds.
    """
    longest_first = sorted(range(len(lengths)), key=lambda sample: (-lengths[sample], sample))
    least = max(
        -(-sum(min(length, max_tokens) for length in lengths) // max_tokens), -(-len(lengths) // max_samples), 1
    )
    passes = -(-least // ranks)
    while (rows := _fill(longest_first, lengths, max_tokens, max_samples, passes * ranks)) is None:
        passes += 1
    return [[sorted(row) for row in rows[rank::ranks]] for rank in range(ranks)]


def _fill(
    order: Sequence[int], lengths: Sequence[int], max_tokens: int, max_samples: int, count: int
) -> list[list[int]] | None:
    """`count` rows, or None when the samples do not fit."""
    rows: list[list[int]] = [[] for _ in range(count)]
    tokens = np.zeros(count, dtype=np.int64)
    full = np.zeros(count, dtype=bool)
    for sample in order:
        row = int(np.where(full, np.iinfo(np.int64).max, tokens).argmin())
        if full[row] or (rows[row] and tokens[row] + lengths[sample] > max_tokens):
            return None
        rows[row].append(sample)
        tokens[row] += lengths[sample]
        full[row] = len(rows[row]) == max_samples
    return rows


def packed_row(samples: Sequence[TokenSample]) -> dict[str, Any]:
    """Model inputs of one row.

    Returns
    -------
    dict
        ``input_ids``, ``labels``, ``weights``, ``position_ids`` (1, L); ``cu_seq_lens_q``, ``cu_seq_lens_k`` (S + 1,)
        int32 and ``max_length_q``, ``max_length_k``, as flash-attention's varlen path names them; ``tasks`` (S,);
        ``supervised`` (N,) int64, the positions whose next token is.
    """
    ids = np.concatenate([sample.ids for sample in samples])
    weights = np.concatenate([sample.weights for sample in samples])
    lengths = [len(sample) for sample in samples]
    starts = torch.tensor(np.concatenate([[0], np.cumsum(lengths)]), dtype=torch.int32)
    labels = torch.from_numpy(np.where(weights > 0, ids, IGNORED))[None]
    return {
        "input_ids": torch.from_numpy(ids)[None],
        "labels": labels,
        "supervised": supervised_places(labels),
        "weights": torch.from_numpy(weights)[None],
        "position_ids": torch.from_numpy(np.concatenate([np.arange(length) for length in lengths]))[None],
        "cu_seq_lens_q": starts,
        "cu_seq_lens_k": starts,
        "max_length_q": max(lengths),
        "max_length_k": max(lengths),
        "tasks": torch.tensor([sample.task for sample in samples]),
    }


def sample_of_token(starts: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    """Number of the sample in its row that each position belongs to: (S + 1,), (N,) -> (N,)."""
    return torch.searchsorted(starts.to(positions.dtype), positions, right=True) - 1
