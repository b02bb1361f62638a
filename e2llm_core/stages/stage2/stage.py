"""Stage 2, cross-modal alignment: only the projector trains, on questions that the EEG alone answers."""

from pathlib import Path
from typing import cast

import numpy as np
from torch import Tensor, nn

from e2llm_core.llm.attention import describe_attention
from e2llm_core.llm.families.table import family_of
from e2llm_core.llm.tokens import add_eeg_tokens, load_tokenizer
from e2llm_core.model import model_io
from e2llm_core.model.config import ProjectorConfig
from e2llm_core.model.modeling_e2llm import E2LLMForConditionalGeneration
from e2llm_core.model.processing_e2llm import E2LLMProcessor
from e2llm_core.model.projector import AddressedProjector, start_addresses
from e2llm_core.stages.config import LanguageTrainConfig
from e2llm_core.stages.data import EEGData
from e2llm_core.stages.language import (
    ClaimedWindows,
    LanguageStage,
    Sample,
    llm_options,
    prepare_llm,
    save_composite,
    spare_tower,
    strip_prefix,
)
from e2llm_core.stages.probe import load_probe, load_scaler
from e2llm_core.tasks.facts import words_of
from e2llm_core.tasks.registry import DEFAULT_READINGS, READINGS
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
        readings: tuple[str, ...] = DEFAULT_READINGS,
    ) -> None:
        self._shares, self.tasks = [READINGS[name] for name in readings], tuple(dict.fromkeys(readings))
        self.reads = projector.kind == "addressed"
        self._tower_folder, self._llm, self._projector = tower, llm, projector
        self._options = llm_options(train)
        self._tower, _ = load_probe(tower)
        super().__init__(data, load_scaler(tower, data.quantities), train)

    @property
    def size(self) -> int:
        """One question of every form per window."""
        return len(self.training) * self.repeats

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
        if self.reads:
            settings["quantities"] = list(self.scaler.names)
        model = E2LLMForConditionalGeneration.assemble(self._tower, llm, ids, labels, settings)
        if self.reads:
            texts = [f" {words_of(quantity)}" for quantity in self.training.quantities]
            words = [tokenizer.encode(text, add_special_tokens=False) for text in texts]
            start_addresses(cast(AddressedProjector, model.projector), llm, words)
        spare_tower(model, self.data)
        self.processor = E2LLMProcessor(
            tokenizer, model.config.num_eeg_tokens, self.data.settings, family_of(llm.config.model_type)
        )
        self.arithmetic = CompositeFlops(model)
        return model, [ParameterGroup("projector", list(model.projector.parameters()))]

    def draw(self, source: ClaimedWindows, number: int, rng: np.random.Generator) -> Sample:
        """One question of a form about a window."""
        place, window = divmod(number, len(source))
        form = self._shares[place]
        windows = source.sampler(form)(window, rng)
        return Sample(form.dialogue(source, windows, rng), windows, self.tasks.index(form.name))

    def export(self, model: nn.Module, state: dict[str, Tensor], folder: Path) -> None:
        """Write the composite with the trained projector; the language model is referenced, not copied."""
        assert isinstance(model, E2LLMForConditionalGeneration)
        tensors = {"projector": strip_prefix(state, "projector.")}
        save_composite(
            model,
            self.processor,
            folder,
            tower_from=self._tower_folder,
            llm=self._llm,
            tensors=tensors,
            sides=self.data.split.seen,
        )
