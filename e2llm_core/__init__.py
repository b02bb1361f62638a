"""What is computed: encoders, projector, Qwen bridge, stages, instructions, evaluation.

The model classes are imported on first use, so that the parts without a network stay light.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from e2llm_core.model.configuration_e2llm import E2LLMConfig
    from e2llm_core.model.modeling_e2llm import E2LLMForConditionalGeneration
    from e2llm_core.model.processing_e2llm import E2LLMProcessor

__all__ = ["E2LLMConfig", "E2LLMForConditionalGeneration", "E2LLMProcessor"]

_HOME = {
    "E2LLMConfig": "e2llm_core.model.configuration_e2llm",
    "E2LLMForConditionalGeneration": "e2llm_core.model.modeling_e2llm",
    "E2LLMProcessor": "e2llm_core.model.processing_e2llm",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
