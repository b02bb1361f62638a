"""Stage 2, cross-modal alignment: only the projector trains, on questions that the EEG alone answers."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from e2llm_core.claims.kind import Quantity
from e2llm_core.claims.table import CLAIM_KINDS
from e2llm_core.llm.attention import describe_attention
from e2llm_core.llm.families.table import family_of
from e2llm_core.llm.tokens import add_eeg_tokens, load_tokenizer
from e2llm_core.model import model_io
from e2llm_core.model.config import ProjectorConfig
from e2llm_core.model.modeling_e2llm import E2LLMForConditionalGeneration
from e2llm_core.model.processing_e2llm import E2LLMProcessor
from e2llm_core.model.projector import FittedReading, LinearReading, WordedProjector, WordIds, start_words
from e2llm_core.stages.config import LanguageTrainConfig
from e2llm_core.stages.data import EEGData
from e2llm_core.stages.language import (
    ClaimedWindows,
    LanguageStage,
    llm_options,
    prepare_llm,
    projector_tensors,
    save_composite,
    spare_tower,
)
from e2llm_core.stages.probe import load_probe, load_scaler
from e2llm_core.stages.samples import Sample
from e2llm_core.stages.stage2.reading import fitted_reading
from e2llm_core.tasks.notes import NOTE_OPENING, NOTE_SEPARATOR, ORDINALS
from e2llm_core.tasks.registry import READINGS
from e2llm_core.tower.tower import EEGTower
from e2llm_core.training.flops import CompositeFlops
from e2llm_core.training.stage import ParameterGroup


class Stage2(LanguageStage):
    """Alignment of the projector with a frozen tower and a frozen language model.

    Parameters
    ----------
    data : EEGData
        Store, windows and split.
    tower : Path
        Model directory of stage 1.
    llm : str
        Folder or hub id of a language model of a known family.
    projector : ProjectorConfig
        Settings of the projector.
    train : LanguageTrainConfig
        For precision, seed and balance.
    readings : tuple of str
        Forms of question to train, in equal shares.
    """

    name = "stage2"

    def __init__(
        self,
        data: EEGData,
        tower: Path,
        llm: str,
        projector: ProjectorConfig,
        train: LanguageTrainConfig,
        readings: tuple[str, ...] = tuple(READINGS),
    ) -> None:
        self._shares = [READINGS[name] for name in readings]
        self._llm, self._projector = llm, projector
        self._options = llm_options(train)
        self._tower, self._probe = load_probe(tower)
        super().__init__(data, load_scaler(tower, data.quantities), train, tower, readings)

    @property
    def repeats(self) -> int:
        """Shares of the forms; a form listed twice has two."""
        return len(self._shares)

    def build(self) -> tuple[nn.Module, list[ParameterGroup]]:
        """Compose tower, new projector and language model; only the projector is trained."""
        tokenizer = load_tokenizer(self._llm)
        ids = add_eeg_tokens(tokenizer)
        llm = model_io.load_llm(self._llm, rows=max(ids.values()) + 1, **self._options)
        self.choices = {"attention": describe_attention(llm, self._options["dtype"])}
        prepare_llm(llm, self.train)
        labels = list(self.data.labels)
        settings = self._projector.settings()
        words = word_ids(tokenizer, self.training.quantities, labels) if self._projector.kind == "worded" else None
        if words is not None:
            own = {"labels": len(labels), "opening": len(words.opening), "pieces": words.pieces}
            settings |= {"quantities": list(self.scaler.names), **own}
        model = E2LLMForConditionalGeneration.assemble(self._tower, llm, ids, labels, settings)
        if words is not None:
            projector = cast(WordedProjector, model.projector)
            start_words(projector, llm, words)
            projector.reading.start(self._fitted(model.tower))
            self.tell(model.tower, projector.reading)
        spare_tower(model, self.data)
        self.processor = E2LLMProcessor(
            tokenizer, model.config.num_eeg_tokens, self.data.settings, family_of(llm.config.model_type)
        )
        self.arithmetic = CompositeFlops(model)
        return model, [ParameterGroup("projector", list(model.projector.parameters()))]

    def reading(self) -> LinearReading | None:
        """Maps that are fitted now."""
        if self._projector.kind != "worded":
            return None
        return LinearReading.started(self._fitted(self._tower), self._projector.strongest)

    def _fitted(self, tower: EEGTower) -> FittedReading:
        """Fit what a worded projector reads with; stage 1's own label head says what is likely."""
        weight, bias = fitted_reading(tower, self.training, self.train.seed)
        if least := self.train.claims.reliability:
            unreliable = torch.from_numpy(~(self.scaler.reliability >= least))
            weight[unreliable], bias[unreliable] = 0, 0
        towards = torch.zeros(len(self.data.labels), len(bias))
        if self.towards is not None:
            towards = self.train.claims.relevance * torch.from_numpy(self.towards).float()
        head = self._probe.head
        return FittedReading(weight, bias, head["weight"], head["bias"], towards)

    def draw(self, source: ClaimedWindows, number: int, rng: np.random.Generator) -> Sample:
        """One question of a form about a window."""
        place, window = divmod(number, len(source))
        form = self._shares[place]
        windows = source.sampler(form)(window, rng)
        return Sample(form.dialogue(source, windows, rng), windows, self.tasks.index(form.name))

    def export(self, model: nn.Module, state: dict[str, Tensor], folder: Path) -> None:
        """Write the composite with the trained projector; the language model is referenced, not copied."""
        assert isinstance(model, E2LLMForConditionalGeneration)
        tensors = {"projector": projector_tensors(model, state)}
        save_composite(
            model,
            self.processor,
            folder,
            tower_from=self.start,
            llm=self._llm,
            tensors=tensors,
            sides=self.data.split.seen,
        )


def word_ids(tokenizer: Any, quantities: Sequence[Quantity], labels: Sequence[str]) -> WordIds:
    """Token ids of what notes say, as `e2llm_core.tasks.notes` writes them; names are filled up with separators."""

    def ids(text: str) -> list[int]:
        return list(tokenizer.encode(text, add_special_tokens=False))

    kinds = [CLAIM_KINDS[quantity.kind] for quantity in quantities]
    names = [ids(f" {kind.note_address(quantity)}") for kind, quantity in zip(kinds, quantities, strict=True)]
    longest, separator = max(map(len, names)), ids(NOTE_SEPARATOR)[:1]
    return WordIds(
        ids(NOTE_OPENING),
        [ids(f" {label}") for label in labels],
        [separator * (2 + longest - len(name)) + name for name in names],
        [1 + longest - len(name) for name in names],
        [ids(f" {ordinal}") for ordinal in ORDINALS],
        [(ids(f" {above}"), ids(f" {below}")) for above, below in (kind.note_words for kind in kinds)],
    )
