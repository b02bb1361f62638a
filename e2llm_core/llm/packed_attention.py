"""Causal attention within the samples of a packed row, without arithmetic across them.

PyTorch's SDPA would compute the whole square of a packed row and mask most of it away. Here the samples are laid side
by side as a padded batch for the attention alone, which needs no mask, so that SDPA's flash kernel applies.

Shape suffixes: R rows (always 1), H heads, L packed length, D head width, S samples, T longest sample.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AttentionInterface

from storage.errors import InputError

PACKED_SDPA = "packed_sdpa"
"""Name for ``set_attn_implementation``; it needs the arguments of flash-attention's varlen path."""

_FOREIGN = (
    "sliding_window",
    "softcap",
    "s_aux",
    "sinks",
    "position_bias",
    "attention_bias",
    "head_mask",
    "block_indices",
    "cache",
    "output_attentions",
)
"""What transformers' attention functions may be asked for beyond full causal attention."""


def packed_sdpa(
    module: nn.Module,
    query_RHLD: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    cu_seq_lens_q: Tensor | None = None,
    max_length_q: int | None = None,
    is_causal: bool | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Attend as transformers' attention functions do, for one packed row.

    Parameters
    ----------
    cu_seq_lens_q
        (S + 1,) where the samples start, and the row's length.
    max_length_q
        Length of the longest sample.
    is_causal
        As transformers' functions take it: None for what `module` says, or else True.
    **kwargs
        Whatever else transformers passes; what would change the result is refused.

    Returns
    -------
    tuple
        (1, L, H, D), and None for the attention weights.

    Raises
    ------
    ValueError
        If the call is not of one packed row, or asks for more than full causal attention.
    """
    causal = is_causal if is_causal is not None else getattr(module, "is_causal", True)
    foreign = [name for name in _FOREIGN if kwargs.get(name) is not None and kwargs[name] is not False]
    if foreign := [*foreign, *([] if causal else ["is_causal=False"])]:
        raise ValueError(f"{PACKED_SDPA}: does not implement {', '.join(foreign)}. Use flash_attention_2")
    if cu_seq_lens_q is None or max_length_q is None or len(query_RHLD) != 1 or attention_mask is not None:
        raise ValueError(f"{PACKED_SDPA}: needs one packed row with cu_seq_lens_q and max_length_q, without a mask")
    lengths = cu_seq_lens_q.diff()
    samples, longest, total = len(lengths), max_length_q, query_RHLD.shape[2]
    first = torch.arange(samples, device=lengths.device) * longest - cu_seq_lens_q[:-1]
    place_L = torch.arange(total, device=lengths.device) + first.repeat_interleave(lengths, output_size=total)

    def spread(tensor_RHLD: Tensor) -> Tensor:
        """(1, H, L, D) -> (S, H, T, D)."""
        heads, width = tensor_RHLD.shape[1], tensor_RHLD.shape[3]
        room = tensor_RHLD.new_zeros(samples * longest, heads, width)
        filled = room.index_copy(0, place_L, tensor_RHLD[0].transpose(0, 1))
        return filled.view(samples, longest, heads, width).transpose(1, 2)

    groups = query_RHLD.shape[1] // key.shape[1]
    attended = F.scaled_dot_product_attention(
        spread(query_RHLD),
        spread(key).repeat_interleave(groups, dim=1),
        spread(value).repeat_interleave(groups, dim=1),
        dropout_p=dropout,
        scale=scaling,
        is_causal=True,
    )
    flat = attended.transpose(1, 2).flatten(0, 1)
    return flat.index_select(0, place_L).unsqueeze(0), None


AttentionInterface.register(PACKED_SDPA, packed_sdpa)


def attend_packed(llm: Any) -> None:
    """Let a language model that uses SDPA attend within samples only; it then accepts only packed rows.

    Raises
    ------
    InputError
        If its configuration asks for more than full causal attention.
    """
    if llm.config._attn_implementation != "sdpa":
        return
    if foreign := _foreign_setting(llm.config):
        raise InputError(
            f"llm {llm.config._name_or_path}/config.json",
            f"{foreign}: packed rows under SDPA have full causal attention only",
            "Set train.attention=flash_attention_2 (a GPU, train.precision=bf16), or give a model without it.",
        )
    llm.set_attn_implementation(PACKED_SDPA)


def _foreign_setting(config: Any) -> str | None:
    """Return the setting by which a model asks for anything but full causal attention; None if it does not.

    A window that no layer uses is none: ``use_sliding_window`` is false, or ``max_window_layers`` spares all.
    """
    kinds = getattr(config, "layer_types", None)
    window = getattr(config, "sliding_window", None)
    if window is not None and (kinds is None or "sliding_attention" in kinds):
        switch = "use_sliding_window=true, " if getattr(config, "use_sliding_window", False) else ""
        return f"{switch}sliding_window={window}"
    if other := sorted(set(kinds or ()) - {"full_attention"}):
        return f"layer_types has {', '.join(other)}"
    if (cap := getattr(config, "attn_logit_softcapping", None)) is not None:
        return f"attn_logit_softcapping={cap}"
    if getattr(config, "use_bidirectional_attention", False):
        return "use_bidirectional_attention=true"
    return None if getattr(config, "is_causal", True) else "is_causal=false"
