"""Training samples of stages 2 and 3: a dialogue and the windows that it shows, before and after tokenisation."""

from dataclasses import dataclass

import numpy as np

from e2llm_core.llm.packing import TokenSample
from e2llm_core.tasks.dialogue import Dialogue


@dataclass(frozen=True)
class Sample:
    """A dialogue, the windows (by number) that it shows, and the number of its task."""

    dialogue: Dialogue
    windows: tuple[int, ...]
    task: int = 0


@dataclass(frozen=True)
class TokenizedSample:
    """A sample as the model reads it: tokens, and the windows for their placeholders."""

    tokens: TokenSample
    windows: tuple[int, ...]

    def without_weight(self) -> "TokenizedSample":
        """The same sample as filler: it counts nothing."""
        return TokenizedSample(self.tokens.without_weight(), self.windows)

    def numbers(self) -> np.ndarray:
        """As int32, 8 bytes a token: two lengths, the task, windows, ids, bits of the weights."""
        tokens, windows = self.tokens, np.array(self.windows, dtype=np.int64).view(np.int32)
        head = np.array([len(tokens), len(self.windows), tokens.task], dtype=np.int32)
        return np.concatenate([head, windows, tokens.ids.astype(np.int32), tokens.weights.view(np.int32)])

    @classmethod
    def of_numbers(cls, numbers: np.ndarray) -> tuple["TokenizedSample", np.ndarray]:
        """Read a sample, and return the numbers that follow it."""
        length, count, task = numbers[:3].tolist()
        windows, ids, weights, rest = np.split(numbers[3:], np.cumsum([2 * count, length, length]))
        tokens = TokenSample(ids.astype(np.int64), weights.view(np.float32), task)
        return cls(tokens, tuple(windows.copy().view(np.int64).tolist())), rest
