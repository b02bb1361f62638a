"""Text in place of an EEG segment in the text corpus: claims and a label in note form, drawn at random."""

from collections.abc import Sequence

import numpy as np

from e2llm_core.claims.claims import Claim
from e2llm_core.claims.table import quantities_of
from e2llm_core.tasks.facts import CLAIMS_PER_RATIONALE
from storage.signal.channels import SEED_CHANNELS

_QUANTITIES = quantities_of(SEED_CHANNELS)


def drawn_segment(labels: Sequence[str], rng: np.random.Generator) -> tuple[str, list[Claim]]:
    """A label, and claims that know nothing of it."""
    places = np.sort(rng.choice(len(_QUANTITIES), CLAIMS_PER_RATIONALE, replace=False))
    claims = [Claim(_QUANTITIES[place], bool(rng.random() < 0.5)) for place in places]
    return str(labels[int(rng.integers(len(labels)))]), claims


def drawn_pair(labels: Sequence[str], rng: np.random.Generator) -> tuple[str, str]:
    """Two labels, the same one in half of the cases."""
    first, second = rng.choice(len(labels), 2, replace=False)
    return labels[first], labels[first] if rng.random() < 0.5 else labels[second]


def notes(claims: Sequence[Claim], label: str) -> str:
    """The segment in keywords."""
    return f"[{'; '.join(claim.keywords() for claim in claims)}; points to {label}]"
