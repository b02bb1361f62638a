"""Stage 1's label head on the test windows: a lower bound on what the language model could answer."""

import numpy as np
from numpy.typing import NDArray

from e2llm_core.evaluation.references.inputs import ReferenceInputs
from e2llm_core.evaluation.references.windows import batches_of
from e2llm_core.stages.probe import load_probe


def probe_probabilities(inputs: ReferenceInputs, name: str) -> NDArray[np.floating]:
    """Label probabilities (windows, labels) of the test windows, by the label head of the model directory `name`."""
    tower, probe = load_probe(inputs.probes[name])
    source = inputs.data.windows(inputs.data.split.test)
    return np.concatenate([probe.probabilities(tower, source.read(ids)) for ids in batches_of(source)])
