"""Llama's architecture with ChatML and without think tags, such as SmolLM2-Instruct."""

from __future__ import annotations

from e2llm_core.llm.families.base import Architecture, Family
from e2llm_core.llm.families.rationale import AnswerLine

_CHAT_TEMPLATE = (
    "{%- for message in messages %}"
    "{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"
)

LLAMA = Family(
    name="Llama with ChatML (SmolLM2)",
    architectures={"llama": Architecture()},
    turn_start="<|im_start|>",
    turn_end="<|im_end|>",
    end_of_text="<|endoftext|>",
    rationale=AnswerLine(),
    chat_template=_CHAT_TEMPLATE,
)
