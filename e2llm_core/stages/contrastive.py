"""Supervised contrastive loss over all ranks' embeddings (Khosla et al. 2020, eq. 2)."""

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.nn.functional import all_gather


def gathered_supervised_contrastive(vectors: Tensor, labels: Tensor, weights: Tensor, temperature: float) -> Tensor:
    """Loss of each of this rank's anchors against everybody's embeddings.

    Parameters
    ----------
    vectors : Tensor
        (B, D) unit vectors of this rank; gathered over ranks with their gradients.
    labels : Tensor
        (B,) class ids.
    weights : Tensor
        (B,) 1 for samples, 0 for fillers, which are nobody's partner.
    temperature : float
        Divides the cosine similarities.

    Returns
    -------
    Tensor
        (B,) loss per anchor; 0 for anchors without a partner of their class.
    """
    size = dist.get_world_size() if dist.is_initialized() else 1
    rank = dist.get_rank() if dist.is_initialized() else 0
    everyone, their_labels, their_weights = vectors, labels, weights
    if size > 1:
        everyone = torch.cat(all_gather(vectors))
        their_labels, their_weights = _gather(labels), _gather(weights)
    own = rank * len(vectors) + torch.arange(len(vectors), device=vectors.device)
    scores = vectors @ everyone.T / temperature
    others = (their_weights > 0).expand(len(vectors), -1).clone()
    others[torch.arange(len(vectors)), own] = False
    scores = scores.masked_fill(~others, float("-inf"))
    log_share = scores - torch.logsumexp(scores, dim=1, keepdim=True)
    partners = others & (labels[:, None] == their_labels[None])
    total = torch.where(partners, log_share, torch.zeros_like(log_share)).sum(dim=1)
    return -total / partners.sum(dim=1).clamp(min=1)


def _gather(values: Tensor) -> Tensor:
    parts = [torch.empty_like(values) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, values)
    return torch.cat(parts)
