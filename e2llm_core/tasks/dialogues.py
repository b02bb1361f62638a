"""Dialogues of the tasks: what is asked about segments, and what is answered.

`<eeg>` stands for one segment. The first wording of every question is the one used in evaluation.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from e2llm_core.claims.claims import Claim

SEGMENT = "<eeg>"
SAME, DIFFERENT = "same", "different"
CLAIMS_PER_RATIONALE = 2

_DESCRIBE = (
    "{a}\nDescribe this EEG segment.",
    "{a}\nWhat does this segment show?",
    "What can be seen in this EEG? {a}",
)
_EMOTION = (
    "{a}\nWhich of these does the segment express: {options}?",
    "{a}\nName the state of the person: {options}.",
    "Options: {options}. Which one fits this EEG? {a}",
)
_PAIR = (
    "First: {a}\nSecond: {b}\nDo the two segments express the same or different states?",
    "Compare {a} with {b}. Same or different?",
)


@dataclass(frozen=True)
class Dialogue:
    """A question about segments and its answer; `thinking` None means that the answer comes at once."""

    task: str
    user: str
    answer: str
    thinking: str | None = None

    def messages(self) -> list[dict[str, str]]:
        """The prompt in chat form."""
        return [{"role": "user", "content": self.user}]


def ask_emotion(labels: Sequence[str], a: str = SEGMENT, wording: int = 0) -> str:
    """Question of the IED task."""
    return _EMOTION[wording].format(a=a, options=", ".join(labels))


def ask_pair(a: str = SEGMENT, b: str = SEGMENT, wording: int = 0) -> str:
    """Question of the EPC task."""
    return _PAIR[wording].format(a=a, b=b)


def rationale(claims: Sequence[Claim], label: str) -> str:
    """Chain of thought of the IED task: signal claims, then what they point to."""
    return " ".join([*(claim.sentence() for claim in claims), f"This points to {label}."])


def pair_rationale(label_a: str, label_b: str) -> str:
    """Chain of thought of the EPC task."""
    if label_a == label_b:
        return f"There is {label_a} in both."
    return f"There is {label_a} in the first, {label_b} in the second."


def describe(claims: Sequence[Claim], label: str, rng: np.random.Generator, segment: str = SEGMENT) -> Dialogue:
    """Stage 2's dialogue: the signal in words, and the label."""
    user = _DESCRIBE[rng.integers(len(_DESCRIBE))].format(a=segment)
    return Dialogue("describe", user, rationale(claims, label))


def emotion(
    labels: Sequence[str],
    claims: Sequence[Claim],
    label: str,
    rng: np.random.Generator,
    segment: str = SEGMENT,
) -> Dialogue:
    """One IED dialogue, half of them with a chain of thought."""
    user = ask_emotion(labels, segment, int(rng.integers(len(_EMOTION))))
    return Dialogue("IED", user, label, rationale(claims, label) if rng.random() < 0.5 else None)


def pair(
    label_a: str, label_b: str, rng: np.random.Generator, segments: tuple[str, str] = (SEGMENT, SEGMENT)
) -> Dialogue:
    """One EPC dialogue, three in four with a chain of thought."""
    user = ask_pair(*segments, wording=int(rng.integers(len(_PAIR))))
    thinking = pair_rationale(label_a, label_b) if rng.random() < 0.75 else None
    return Dialogue("EPC", user, SAME if label_a == label_b else DIFFERENT, thinking)
