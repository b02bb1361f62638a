"""Qwen2.5, Qwen3 and Qwen3-MoE."""

from __future__ import annotations

import re

from e2llm_core.llm.families.base import Architecture, Family, Piece, Shape, whole_parameter
from e2llm_core.llm.families.rationale import ThinkTags

_EXPERTS = re.compile(r"(?P<experts>.+\.experts)\.(?P<kind>gate_up_proj|down_proj)")

_CHAT_TEMPLATE = (
    "{%- for message in messages %}"
    "{{- '<|im_start|>' + message.role + '\\n' }}"
    "{%- if message.role == 'assistant' %}{{- message.content.split('</think>')[-1].lstrip('\\n') }}"
    "{%- else %}{{- message.content }}{%- endif %}"
    "{{- '<|im_end|>\\n' }}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}"
    "{%- if enable_thinking is defined and enable_thinking is false %}"
    "{{- '<think>\\n\\n</think>\\n\\n' }}{%- endif %}"
    "{%- endif %}"
)


def experts_one_by_one(name: str, shape: Shape) -> tuple[Piece, ...]:
    """Name the tensors of a parameter: the parameter itself, except for the experts of a mixture.

    The model has (experts, 2 * width, hidden) and (experts, hidden, width), the files one gate, up and down
    projection per expert.
    """
    found = _EXPERTS.fullmatch(name)
    if found is None or len(shape) != 3:
        return whole_parameter(name, shape)
    experts, (number, rows, columns) = found["experts"], shape
    if found["kind"] == "down_proj":
        return tuple(Piece(f"{experts}.{n}.down_proj.weight", (rows, columns)) for n in range(number))
    half = (rows // 2, columns)
    return tuple(Piece(f"{experts}.{n}.{part}_proj.weight", half) for n in range(number) for part in ("gate", "up"))


QWEN = Family(
    name="Qwen2.5, Qwen3 or Qwen3-MoE",
    architectures={
        "qwen2": Architecture(qkv_bias=True),
        "qwen3": Architecture(qk_norm=True),
        "qwen3_moe": Architecture(qk_norm=True, experts=True),
    },
    turn_start="<|im_start|>",
    turn_end="<|im_end|>",
    end_of_text="<|endoftext|>",
    rationale=ThinkTags(),
    chat_template=_CHAT_TEMPLATE,
    default_system=False,
    pieces=experts_one_by_one,
    expert_block="Qwen3MoeSparseMoeBlock",
)
"""Qwen2.5 writes the think tags as plain text. The system message that its template adds, which names the product, is
left out."""
