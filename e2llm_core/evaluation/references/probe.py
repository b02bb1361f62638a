"""Stage 1's label head on the test windows: a lower bound on what the language model could answer."""

import numpy as np
import pandas as pd

from e2llm_core.evaluation.predictions import most_probable
from e2llm_core.evaluation.references.inputs import ReferenceInputs
from e2llm_core.evaluation.references.windows import batches_of
from e2llm_core.stages.probe import load_probe
from e2llm_core.tasks.items import Items


def probe_predictions(inputs: ReferenceInputs, name: str, task: str, items: Items) -> pd.DataFrame:
    """Label the windows that a task's items show, with the label head of the model directory called `name`."""
    tower, probe = load_probe(inputs.probes[name])
    source = inputs.data.windows(inputs.data.split.test)
    parts = [probe.probabilities(tower, source.read(ids)) for ids in batches_of(source)]
    probabilities = np.concatenate(parts)[items.windows[:, 0]]
    return most_probable(items.table, probabilities, task=task, model=name, labels=probe.labels, seed=inputs.seed)
