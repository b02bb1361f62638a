"""Supervised contrastive loss over a whole global batch (Khosla et al. 2020, eq. 2), however it is split.

Shape suffixes: B vectors of one rank, N of all ranks, D dimensions.
"""

from dataclasses import replace
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from e2llm_core.stages.stage1.objectives.base import Encoded, Objective
from e2llm_core.tower.tower import EEGTower
from e2llm_core.training.stage import Batch

_WIDTH = 64


class Contrastive(Objective):
    """Supervised contrastive loss on the summary of a window."""

    name, head_name = "contrastive", "contrast_head"
    compares = True

    def head(self, tower: EEGTower) -> nn.Module:
        """Map the summary to a vector."""
        return nn.Linear(tower.dim, _WIDTH)

    def predict(self, head: nn.Module, seen: Encoded) -> Tensor:
        """Unit vectors (B, D)."""
        return F.normalize(head(seen.summary_BE), dim=-1)

    def over_step(self, predictions: list[Tensor], batches: list[Batch]) -> list[Batch]:
        """Compare the vectors of all micro-batches."""
        labels, weights = (torch.cat([batch.tensors[key] for batch in batches]) for key in ("labels", "weights"))
        compared = contrast_over_step(torch.cat(predictions), labels, weights, self.fitted.losses.temperature)
        parts = zip(*(values.split([len(part) for part in predictions]) for values in compared), strict=True)
        return [
            replace(batch, tensors=batch.tensors | {"contrast": part})
            for batch, part in zip(batches, parts, strict=True)
        ]

    def loss(self, prediction: Tensor, given: dict[str, Any]) -> Tensor:
        """Loss of each window as an anchor."""
        temperature = self.fitted.losses.temperature
        known = given.get("contrast") or contrast_over_step(prediction, given["labels"], given["weights"], temperature)
        return with_slope(known[0], known[1], prediction)


def supervised_contrastive(vectors_ND: Tensor, labels: Tensor, weights: Tensor, temperature: float) -> Tensor:
    """Loss of every anchor against all others.

    Parameters
    ----------
    vectors_ND : Tensor
        (N, D) unit vectors.
    labels : Tensor
        (N,) class ids.
    weights : Tensor
        (N,) 1 for samples, 0 for fillers, which are nobody's partner.
    temperature : float
        Divides the cosine similarities.

    Returns
    -------
    Tensor
        (N,) loss per anchor; 0 for anchors without a partner of their class.
    """
    scores = vectors_ND @ vectors_ND.T / temperature
    others = (weights > 0).expand(len(vectors_ND), -1).clone()
    others.fill_diagonal_(False)
    scores = scores.masked_fill(~others, float("-inf"))
    log_share = scores - torch.logsumexp(scores, dim=1, keepdim=True)
    partners = others & (labels[:, None] == labels[None])
    total = torch.where(partners, log_share, torch.zeros_like(log_share)).sum(dim=1)
    return -total / partners.sum(dim=1).clamp(min=1)


def contrast_over_step(
    vectors_BD: Tensor, labels: Tensor, weights: Tensor, temperature: float
) -> tuple[Tensor, Tensor]:
    """Losses of this rank's anchors, and the gradient of the sum over all ranks with respect to their vectors.

    The slope holds for each micro-batch by itself, so that a step may be cut into any number of them
    (Gao et al. 2021, gradient cache). A collective call; every rank gives equally many vectors.

    Parameters
    ----------
    vectors_BD : Tensor
        (B, D) unit vectors of all of this rank's micro-batches.
    labels, weights : Tensor
        (B,) as in `supervised_contrastive`.
    temperature : float
        Divides the cosine similarities.

    Returns
    -------
    losses : Tensor
        (B,).
    slope : Tensor
        (B, D).
    """
    size, rank = (dist.get_world_size(), dist.get_rank()) if dist.is_initialized() else (1, 0)
    everyone = _gather(vectors_BD.detach(), size).requires_grad_()
    their_labels, their_weights = _gather(labels, size), _gather(weights, size)
    with torch.enable_grad():
        losses = supervised_contrastive(everyone, their_labels, their_weights, temperature)
        counted = losses * their_weights
        (slope,) = torch.autograd.grad(counted.sum(), everyone)
    own = slice(rank * len(vectors_BD), (rank + 1) * len(vectors_BD))
    return losses[own].detach(), slope[own]


def with_slope(losses: Tensor, slope_BD: Tensor, vectors_BD: Tensor) -> Tensor:
    """Known losses (B,) whose gradient with respect to their vectors is `slope_BD`."""
    steep = (vectors_BD * slope_BD).sum(dim=1)
    return losses + steep - steep.detach()


def _gather(values: Tensor, size: int) -> Tensor:
    if size == 1:
        return values.clone()
    parts = [torch.empty_like(values) for _ in range(size)]
    dist.all_gather(parts, values.contiguous())
    return torch.cat(parts)
