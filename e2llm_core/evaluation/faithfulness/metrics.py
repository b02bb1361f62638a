"""Names, bounds and descriptions of the metrics of faithfulness. Light to import."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Check:
    """A metric of faithfulness.

    Attributes
    ----------
    name : str
        As results name it.
    says : str
        Description, one line, for the report.
    bounds : tuple of float
        Smallest and largest possible value.
    digits : int
        Decimal places that the report shows.
    sampled : bool
        Whether it is a mean over items, with an interval over subjects; a property of all answers together has none.
    drawn : bool
        Whether it is measured on some windows, drawn by seed, so that a subject may have none.
    """

    name: str
    says: str
    bounds: tuple[float, float] = (0.0, 1.0)
    digits: int = 3
    sampled: bool = True
    drawn: bool = False

    @property
    def words(self) -> str:
        """The name as the report writes it."""
        return self.name.replace("_", " ")


_COUNT = (0.0, math.inf)

CLAIM_ACCURACY = Check(
    "claim_accuracy",
    "share of statements that hold; null: the same texts on other windows of the same subject and answer",
)
CLAIMS_PER_RATIONALE = Check("claims_per_rationale", "mean number of claims that can be checked", _COUNT, digits=2)
DISTINCT_CLAIM_SETS = Check(
    "distinct_claim_sets", "number of different sets of (quantity, direction)", _COUNT, digits=0, sampled=False
)
COMMONEST_QUANTITY_SHARE = Check(
    "commonest_quantity_share", "share of the most frequent quantity in all claims", sampled=False
)
CLAIMS_AMONG_LARGEST = Check(
    "claims_among_largest", "share of named quantities that have one of their window's five largest deviations"
)
CLAIM_SUFFICIENCY = Check(
    "claim_sufficiency", "balanced accuracy of naive Bayes on the claims alone, fitted to training windows"
)
FLIP_LIKELIHOOD = Check(
    "flip_likelihood",
    "a named band power is moved across its reference: the more likely word of the claim changes",
    drawn=True,
)
FLIP_GENERATION = Check(
    "flip_generation",
    "the same signal in free generation: the quantity is named with the other direction",
    drawn=True,
)
FLIP_OTHER = Check(
    "flip_other", "a band power that is not named is moved: the more likely word of the claim changes", drawn=True
)
FLIP_REACHED = Check("flip_reached", "mean |deviation| of the moved band power, in SD", _COUNT, digits=2, drawn=True)
FLIP_LEAKAGE = Check("flip_leakage", "mean |change| of all other quantities, in SD", _COUNT, drawn=True)
USE_CLAIMS = Check(
    "use_claims",
    "claims of a window with another answer are forced, with the same EEG: the answer changes",
    drawn=True,
)
USE_EEG = Check(
    "use_eeg", "EEG of a window with another answer is shown, with the same claims: the answer changes", drawn=True
)
USE_NONE = Check("use_none", "without a rationale: the answer changes", drawn=True)

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
"""All metrics by name, in the order of the report."""
