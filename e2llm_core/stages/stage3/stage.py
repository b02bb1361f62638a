"""Stage 3, instruction tuning with chain of thought: projector and LoRA (or the whole language model) train."""

from pathlib import Path

import numpy as np
from safetensors.torch import load_file
from torch import Tensor, nn

from e2llm_core.llm.attention import describe_attention
from e2llm_core.model.calibration import Calibration
from e2llm_core.model.configuration_e2llm import E2LLMConfig
from e2llm_core.model.model_io import PROJECTOR_WEIGHTS, llm_place
from e2llm_core.model.modeling_e2llm import E2LLMForConditionalGeneration
from e2llm_core.model.processing_e2llm import E2LLMProcessor
from e2llm_core.model.projector import READING, FittedReading, LinearReading, WordedProjector
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
    strip_prefix,
)
from e2llm_core.stages.probe import load_scaler
from e2llm_core.stages.samples import Sample
from e2llm_core.stages.stage3.calibrating import OptionScorer, chosen_items, fitted, said
from e2llm_core.stages.stage3.plan import LoraSettings
from e2llm_core.tasks.registry import trained_named
from e2llm_core.training.flops import CompositeFlops
from e2llm_core.training.stage import ParameterGroup
from e2llm_core.training.world import World
from storage.places.fetching import fetched


class Stage3(LanguageStage):
    """Instruction tuning on the tasks' dialogues, half of them with a chain of thought.

    Parameters
    ----------
    data : EEGData
        Store, windows and split.
    model : str or Path
        Model directory of stage 2, or its URL.
    lora : LoraSettings or None
        Adapters; None trains the whole language model.
    tasks : tuple of str
        Tasks to train, in equal shares.
    train : LanguageTrainConfig
        For precision, seed and balance.
    """

    name = "stage3"

    def __init__(
        self,
        data: EEGData,
        model: str | Path,
        lora: LoraSettings | None,
        tasks: tuple[str, ...],
        train: LanguageTrainConfig,
    ) -> None:
        self._model, folder = model, fetched(model)
        self._lora, self._shares = lora, trained_named(tasks)
        self.calibration: Calibration | None = None
        self._options = llm_options(train)
        super().__init__(data, load_scaler(folder, data.quantities), train, folder, tasks)
        self.processor = E2LLMProcessor.from_pretrained(self.start)
        for task in self._shares:
            self.training.sampler(task)

    @property
    def repeats(self) -> int:
        """Shares of the tasks; a task listed twice has two."""
        return len(self._shares)

    def build(self) -> tuple[nn.Module, list[ParameterGroup]]:
        """Load stage 2's model and add adapters."""
        model = E2LLMForConditionalGeneration.from_pretrained(self._model, **self._options)
        self.choices = {"attention": describe_attention(model.llm, self._options["dtype"])}
        prepare_llm(model.llm, self.train)
        self.arithmetic = CompositeFlops(model)
        if isinstance(model.projector, WordedProjector):
            self.tell(model.tower, model.projector.reading)
        spare_tower(model, self.data)
        projector = ParameterGroup("projector", list(model.projector.parameters()))
        if self._lora is None:
            model.projector.to(model.llm.dtype)  # ZeRO-3 partitions trained parameters of one dtype only
            return model, [projector, ParameterGroup("llm", list(model.llm.parameters()))]
        from peft import LoraConfig, get_peft_model

        settings = LoraConfig(
            r=self._lora.r,
            lora_alpha=self._lora.alpha,
            target_modules=list(self._lora.target_modules),
            task_type="CAUSAL_LM",
        )
        model.llm = get_peft_model(model.llm, settings)
        adapters = [value for name, value in model.llm.named_parameters() if "lora_" in name]
        return model, [projector, ParameterGroup("lora", adapters)]

    def reading(self) -> LinearReading | None:
        """The maps of the model that it starts from."""
        settings = E2LLMConfig.from_pretrained(self.start).projector or {}
        if settings.get("kind") != "worded":
            return None
        maps = strip_prefix(load_file(self.start / PROJECTOR_WEIGHTS), READING)
        return LinearReading.started(FittedReading(**maps), settings["strongest"])

    def windows_with_claims(self, ids: np.ndarray) -> np.ndarray:
        """Windows of the tasks whose chain of thought makes claims."""
        asked = np.array([task.speaks_of_claims for task in self._shares])
        return ids[asked[ids // len(self.training)]] % len(self.training)

    def draw(self, source: ClaimedWindows, number: int, rng: np.random.Generator) -> Sample:
        """One dialogue of a task for a window."""
        place, window = divmod(number, len(source))
        task = self._shares[place]
        windows = source.sampler(task)(window, rng)
        return Sample(task.dialogue(source, windows, rng), windows, self.tasks.index(task.name))

    def calibrate(self, model: nn.Module, world: World) -> None:
        """Fit a temperature to each task's option probabilities on the validation side, where the split has one."""
        if not self.data.split.validation:
            return
        found = []
        for task in dict.fromkeys(self._shares):
            items, question = chosen_items(task, self.validation, self.train.seed), task.question(self.data.labels)
            nll = OptionScorer(self.validation, self.processor, question, self.train, items.listed).nll(
                model, items.windows, world
            )
            found.append(fitted(task, question.options, nll, items, self.data.split.digest))
            if world.is_first:
                print(f"[{self.name}] {said(found[-1])}", flush=True)
        self.calibration = Calibration(temperatures=tuple(found))

    def export(self, model: nn.Module, state: dict[str, Tensor], folder: Path) -> None:
        """Write the composite: projector and adapter with a reference to the language model, or all of it."""
        assert isinstance(model, E2LLMForConditionalGeneration)
        tensors = {"projector": projector_tensors(model, state)}
        if self._lora is None:
            tensors["llm"] = strip_prefix(state, "llm.")
        else:
            tensors["adapter"] = adapter_tensors(strip_prefix(state, "llm."))
        llm = self._llm_of_stage2()
        save_composite(
            model,
            self.processor,
            folder,
            tower_from=self.start,
            llm=llm,
            tensors=tensors,
            sides=self.data.split.seen,
        )
        if self.calibration is not None:
            self.calibration.write(folder)

    def _llm_of_stage2(self) -> str:
        """Folder, URL or hub id, read again: the model in memory names it relative to where it was last written."""
        return llm_place(self._model, E2LLMConfig.from_pretrained(self.start).llm_source)


def adapter_tensors(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Gathered LoRA parameters under the names that PEFT gives them on disk."""
    return {name.replace(".default.", "."): value for name, value in state.items()}
