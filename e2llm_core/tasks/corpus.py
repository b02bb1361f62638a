"""The project's own text corpus: dialogues about segments that are described in words instead of shown.

It teaches a language model from scratch the words and forms of the tasks, and nothing about EEG: claims and labels are
drawn at random and independently of each other.
"""

from collections.abc import Sequence

import numpy as np

from e2llm_core.claims.claims import Claim
from e2llm_core.claims.table import quantities_in
from e2llm_core.tasks import dialogues
from e2llm_core.tasks.dialogues import Dialogue
from storage.signal.channels import REGIONS

_QUANTITIES = quantities_in(REGIONS)


def corpus_dialogue(number: int, labels: Sequence[str], seed: int) -> Dialogue:
    """Dialogue `number` of the corpus; the same for the same seed."""
    rng = np.random.default_rng([seed, number])
    kind = rng.choice(["describe", "emotion", "pair"], p=[0.25, 0.3, 0.45])
    label_a, claims = _drawn(rng, labels)
    if kind == "describe":
        return dialogues.describe(claims, label_a, rng, _notes(claims, label_a))
    if kind == "emotion":
        return dialogues.emotion(labels, claims, label_a, rng, _notes(claims, label_a))
    _, other = _drawn(rng, labels)
    label_a, label_b = _two(rng, labels)
    notes = (_notes(claims[:1], label_a), _notes(other[:1], label_b))
    return dialogues.pair(label_a, label_b, rng, notes)


def _two(rng: np.random.Generator, labels: Sequence[str]) -> tuple[str, str]:
    """Two labels, the same one in half of the cases."""
    first, second = rng.choice(len(labels), 2, replace=False)
    return labels[first], labels[first] if rng.random() < 0.5 else labels[second]


def _drawn(rng: np.random.Generator, labels: Sequence[str]) -> tuple[str, list[Claim]]:
    places = np.sort(rng.choice(len(_QUANTITIES), dialogues.CLAIMS_PER_RATIONALE, replace=False))
    claims = [Claim(_QUANTITIES[place], bool(rng.random() < 0.5)) for place in places]
    return str(labels[int(rng.integers(len(labels)))]), claims


def _notes(claims: Sequence[Claim], label: str) -> str:
    """What stands in a segment's place: keywords."""
    return f"[{'; '.join(claim.keywords() for claim in claims)}; points to {label}]"
