"""The table of claims: every kind of sentence about a signal that can be measured, said and read."""

from e2llm_core.claims.bursts import BURSTS
from e2llm_core.claims.kind import ClaimKind, Quantity
from e2llm_core.claims.power import POWER

CLAIM_KINDS: dict[str, ClaimKind] = {kind.name: kind for kind in (POWER, BURSTS)}
"""Kinds by name; their order is that of measurements and of sentences."""


def quantities_in(regions: tuple[str, ...]) -> tuple[Quantity, ...]:
    """All that is measured in these regions, in the order of the measurements."""
    return tuple(quantity for kind in CLAIM_KINDS.values() for quantity in kind.quantities(regions))
