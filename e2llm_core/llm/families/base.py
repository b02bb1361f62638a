"""What a family of language models is: all that differs between them, as one value."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from e2llm_core.llm.families.rationale import AnswerLine, ThinkTags

Shape = tuple[int, ...]
Messages = Sequence[Mapping[str, str]]


@dataclass(frozen=True)
class Piece:
    """A tensor of a checkpoint: some or all of a parameter's elements, in its order."""

    name: str
    shape: Shape

    @property
    def numel(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)


def whole_parameter(name: str, shape: Shape) -> tuple[Piece, ...]:
    """Map a parameter to the checkpoint tensor of the same name and shape."""
    return (Piece(name, shape),)


@dataclass(frozen=True)
class Architecture:
    """Parameters of one transformers architecture that its ``config.json`` does not determine.

    Attributes
    ----------
    qkv_bias
        Biases of the query, key and value projections.
    qk_norm
        Norms of the queries and keys of each head.
    experts
        Mixture of experts instead of one feed-forward block.
    """

    qkv_bias: bool = False
    qk_norm: bool = False
    experts: bool = False


@dataclass(frozen=True)
class Family:
    """Language models that share a chat format and a layout on disk.

    What is not here is the same for all families: packed attention is read from the model's configuration
    (`e2llm_core.llm.packed_attention`), and an embedding table without spare rows is enlarged
    (`e2llm_core.llm.embedding_rows`).

    Attributes
    ----------
    name
        For messages.
    architectures
        By transformers' ``model_type``.
    turn_start, turn_end, end_of_text
        Control tokens of the chat format; a tokenizer without the first two is refused.
    rationale
        How an answer with a rationale is written and read.
    default_system
        Keep the system message that the tokenizer's template adds to a conversation without one.
    pieces
        Names the tensors of a published checkpoint that hold one parameter, by its name and shape. Concatenated in
        this order, their elements are the parameter's.
    expert_block
        Class of a mixture's block, which ZeRO-3 gathers as a whole; None where there are no mixtures.
    chat_template
        For tokenizers that are trained from scratch; a pretrained tokenizer has its own.
    """

    name: str
    architectures: Mapping[str, Architecture]
    turn_start: str
    turn_end: str
    end_of_text: str
    rationale: ThinkTags | AnswerLine
    chat_template: str
    default_system: bool = True
    pieces: Callable[[str, Shape], tuple[Piece, ...]] = whole_parameter
    expert_block: str | None = None

    @property
    def control_tokens(self) -> tuple[str, ...]:
        """Tokens that no text may contain."""
        return self.turn_start, self.turn_end, self.end_of_text

    def render(self, tokenizer: Any, messages: Messages, enable_thinking: bool) -> str:
        """Render a conversation up to the answer, by the tokenizer's own chat template.

        Parameters
        ----------
        tokenizer
            Has a ``chat_template``.
        messages
            ``{"role", "content"}`` each.
        enable_thinking
            False ends the prompt with the form of an empty rationale, after which the answer follows at once.
        """
        text: str = tokenizer.apply_chat_template(
            list(messages), tokenize=False, add_generation_prompt=True, enable_thinking=enable_thinking
        )
        if not self.default_system and messages[0]["role"] != "system" and text.startswith(f"{self.turn_start}system"):
            text = text.partition(f"{self.turn_end}\n")[2]
        text = text.removesuffix(self.rationale.opening)
        empty = self.rationale.write("")
        return text if enable_thinking or text.endswith(empty) else text + empty

    def until_end(self, text: str) -> str:
        """Cut generated text at the first end of turn or of text."""
        return text.split(self.turn_end)[0].split(self.end_of_text)[0]

    def split(self, text: str) -> tuple[str | None, str]:
        """Split generated text into the rationale and the answer.

        Returns
        -------
        rationale : str or None
            None if there is none or it is empty.
        answer : str
            What follows it, stripped; empty when a rationale was begun and never ended.
        """
        return self.rationale.read(self.until_end(text))
