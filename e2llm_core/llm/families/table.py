"""The table of language model families."""

from __future__ import annotations

from e2llm_core.llm.families.base import Family
from e2llm_core.llm.families.llama import LLAMA
from e2llm_core.llm.families.qwen import QWEN
from storage.errors import InputError

FAMILIES: tuple[Family, ...] = (QWEN, LLAMA)

STAND_IN = "qwen3"
"""``model_type`` of the small model that is made from scratch, and of a configuration that names none."""

_BY_MODEL_TYPE = {model_type: family for family in FAMILIES for model_type in family.architectures}


def family_of(model_type: str, place: str = "llm") -> Family:
    """Find the family of a transformers ``model_type``; `place` is named when there is none.

    Raises
    ------
    InputError
        If no family has it.
    """
    if model_type not in _BY_MODEL_TYPE:
        raise InputError(
            place,
            f"model_type {model_type!r} belongs to no known language model family",
            f"Give a model of {family_names()}. Another family is one file in e2llm_core/llm/families (control tokens, "
            "form of the rationale, architectures, experts on disk) and its name in FAMILIES of table.py there.",
        )
    return _BY_MODEL_TYPE[model_type]


def family_names() -> str:
    """Name all families."""
    return "; ".join(family.name for family in FAMILIES)
