"""Rows of a corpus: what a stage would draw at each place of its training, and others' dialogues among it."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from e2llm_core.claims.claims import said_in
from e2llm_core.stages.corpus.names import WindowNames
from e2llm_core.stages.corpus.reading import OTHER
from e2llm_core.stages.language import LanguageStage
from storage.corpus import OWN, CorpusManifest
from storage.sampling.order import Permutation


class CorpusRows:
    """Draws the rows of a corpus.

    Parameters
    ----------
    stage : LanguageStage
        Stage that will train on them; it must tell what its projector tells.
    manifest : CorpusManifest
        Description of the corpus.
    others : sequence of dict
        Others' dialogues, with `source`.
    """

    def __init__(self, stage: LanguageStage, manifest: CorpusManifest, others: Sequence[dict[str, Any]]) -> None:
        self._stage, self._others = stage, others
        self._names = WindowNames(stage.training.windows)
        self._order = stage.order(manifest.seed)
        self._seed = manifest.seed
        mixed = Permutation(manifest.num_rows, manifest.seed)(np.arange(len(others)))
        self._place_of_others = np.sort(mixed)

    def rows(self, numbers: np.ndarray) -> list[dict[str, Any]]:
        """Rows by number, in their order."""
        before = np.searchsorted(self._place_of_others, numbers)
        theirs = np.isin(numbers, self._place_of_others)
        drawn = iter(self._drawn((numbers - before)[~theirs]))
        others = (self._other(self._others[place]) for place in before[theirs].tolist())
        return [next(others) if other else next(drawn) for other in theirs.tolist()]

    def _drawn(self, positions: np.ndarray) -> list[dict[str, Any]]:
        """What is drawn at some positions of training."""
        if not len(positions):
            return []
        ids = np.concatenate([self._order.batch(int(position), 1) for position in positions])
        rows = []
        for position, sample in zip(positions.tolist(), self._stage.drawn(ids, positions), strict=True):
            dialogue = sample.dialogue
            rows.append(
                {
                    "task": dialogue.task,
                    "windows": [self._names.named(window) for window in sample.windows],
                    "user": dialogue.user,
                    "thinking": dialogue.thinking,
                    "answer": dialogue.answer,
                    "claims": [claim.to_dict() for claim in dialogue.claims],
                    "source": OWN,
                    "seed": [self._seed, position],
                }
            )
        return rows

    def _other(self, row: dict[str, Any]) -> dict[str, Any]:
        return row | {"task": OTHER, "claims": _claims(f"{row['thinking'] or ''}\n{row['answer']}"), "seed": []}


def _claims(text: str) -> list[dict[str, Any]]:
    """Every claim of a text, in sentences of a known form."""
    return [said.claim.to_dict() for said in said_in(text)]
