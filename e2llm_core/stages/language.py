"""Stages 2 and 3: what they share, which is dialogues about segments and a next-token loss on the answers."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from e2llm_core.language.claims import Claim, strongest
from e2llm_core.language.dialogues import CLAIMS_PER_RATIONALE, Dialogue
from e2llm_core.language.measures import Reference
from e2llm_core.modeling_e2llm import E2LLMForConditionalGeneration
from e2llm_core.processing_e2llm import E2LLMProcessor
from e2llm_core.stages.data import EEGData, ranks_share, read_augmented
from e2llm_core.stages.measured import MeasuredWindows
from e2llm_core.stages.probe import copy_probe
from e2llm_core.tower import TOWER_WEIGHTS
from e2llm_core.training.config import TrainConfig
from e2llm_core.training.sharding import MicroBatch
from e2llm_core.training.stage import Batch, Losses, Stage
from e2llm_core.training.world import World
from storage.sampling.order import Order
from storage.sampling.strata import Balance, training_order
from storage.splits import Side

_READ = 64
_VALIDATION_SAMPLES = 128


@dataclass(frozen=True)
class Sample:
    """A dialogue and the windows (by number) that it shows."""

    dialogue: Dialogue
    windows: tuple[int, ...]


class DescribedWindows:
    """Windows of one side of the split with their labels, and the claims that hold for each."""

    def __init__(self, data: EEGData, side: Side, reference: Reference) -> None:
        self.windows = data.windows(side)
        self._reference = reference
        self._measured = MeasuredWindows(data.measured(side))
        self._labels = self.windows.trials["label"].to_numpy()

    def __len__(self) -> int:
        return len(self.windows)

    def label(self, window: int) -> str:
        """Label of a window."""
        return str(self._labels[self.windows.locate([window])[0][0]])

    def deviations(self, windows: Sequence[int] | np.ndarray) -> np.ndarray:
        """Standardised signal measures (windows, quantities); many at a time cost less than one by one."""
        return self._reference.standardise(self._measured(np.asarray(windows)))

    def claims(self, window: int) -> list[Claim]:
        """The strongest claims that hold for a window."""
        return strongest(self._measured.measures.quantities, self.deviations([window])[0], CLAIMS_PER_RATIONALE)


class LanguageStage(Stage):
    """A stage of the composite model: the tower is frozen, answers are supervised.

    Parameters
    ----------
    data : EEGData
        Store, windows and split. All training subjects are seen, also those that stage 1 did not fit.
    reference : Reference
        Stage 1's reference of the signal measures.
    seed : int
        Of the dialogues and the augmentations.
    balance : str
        What is drawn equally often.
    """

    processor: E2LLMProcessor

    def __init__(self, data: EEGData, reference: Reference, seed: int, balance: Balance) -> None:
        self.data, self.reference, self.seed, self.balance = data, reference, seed, balance
        self.training = DescribedWindows(data, data.split.train, reference)

    @cached_property
    def validation(self) -> DescribedWindows:
        """Windows of the validation side (of the training side where the split has none)."""
        return DescribedWindows(self.data, self.data.split.validation or self.data.split.train, self.reference)

    @property
    def repeats(self) -> int:
        """Samples per window: sample ``r * len(training) + window`` is repeat r of a window."""
        return 1

    def order(self, seed: int) -> Order:
        """Every sample once per epoch, or balanced."""
        windows = self.training.windows
        return training_order(self.balance, windows.trials, np.diff(windows.ends, prepend=0), seed, self.repeats)

    def described(self, ids: np.ndarray) -> np.ndarray:
        """Windows of some samples whose claims will be asked for: they are read together."""
        return ids % len(self.training)

    @abstractmethod
    def draw(self, source: DescribedWindows, number: int, rng: np.random.Generator) -> Sample:
        """Sample `number` of an epoch over `source`."""

    def prepare(self, micro: MicroBatch) -> Batch:
        """Draw dialogues, read and augment their segments, tokenise."""
        if len(described := self.described(micro.ids)):
            self.training.deviations(described)
        rngs = [np.random.default_rng([self.seed, int(position)]) for position in micro.positions]
        samples = [self.draw(self.training, int(n), rng) for n, rng in zip(micro.ids, rngs, strict=True)]
        seeds = [
            [self.seed, int(position), place]
            for position, sample in zip(micro.positions, samples, strict=True)
            for place in range(len(sample.windows))
        ]
        tensors = self.assemble(self.training, samples, seeds)
        tensors["weights"] = torch.from_numpy(micro.weights)
        supervised = (tensors["labels"] != -100).sum(dim=1).numpy()
        return Batch(tensors, float((supervised * micro.weights).sum()))

    def assemble(
        self, source: DescribedWindows, samples: Sequence[Sample], seeds: Sequence[Sequence[int]] | None
    ) -> dict[str, Any]:
        """Model inputs of some samples."""
        ids = np.array([window for sample in samples for window in sample.windows])
        eeg, _ = read_augmented(source.windows, source.windows, ids, seeds)
        segments = torch.from_numpy(eeg).split([len(sample.windows) for sample in samples])
        dialogues = [sample.dialogue for sample in samples]
        prompts = [self.processor.build_prompt(d.messages(), d.thinking is not None) for d in dialogues]
        targets = [self.processor.build_target(d.answer, d.thinking, d.thinking is None) for d in dialogues]
        return self.processor(prompts, targets, list(segments))

    def losses(self, model: nn.Module, batch: Batch) -> Losses:
        """Negative log-likelihood summed over supervised tokens."""
        given = dict(batch.tensors)
        weights = given.pop("weights")
        rows = model(**given, loss_per_row=True).loss
        total = (rows * weights).sum()
        return Losses(total, {"nll": total})

    def validate(self, model: nn.Module, world: World) -> dict[str, float]:
        """Next-token loss on a fixed set of the validation subjects' dialogues; `score` is its negative."""
        source = self.validation
        number = min(_VALIDATION_SAMPLES, len(source))
        places = np.linspace(0, len(source) - 1, number).astype(int)
        samples = [self.draw(source, int(p), np.random.default_rng([self.seed, 1, int(p)])) for p in places]
        nll, units = np.zeros(number), np.zeros(number)
        for ids, own in ranks_share(number, _READ, world):
            tensors = self.assemble(source, [samples[place] for place in ids], None)
            moved = {name: value.to(world.device) for name, value in tensors.items()}
            mine = ids[:own]
            nll[mine] = model(**moved, loss_per_row=True).loss[:own].float().cpu().numpy()
            units[mine] = (tensors["labels"] != -100).sum(dim=1)[:own].numpy()
        total, count = np.array(world.sum([*nll, *units])).reshape(2, number).sum(axis=1)
        return {"nll": total / count, "score": -total / count}


def part(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Tensors below `prefix`, without it."""
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}


def save_composite(
    model: E2LLMForConditionalGeneration,
    processor: E2LLMProcessor,
    folder: Path,
    *,
    tower_from: Path,
    llm: str,
    tensors: dict[str, dict[str, Tensor]],
    sides: Sequence[Side],
) -> None:
    """Write a model directory: gathered tensors, the frozen tower, the language model or a reference to it."""
    whole = tensors | {"tower": load_file(tower_from / TOWER_WEIGHTS)}
    model.save_pretrained(folder, save_llm="llm" in tensors, llm_name=llm, tensors=whole)
    processor.save_pretrained(folder)
    copy_probe(tower_from, folder, sides)


def save_memory(llm: Any, train: TrainConfig) -> None:
    """Recompute the language model's activations in the backward pass, if the spec asks for it."""
    if train.activation_checkpointing:
        llm.activation_checkpointing_enable({"use_reentrant": False})
