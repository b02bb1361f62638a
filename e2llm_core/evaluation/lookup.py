"""Answers by looking up: a model's own label of a segment, in its own labels of the options, read as plain text.

What a model that can name states and can read scenarios answers without reasoning over both at once; an answer to the
whole question that is better than this uses more than the label.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

import numpy as np
import pandas as pd

from e2llm_core.evaluation.answers import Client, KeptAnswers
from e2llm_core.evaluation.config import LOOKUP
from e2llm_core.evaluation.items import Request, split_request
from e2llm_core.evaluation.predictions import most_probable
from e2llm_core.tasks.items import EEG, TEXT_ALONE, Items
from e2llm_core.tasks.letters import unlettered
from e2llm_core.tasks.odds import normalised
from e2llm_core.tasks.registry import LABELLING
from e2llm_core.tasks.task import Task


def looked_up(
    task: Task,
    items: Items,
    labels: Sequence[str],
    kept: KeptAnswers,
    deploy: Callable[[], AbstractContextManager[Client]],
    size: int,
) -> pd.DataFrame:
    """Predictions of a task that has a `text_map`, from the label probabilities that one model gives.

    Parameters
    ----------
    task : Task
        Shows one segment, and lists lettered options.
    items : Items
        Its items.
    labels : sequence of str
        Class names of the data set.
    kept : KeptAnswers
        Saved answers of the model.
    deploy : callable
        Gives the model's client.
    size : int
        Items per request.
    """
    assert task.text_map is not None
    offered = [unlettered(listed) for listed in items.listed]
    texts = sorted({text for some in offered for text in some})
    no_windows = np.empty((len(texts), 0), dtype=np.int64)
    asked_in_text = Request(TEXT_ALONE, np.arange(len(texts)), no_windows, listed=tuple(texts))
    windows, place = np.unique(items.windows[:, 0], return_inverse=True)
    shown = Request(EEG, np.arange(len(windows)), windows[:, None])
    of_text, of_window = (
        kept.probabilities(f"{task.name}/{LOOKUP}/{name}", question, split_request(request, size), deploy)
        for name, question, request in (
            ("options", task.text_map.question(labels), asked_in_text),
            ("segments", LABELLING.question(labels), shown),
        )
    )
    rows = np.array([[texts.index(text) for text in some] for some in offered])
    chances = normalised(np.einsum("il,iol->io", of_window[place], of_text[rows]))
    return most_probable(items.table, chances, task=task.name, model=LOOKUP, labels=task.options(labels), seed=0)
