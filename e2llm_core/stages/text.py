"""The `tiny-llm` job: a small Qwen3 and its tokenizer, trained from scratch on the project's own corpus."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from e2llm_core.language.corpus import corpus_dialogue
from e2llm_core.processing_e2llm import E2LLMProcessor
from e2llm_core.stages.config import TinyLLMConfig
from e2llm_core.supervision import IGNORED, supervised_positions, token_nll
from e2llm_core.tiny_llm import tiny_qwen3, train_tokenizer
from e2llm_core.tower import EEGSettings
from e2llm_core.training.sharding import MicroBatch
from e2llm_core.training.stage import Batch, Losses, ParameterGroup, Stage
from e2llm_core.training.world import World

_TOKENIZER_TEXTS = 2000
_VALIDATION_TEXTS = 64


class TextPretraining(Stage):
    """Next-token prediction on the corpus, over prompts and answers alike.

    Parameters
    ----------
    config : TinyLLMConfig
        Sizes.
    labels : sequence of str
        Class names that the corpus speaks of.
    seed : int
        Of the corpus.
    """

    name = "tiny-llm"

    def __init__(self, config: TinyLLMConfig, labels: Sequence[str], seed: int) -> None:
        self._config, self._labels, self._seed = config, tuple(labels), seed
        plain = [self._plain(number) for number in range(_TOKENIZER_TEXTS)]
        self.tokenizer = train_tokenizer(plain, config.vocab_size)
        settings = EEGSettings(channels=("CZ",))
        self._processor = E2LLMProcessor(self.tokenizer, 1, settings)

    @property
    def size(self) -> int:
        """Dialogues of the corpus."""
        return self._config.corpus_size

    def build(self) -> tuple[nn.Module, list[ParameterGroup]]:
        """A new Qwen3; all of it trains."""
        config = self._config
        llm = tiny_qwen3(
            config.vocab_size,
            config.hidden_size,
            config.layers,
            config.heads,
            config.kv_heads,
            config.intermediate,
            tokenizer=self.tokenizer,
        )
        return llm, [ParameterGroup("llm", list(llm.parameters()))]

    def prepare(self, micro: MicroBatch) -> Batch:
        """Tokenise dialogues; every token but the first is supervised, prompts at their own weight."""
        tensors = self._tokens([int(number) for number in micro.ids])
        tensors["weights"] = tensors["weights"] * torch.from_numpy(micro.weights)[:, None]
        return Batch(tensors, float(tensors["weights"][:, 1:].sum()))

    def losses(self, model: nn.Module, batch: Batch) -> Losses:
        """Negative log-likelihood summed over weighted tokens."""
        nll, weights = self._token_nll(model, batch.tensors)
        total = (nll * weights).sum()
        return Losses(total, {"nll": total})

    def validate(self, model: nn.Module, world: World) -> dict[str, float]:
        """Next-token loss on dialogues beyond the corpus; the same on every rank."""
        first = self._config.corpus_size
        tensors = self._tokens(list(range(first, first + _VALIDATION_TEXTS)))
        moved = {name: value.to(world.device) for name, value in tensors.items()}
        nll, weights = self._token_nll(model, moved)
        mean = float((nll * weights).sum() / weights.sum())
        return {"nll": mean, "score": -mean}

    def hand_on(self, model: nn.Module, state: dict[str, Tensor], folder: Path) -> None:
        """Write a plain Qwen3 folder that transformers loads."""
        model.save_pretrained(folder, state_dict=state)  # type: ignore[operator]
        self.tokenizer.save_pretrained(str(folder))

    def _plain(self, number: int) -> str:
        dialogue = corpus_dialogue(number, self._labels, self._seed)
        return f"{dialogue.user}\n{dialogue.thinking or ''}\n{dialogue.answer}"

    def _tokens(self, numbers: Sequence[int]) -> dict[str, Tensor]:
        drawn = [corpus_dialogue(number, self._labels, self._seed) for number in numbers]
        prompts = [self._processor.build_prompt(d.messages(), d.thinking is not None) for d in drawn]
        targets = [self._processor.build_target(d.answer, d.thinking, d.thinking is None) for d in drawn]
        tensors = self._processor(prompts, targets)
        present = tensors["attention_mask"] == 1
        answers = tensors["labels"] != IGNORED
        tensors["weights"] = torch.where(answers, 1.0, self._config.prompt_weight) * present
        tensors["labels"] = tensors["input_ids"].masked_fill(~present, IGNORED)
        return tensors

    def _token_nll(self, model: nn.Module, tensors: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Negative log-likelihood and weight of every supervised token."""
        labels = tensors["labels"]
        output = model(
            input_ids=tensors["input_ids"],
            attention_mask=tensors["attention_mask"],
            logits_to_keep=supervised_positions(labels),
            use_cache=False,
        )
        return token_nll(output.logits, labels), tensors["weights"][:, 1:][labels[:, 1:] != IGNORED]
