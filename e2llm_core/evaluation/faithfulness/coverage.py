"""Coverage: number and variety of claims, and whether they are about what stands out in the window."""

from collections import Counter
from collections.abc import Iterable

import numpy as np
import pandas as pd

from e2llm_core.claims.claims import Claim
from e2llm_core.claims.kind import Quantity
from e2llm_core.evaluation.faithfulness.metrics import (
    CLAIMS_AMONG_LARGEST,
    CLAIMS_PER_RATIONALE,
    COMMONEST_QUANTITY_SHARE,
    DISTINCT_CLAIM_SETS,
)
from e2llm_core.evaluation.faithfulness.numbers import Number, mean_of, number_of
from e2llm_core.evaluation.faithfulness.spoken import Spoken

LARGEST = 5
"""Number of deviations of a window that count as its largest."""


def coverage(spoken: Spoken) -> list[Number]:
    """Claims per rationale, distinct sets of them, the commonest quantity's share, and the share among the largest.

    Claims about quantities that are not measured count as claims, and are never among the largest. Without any claim
    the last two are undefined and left out.
    """
    everyone, keys, provenance = spoken.subjects, spoken.keys, spoken.provenance
    counts = np.array([len(claims) for claims in spoken.claims])
    found = mean_of(CLAIMS_PER_RATIONALE, counts, everyone, keys, provenance)
    rows = pd.DataFrame({"subject": everyone, "claims": spoken.claims})
    by_subject = rows.groupby("subject")["claims"]
    sets = by_subject.agg(distinct_sets)
    found.append(
        number_of(DISTINCT_CLAIM_SETS, distinct_sets(spoken.claims), sets, by_subject.size(), keys, provenance)
    )
    if not counts.sum():
        return found
    speaking = by_subject.agg(lambda said: sum(map(len, said))).loc[lambda number: number > 0]
    shares = by_subject.agg(commonest_share).loc[speaking.index]
    whole = commonest_share(spoken.claims)
    found.append(number_of(COMMONEST_QUANTITY_SHARE, whole, shares, speaking, keys, provenance))
    among, items = among_largest(spoken)
    chance = min(LARGEST, len(spoken.quantities)) / len(spoken.quantities)
    return found + mean_of(CLAIMS_AMONG_LARGEST, among, everyone[items], keys, provenance, chance)


def distinct_sets(said: Iterable[tuple[Claim, ...]]) -> int:
    """Number of different sets of (quantity, direction), without that of rationales that make no claim."""
    return len({frozenset((claim.quantity, claim.above) for claim in claims) for claims in said if claims})


def commonest_share(said: Iterable[tuple[Claim, ...]]) -> float:
    """Share of the quantity that is named most often in all claims; 0 without any."""
    names = Counter(claim.quantity for claims in said for claim in claims)
    return max(names.values()) / names.total() if names else 0.0


def among_largest(spoken: Spoken) -> tuple[np.ndarray, np.ndarray]:
    """Whether each quantity that a rationale names has one of its window's `LARGEST` deviations; and its item."""
    order = np.argsort(-np.abs(spoken.deviations), axis=1, kind="stable")[:, :LARGEST]
    items, found = [], []
    for item, claims in enumerate(spoken.claims):
        largest: set[Quantity] = {spoken.quantities[place] for place in order[item]}
        for quantity in dict.fromkeys(claim.quantity for claim in claims):
            items.append(item)
            found.append(quantity in largest)
    return np.array(found, dtype=bool), np.array(items, dtype=np.int64)
