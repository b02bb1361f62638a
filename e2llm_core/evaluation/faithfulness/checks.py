"""All checks of faithfulness of one model on one task."""

from collections.abc import Callable

from e2llm_core.claims.measures import QuantityScaler
from e2llm_core.evaluation.faithfulness.accuracy import claim_accuracy
from e2llm_core.evaluation.faithfulness.asking import Asking
from e2llm_core.evaluation.faithfulness.coverage import coverage
from e2llm_core.evaluation.faithfulness.flip import flips
from e2llm_core.evaluation.faithfulness.moves import Mover
from e2llm_core.evaluation.faithfulness.numbers import Number
from e2llm_core.evaluation.faithfulness.settings import FaithfulnessSettings
from e2llm_core.evaluation.faithfulness.spoken import Spoken
from e2llm_core.evaluation.faithfulness.sufficiency import ClaimReader, sufficiency, training_claims
from e2llm_core.evaluation.faithfulness.use import Ending, uses
from e2llm_core.llm.families.base import Family
from e2llm_core.stages.data import EEGData
from e2llm_core.stages.measured import MeasuredWindows


def checks(
    spoken: Spoken,
    measured: MeasuredWindows,
    scaler: QuantityScaler,
    data: EEGData,
    asking: Asking,
    family: Family,
    conclude: Callable[[str], str],
    settings: FaithfulnessSettings,
    seed: int,
) -> list[Number]:
    """Compute all metrics of `e2llm_core.evaluation.faithfulness.metrics.CHECKS` that are defined for these answers.

    Parameters
    ----------
    spoken : Spoken
        Generated answers of the model.
    measured : MeasuredWindows
        Measures of the test side.
    scaler : QuantityScaler
        The model's own spread of the quantities.
    data : EEGData
        Its training side is what the reader of claims is fitted to.
    asking : Asking
        Asks the model.
    family : Family
        Family of the language model.
    conclude : callable
        Returns the last sentence of a rationale that leads to an answer.
    settings : FaithfulnessSettings
        Numbers of windows.
    seed : int
        Seed of the draws.
    """
    found = [claim_accuracy(spoken.rows, spoken.quantities, spoken.reference, spoken.deviations, spoken.provenance)]
    found += coverage(spoken)
    found += sufficiency(spoken, ClaimReader.fit(spoken.quantities, *training_claims(data, scaler)))
    if settings.flips:
        found += flips(spoken, Mover(measured, scaler), asking, settings.flips, seed)
    if settings.uses:
        found += uses(spoken, asking, Ending(family, spoken.options, conclude), settings.uses, seed)
    return found
