"""The project's own text corpus: dialogues about segments that are described in words instead of shown.

It teaches a language model from scratch the words and forms of the tasks, and nothing about EEG: claims and labels are
drawn at random and independently of each other.
"""

from collections.abc import Sequence

import numpy as np

from e2llm_core.tasks.dialogue import CorpusForm, Dialogue
from e2llm_core.tasks.registry import DESCRIPTION, TASKS


def corpus_forms() -> list[CorpusForm]:
    """The forms that the corpus holds."""
    return [form for form in (DESCRIPTION, *TASKS.values()) if isinstance(form, CorpusForm)]


def corpus_dialogue(number: int, labels: Sequence[str], seed: int) -> Dialogue:
    """Dialogue `number` of the corpus; the same for the same seed."""
    rng = np.random.default_rng([seed, number])
    forms = corpus_forms()
    shares = np.array([form.corpus_share for form in forms])
    return forms[rng.choice(len(forms), p=shares / shares.sum())].in_words(labels, rng)
