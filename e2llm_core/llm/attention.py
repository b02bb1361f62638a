"""Which attention a language model runs: FlashAttention 2 where it can, else PyTorch's own."""

from typing import Any

import torch
from transformers.utils.import_utils import is_flash_attn_2_available

from storage.errors import InputError

FLASH, SDPA = "flash_attention_2", "sdpa"


def choose_attention(wanted: str, dtype: Any) -> str:
    """Choose transformers' ``attn_implementation``.

    Parameters
    ----------
    wanted
        ``"flash_attention_2"``, ``"sdpa"``, or ``"auto"``: FlashAttention 2 if it is usable, else SDPA, which has
        a flash kernel of its own on GPUs.
    dtype
        Data type of the language model, in transformers' spelling.

    Raises
    ------
    InputError
        If FlashAttention 2 is wanted and not usable.
    """
    if wanted == SDPA:
        return SDPA
    reason = why_no_flash(dtype)
    if wanted == FLASH and reason:
        raise InputError("train.attention", f"flash_attention_2 cannot be used: {reason}", "Use auto or sdpa")
    return SDPA if reason else FLASH


def why_no_flash(dtype: Any) -> str:
    """Return why FlashAttention 2 cannot run here; empty if it can."""
    if not torch.cuda.is_available():
        return "there is no GPU"
    if str(dtype).removeprefix("torch.") not in ("bfloat16", "float16"):
        return "it needs train.precision=bf16"
    return "" if is_flash_attn_2_available() else "the package flash-attn is not installed"


def describe_attention(llm: Any, dtype: Any) -> str:
    """Describe which attention a loaded language model runs, and why."""
    used = llm.config._attn_implementation
    reason = why_no_flash(dtype)
    return f"{used} ({reason})" if used == SDPA and reason else str(used)
