"""The `tiny-llm` job: a small language model and its tokenizer, trained from scratch on the project's own corpus."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from e2llm_core.llm.families.table import STAND_IN, family_of
from e2llm_core.llm.packed_attention import attend_packed
from e2llm_core.llm.packing import TokenSample, pack, packed_row
from e2llm_core.llm.supervision import SupervisedHead, score_tokens
from e2llm_core.llm.tiny_llm import tiny_llm, train_tokenizer
from e2llm_core.model.processing_e2llm import E2LLMProcessor
from e2llm_core.stages.tiny_llm.card import write_card
from e2llm_core.stages.tiny_llm.plan import TinyLLMConfig
from e2llm_core.tasks.corpus.dialogues import corpus_dialogue
from e2llm_core.tasks.dialogue import Dialogue
from e2llm_core.tower.tower import EEGSettings
from e2llm_core.training.config import TrainConfig
from e2llm_core.training.sharding import MicroBatch
from e2llm_core.training.stage import Batch, Losses, LossTerm, ParameterGroup, Stage
from e2llm_core.training.world import World

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}

_TOKENIZER_TEXTS = 2000
_VALIDATION_TEXTS = 64


class ScoredText(nn.Module):
    """A language model that returns its loss on packed rows."""

    def __init__(self, llm: Any) -> None:
        super().__init__()
        SupervisedHead.install(llm)
        attend_packed(llm)
        self.llm = llm

    def forward(self, labels: Tensor, weights: Tensor, tasks: Tensor, **inputs: Any) -> Tensor:
        """Weighted sum of the negative log-likelihoods."""
        return score_tokens(self.llm, labels, weights, **inputs)[0]


class TextPretraining(Stage):
    """Next-token prediction on the corpus, over prompts and answers alike.

    Parameters
    ----------
    config : TinyLLMConfig
        Sizes.
    labels : sequence of str or None
        The only class names that the corpus speaks of; None for sets of many kinds.
    seed : int
        Random seed of the corpus.
    """

    name = "tiny-llm"

    def __init__(self, config: TinyLLMConfig, labels: Sequence[str] | None, seed: int) -> None:
        self._config, self._labels, self._seed = config, labels, seed
        self.texts = [self._plain(number) for number in range(_TOKENIZER_TEXTS)]
        self.tokenizer = train_tokenizer(self.texts, config.vocab_size)
        settings = EEGSettings(channels=("CZ",))
        self._processor = E2LLMProcessor(self.tokenizer, 1, settings, family_of(STAND_IN))

    @property
    def size(self) -> int:
        """Dialogues of the corpus."""
        return self._config.corpus_size

    def build(self) -> tuple[nn.Module, list[ParameterGroup]]:
        """A new language model, trained in full."""
        config = self._config
        llm = tiny_llm(
            config.vocab_size,
            config.hidden_size,
            config.layers,
            config.heads,
            config.kv_heads,
            config.intermediate,
            tokenizer=self.tokenizer,
        )
        return ScoredText(llm), [ParameterGroup("llm", list(llm.parameters()))]

    def batches(self, ids: np.ndarray, first_position: int, config: TrainConfig, world: World) -> list[Batch]:
        """Rows packed from the whole global batch and distributed to the ranks."""
        samples = self._samples(ids)
        lengths = [len(sample) for sample in samples]
        filler = [samples[int(np.argmin(lengths))].without_weight()]
        rows = pack(lengths, config.micro_tokens, config.micro_batch, world.size)[world.rank]
        return [_batch([samples[place] for place in row] or filler) for row in rows]

    def prepare(self, micro: MicroBatch) -> Batch:
        """The dialogues as one packed row."""
        pairs = zip(self._samples(micro.ids), micro.weights, strict=True)
        return _batch([sample if weight else sample.without_weight() for sample, weight in pairs])

    def losses(self, model: nn.Module, batch: Batch) -> Losses:
        """Negative log-likelihood summed over weighted tokens."""
        total = model(**batch.tensors)
        return Losses(total, {"nll": LossTerm(total, batch.num_targets)})

    def validate(self, model: nn.Module, world: World) -> dict[str, float]:
        """Next-token loss on dialogues beyond the corpus; the same on every rank."""
        first = self._config.corpus_size
        batch = _batch(self._samples(np.arange(first, first + _VALIDATION_TEXTS)))
        mean = float(model(**batch.to(world.device).tensors)) / batch.num_targets
        return {"nll": mean, "score": -mean}

    def export(self, model: nn.Module, state: dict[str, Tensor], folder: Path) -> None:
        """Write a plain folder that transformers loads, with a model card."""
        assert isinstance(model, ScoredText)
        dtype = _DTYPES[self._config.exported]
        plain = {name.removeprefix("llm."): value.to(dtype) for name, value in state.items()}
        model.llm.config.dtype = dtype
        model.llm.save_pretrained(folder, state_dict=plain)
        self.tokenizer.save_pretrained(str(folder))
        parameters = sum(parameter.numel() for parameter in model.parameters())
        write_card(folder, self._config, self._labels, self._seed, self.texts, parameters)

    def _dialogue(self, number: int) -> Dialogue:
        return corpus_dialogue(number, self._labels, self._seed, self._config.corpus)

    def _plain(self, number: int) -> str:
        dialogue = self._dialogue(number)
        return f"{dialogue.user}\n{dialogue.thinking or ''}\n{dialogue.answer}"

    def _samples(self, numbers: np.ndarray) -> list[TokenSample]:
        """Dialogues in which every token but the first is supervised, prompts at their own weight."""
        samples = []
        for number in numbers.tolist():
            dialogue = self._dialogue(number)
            prompt, target = self._processor.tokenize(dialogue.messages(), dialogue.answer, dialogue.thinking)
            weights = np.repeat([self._config.prompt_weight, 1], [len(prompt), len(target)]).astype(np.float32)
            weights[0] = 0
            samples.append(TokenSample(np.array(prompt + target), weights))
        return samples


def _batch(samples: Sequence[TokenSample]) -> Batch:
    counted = [sample for sample in samples if sample.num_targets]
    num_targets = sum(sample.num_targets for sample in counted)
    return Batch(packed_row(samples), num_targets, len(counted), sum(len(sample) for sample in counted))
