"""The table of stage 1's objectives."""

from e2llm_core.stages.stage1.objectives.base import Objective
from e2llm_core.stages.stage1.objectives.classification import Classification
from e2llm_core.stages.stage1.objectives.config import Stage1Losses
from e2llm_core.stages.stage1.objectives.contrastive import Contrastive
from e2llm_core.stages.stage1.objectives.measures import Measures
from e2llm_core.stages.stage1.objectives.patch_powers import PatchPowers


def objectives(losses: Stage1Losses) -> list[tuple[float, type[Objective]]]:
    """Weights and classes of all objectives; their heads are made in this order."""
    return [
        (1.0, Classification),
        (losses.contrastive, Contrastive),
        (losses.measures, Measures),
        (losses.patch_powers, PatchPowers),
    ]
