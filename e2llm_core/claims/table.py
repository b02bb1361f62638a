"""The table of claims: every kind of sentence about a signal that can be measured, said and read."""

from collections.abc import Iterable, Sequence
from typing import Annotated

from e2llm_core.claims.asymmetry import ASYMMETRY
from e2llm_core.claims.blinks import BLINKS
from e2llm_core.claims.bursts import BURSTS
from e2llm_core.claims.kind import ClaimKind, Quantity
from e2llm_core.claims.montage import Montage
from e2llm_core.claims.power import POWER
from e2llm_core.claims.ratio import THETA_BETA
from e2llm_core.claims.slope import SLOPE
from e2llm_core.claims.variability import VARIABILITY
from e2llm_core.oneof import OneOf

CLAIM_TABLE = 2
"""Version of what quantities mean; 1 knew no references and no reliability. Files of another version are refused."""

CLAIM_KINDS: dict[str, ClaimKind] = {
    kind.name: kind for kind in (POWER, BURSTS, ASYMMETRY, THETA_BETA, SLOPE, VARIABILITY, BLINKS)
}
"""Kinds by name; their order is that of measurements."""


DEFAULT_KINDS = ("power", "bursts")
"""What is measured where a spec names nothing else."""

ClaimKindName = Annotated[str, OneOf(lambda: CLAIM_KINDS)]
"""The name of a kind of claim, for settings."""


def kinds_named(names: Iterable[str]) -> tuple[ClaimKind, ...]:
    """The kinds of these names, in the order of the table, whatever the order of the names."""
    wanted = set(names)
    return tuple(kind for name, kind in CLAIM_KINDS.items() if name in wanted)


def quantities_of(channels: Sequence[str], kinds: Iterable[str] = DEFAULT_KINDS) -> tuple[Quantity, ...]:
    """What is measured with these channels, by canonical name, in the order of the measurements."""
    montage = Montage(tuple(channels))
    return tuple(quantity for kind in kinds_named(kinds) for quantity in kind.quantities(montage))
