"""Dialogues of the text corpus: about segments that are described in words instead of shown, and about scenarios.

They teach a language model from scratch the words and forms of the tasks, to read what is written about a segment, and
which states people are in in everyday scenarios; nothing about EEG: deviations, claims and labels are drawn at random
and independently of each other.
"""

from collections.abc import Sequence
from typing import Annotated

import numpy as np

from e2llm_core.oneof import OneOf
from e2llm_core.tasks.corpus.choice import CHOICE
from e2llm_core.tasks.corpus.labels import drawn_labels
from e2llm_core.tasks.corpus.mapped import MAPPED
from e2llm_core.tasks.corpus.scenarios import Scenarios
from e2llm_core.tasks.corpus.states import STATES
from e2llm_core.tasks.dialogue import CorpusForm, Dialogue
from e2llm_core.tasks.registry import READINGS, TASKS

_FORMS = (*READINGS.values(), *TASKS.values(), CHOICE, MAPPED, STATES)
_OF_THE_STAND_IN = Scenarios()

CORPUS_FORMS: dict[str, CorpusForm] = {
    form.name: form for form in (*_FORMS, _OF_THE_STAND_IN) if isinstance(form, CorpusForm) and form.corpus_share
}
"""The forms that the corpus can hold, by name."""

DEFAULT_FORMS = tuple(name for name in CORPUS_FORMS if name != _OF_THE_STAND_IN.name)
"""Held where a spec names none."""

FormName = Annotated[str, OneOf(lambda: CORPUS_FORMS)]
"""The name of a form that the corpus can hold, for settings."""


def corpus_dialogue(
    number: int, labels: Sequence[str] | None, seed: int, forms: Sequence[str] = DEFAULT_FORMS
) -> Dialogue:
    """Dialogue `number` of the corpus; the same for the same seed.

    Parameters
    ----------
    number : int
        Which dialogue.
    labels : sequence of str or None
        The only labels that it speaks of; None draws a label set for every dialogue.
    seed : int
        Seed of the corpus.
    forms : sequence of str
        Names of the forms that the corpus holds, in their own shares.
    """
    rng = np.random.default_rng([seed, number])
    held = [CORPUS_FORMS[name] for name in forms]
    shares = np.array([form.corpus_share for form in held])
    form = held[rng.choice(len(held), p=shares / shares.sum())]
    return form.in_words(labels if labels is not None else drawn_labels(rng), rng)
