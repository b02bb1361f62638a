"""What weight decay pulls to zero, and Muon trains: matrices, and nothing that shifts, scales or marks a place."""

from __future__ import annotations

from typing import Any

from torch import nn

from e2llm_core.training.deepspeed_private import whole_shape
from e2llm_core.training.stage import ParameterGroup

ADDED = ("_token", "_tokens", "_embed", "_embedding", "queries")
"""Ends of the names of parameters that a model adds or prepends: CLS and summary tokens, positions, learned queries."""


def undecayed(model: nn.Module) -> set[int]:
    """Identities of the parameters that weight decay leaves alone.

    These are parameters of fewer than two dimensions (biases, norms, gains), tables of embeddings (also where an
    output layer shares one), and those that `ADDED` names. LoRA's A and B are matrices and decay, as in PEFT's and
    Hugging Face's trainers.
    """
    tables = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    named = model.named_parameters()
    return tables | {id(value) for name, value in named if len(whole_shape(value)) < 2 or name.endswith(ADDED)}


def optimizer_groups(
    model: nn.Module,
    groups: list[ParameterGroup],
    rates: dict[str, float],
    weight_decay: float,
    matrices_only: bool = False,
) -> list[dict[str, Any]]:
    """Parameter groups for the optimizer: each named one in two, decayed and spared, of one name and learning rate.

    Without weight decay there is nothing to part. A half that has no parameters is left out.

    Parameters
    ----------
    model : nn.Module
        For what its parameters are.
    groups : list of ParameterGroup
        Groups of trained parameters.
    rates : dict
        Learning rate by name of group.
    weight_decay : float
        Weight decay of what is not spared.
    matrices_only : bool
        Spare whatever has not two dimensions, such as the kernels of convolutions, and without weight decay too.
    """
    spared = undecayed(model) if weight_decay or matrices_only else set()
    if matrices_only:
        spared |= {id(value) for value in model.parameters() if len(whole_shape(value)) != 2}
    found = []
    for group in groups:
        settings = {"lr": rates[group.name], "name": group.name}
        decayed = [parameter for parameter in group.parameters if id(parameter) not in spared]
        rest = [parameter for parameter in group.parameters if id(parameter) in spared]
        halves = (
            {"params": decayed, "weight_decay": weight_decay, "spared": False, **settings},
            {"params": rest, "weight_decay": 0.0, "spared": True, **settings},
        )
        found += [half for half in halves if half["params"]]
    return found
