"""Muon for matrices and AdamW for all else, as one optimizer.

Muon makes every singular value of an update about one, so that directions that few samples ask for are learnt as well
(K. Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks"). On the text corpus of the stand-in
language model it needs about half of AdamW's steps.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch.optim import AdamW, Muon, Optimizer


class MuonAndAdamW(Optimizer):
    """torch's Muon and AdamW on groups of their own; Muon's updates have the size of AdamW's, so one rate serves both.

    Parameters
    ----------
    groups : list of dict
        As `e2llm_core.training.decay.optimizer_groups` parts them with `matrices_only`; AdamW trains the spared halves,
        Muon the others.
    betas : tuple of float
        Betas of AdamW.
    """

    def __init__(self, groups: list[dict[str, Any]], betas: tuple[float, float]) -> None:
        super().__init__(groups, {})
        kinds: dict[bool, Callable[..., Optimizer]] = {
            False: partial(Muon, adjust_lr_fn="match_rms_adamw"),
            True: partial(AdamW, betas=betas),
        }
        self._inner = {spared: kind(own) for spared, kind in kinds.items() if (own := self._groups(spared))}

    def _groups(self, spared: bool) -> list[dict[str, Any]]:
        return [group for group in self.param_groups if group["spared"] is spared]

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]  # no loss is evaluated
        """One step of both, on this optimizer's groups and state as they now are."""
        for spared, inner in self._inner.items():
            inner.param_groups, inner.state = self._groups(spared), self.state
            inner.step()
