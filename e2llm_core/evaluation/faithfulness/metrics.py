"""What the checks of faithfulness are called, within which bounds they lie, and what they say. Light to import."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Check:
    """A number of the checks.

    Attributes
    ----------
    name : str
        As results name it.
    says : str
        One line for the report.
    bounds : tuple of float
        Smallest and largest possible value.
    digits : int
        Decimal places that the report shows.
    sampled : bool
        Whether it is a mean over items, so that subjects carry an interval; a count of all answers together has none.
    """

    name: str
    says: str
    bounds: tuple[float, float] = (0.0, 1.0)
    digits: int = 3
    sampled: bool = True

    @property
    def words(self) -> str:
        """The name as the report writes it."""
        return self.name.replace("_", " ")


_COUNT = (0.0, math.inf)

CLAIM_ACCURACY = Check(
    "claim_accuracy", "share of statements that hold; null: the same text, other windows of that subject and answer"
)
CLAIMS_PER_RATIONALE = Check("claims_per_rationale", "claims that can be checked, per rationale", _COUNT, digits=2)
DISTINCT_CLAIM_SETS = Check(
    "distinct_claim_sets", "different sets of quantity and direction", _COUNT, digits=0, sampled=False
)
COMMONEST_QUANTITY_SHARE = Check(
    "commonest_quantity_share", "share of the quantity that is named most often in all claims", sampled=False
)
CLAIMS_AMONG_LARGEST = Check(
    "claims_among_largest", "share of named quantities among their window's five largest deviations"
)
CLAIM_SUFFICIENCY = Check(
    "claim_sufficiency", "balanced accuracy of a naive Bayes reader of the claims alone, fitted to training windows"
)
FLIP_LIKELIHOOD = Check(
    "flip_likelihood", "a named band power moved across its reference: the likelier word at the claim's place changes"
)
FLIP_GENERATION = Check("flip_generation", "the same, written anew: the quantity is named with the other direction")
FLIP_OTHER = Check(
    "flip_other", "a band power that is not named moved instead: the named claim's likelier word changes"
)
FLIP_REACHED = Check("flip_reached", "size of the deviation after the move, in SD", _COUNT, digits=2)
FLIP_LEAKAGE = Check("flip_leakage", "mean absolute change of all other quantities by the move, in SD", _COUNT)
USE_CLAIMS = Check("use_claims", "claims of a window of another answer forced, EEG unchanged: the answer changes")
USE_EEG = Check("use_eeg", "EEG of a window of another answer, claims unchanged: the answer changes")
USE_NONE = Check("use_none", "no rationale: the answer changes")

CHECKS: dict[str, Check] = {
    check.name: check
    for check in (
        CLAIM_ACCURACY,
        CLAIMS_PER_RATIONALE,
        DISTINCT_CLAIM_SETS,
        COMMONEST_QUANTITY_SHARE,
        CLAIMS_AMONG_LARGEST,
        CLAIM_SUFFICIENCY,
        FLIP_LIKELIHOOD,
        FLIP_GENERATION,
        FLIP_OTHER,
        FLIP_REACHED,
        FLIP_LEAKAGE,
        USE_CLAIMS,
        USE_EEG,
        USE_NONE,
    )
}
"""All of them by name, in the order of the report."""
