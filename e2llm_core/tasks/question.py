"""A question to the model, with its closed list of answers."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

Readout = Literal["likelihood", "generation"]
"""How an answer is read: as the most probable option, or from generated text."""

Prompt = Literal["primary", "seen"]
"""How a question is worded: in a held-out wording, which is in no training text, or in a trained one."""
PRIMARY: Prompt = "primary"
SEEN: Prompt = "seen"


def exact_option(answer: str, options: Sequence[str]) -> str | None:
    """The answer where it is one of the options, letter by letter; None where it is none of them."""
    return answer if answer in options else None


Parser = Callable[[str, Sequence[str]], str | None]
"""Reads an answer: its text after the chain of thought, and the options; None says that it is none of them."""


@dataclass(frozen=True)
class Question:
    """A question about `num_segments` segments with a closed list of answers; of a task, by name, or of none."""

    user: str
    options: tuple[str, ...]
    num_segments: int = 1
    parser: Parser = exact_option
    task: str | None = None

    def messages(self) -> list[dict[str, str]]:
        """The prompt in chat form."""
        return [{"role": "user", "content": self.user}]

    def read(self, answer: str) -> str | None:
        """The option that an answer's text means; None where it means none (invalid)."""
        return self.parser(answer, self.options)
