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


LISTED = "<listed>"
"""Stands in a question for what differs from item to item, such as the options of a multiple choice."""


def exact_option(answer: str, options: Sequence[str]) -> str | None:
    """The answer where it is one of the options, letter by letter; None where it is none of them."""
    return answer if answer in options else None


Parser = Callable[[str, Sequence[str]], str | None]
"""Reads an answer: its text after the chain of thought, and the options; None says that it is none of them."""


@dataclass(frozen=True)
class Question:
    """A question about `num_segments` segments with a closed list of answers; of a task, by name, or of none.

    `user` may hold `LISTED`: then each item has a text of its own in this place.
    """

    user: str
    options: tuple[str, ...]
    num_segments: int = 1
    parser: Parser = exact_option
    task: str | None = None

    def messages(self, listed: str = "") -> list[dict[str, str]]:
        """The prompt in chat form, about one item.

        Raises
        ------
        ValueError
            If the question needs a text of the item's own and there is none, or the other way round.
        """
        if (LISTED in self.user) != bool(listed):
            problem = "has no place for a text of an item's own" if listed else "needs a text of the item's own"
            raise ValueError(f"question {self.user!r} {problem}")
        return [{"role": "user", "content": self.user.replace(LISTED, listed)}]

    def read(self, answer: str) -> str | None:
        """The option that an answer's text means; None where it means none (invalid)."""
        return self.parser(answer, self.options)
