"""Temperatures fitted on the validation side at the end of stage 3; the trained model scores items on all ranks."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import nn

from e2llm_core.llm.packing import TokenSample, pack, packed_row, sample_of_token
from e2llm_core.model.calibration import TaskTemperature, fit_temperature
from e2llm_core.model.modeling_e2llm import placeholder_places
from e2llm_core.model.processing_e2llm import E2LLMProcessor
from e2llm_core.stages.config import LanguageTrainConfig
from e2llm_core.stages.language import ClaimedWindows
from e2llm_core.tasks.items import Items
from e2llm_core.tasks.question import Question
from e2llm_core.tasks.task import Task
from e2llm_core.training.stage import Batch
from e2llm_core.training.world import World

ITEMS = 128
"""Largest number of validation items per task that a temperature is fitted on."""


@dataclass(frozen=True)
class OptionScorer:
    """Scores every option of a question as the immediate answer, like `Predictor.likelihood`, but in packed rows.

    Parameters
    ----------
    source : ClaimedWindows
        Windows of one side.
    processor : E2LLMProcessor
        Tokenises questions and options.
    question : Question
        Question asked about every item.
    train : LanguageTrainConfig
        Training settings, whose `micro_tokens` and `micro_batch` limit a forward pass.
    listed : tuple of str
        Each item's own part of the question; empty if all are asked the same.
    """

    source: ClaimedWindows
    processor: E2LLMProcessor
    question: Question
    train: LanguageTrainConfig
    listed: tuple[str, ...] = ()

    @cached_property
    def _tokens(self) -> list[list[TokenSample]]:
        """Each item's question, or the one of all, followed by each option; only the option's tokens have weight."""
        return [[self._sample(text, option) for option in self.question.options] for text in self.listed or ("",)]

    def _sample(self, listed: str, option: str) -> TokenSample:
        prompt, target = self.processor.tokenize(self.question.messages(listed), option, None)
        weights = np.repeat([0, 1], [len(prompt), len(target)]).astype(np.float32)
        return TokenSample(np.array(prompt + target), weights)

    def _samples(self, pairs: np.ndarray) -> list[TokenSample]:
        items, options = np.divmod(pairs, len(self.question.options))
        rows = (self._tokens[item if self.listed else 0] for item in items)
        return [row[option] for row, option in zip(rows, options, strict=True)]

    def nll(self, model: nn.Module, windows: np.ndarray, world: World) -> np.ndarray:
        """Negative log-likelihood of each option in nats. A collective call.

        Parameters
        ----------
        model : nn.Module
            Model in evaluation mode.
        windows : np.ndarray
            int64 (items, segments): the windows that each item shows.
        world : World
            Rank and number of ranks; each rank scores every `size`-th pair of item and option.

        Returns
        -------
        np.ndarray
            float64 (items, options), the same on every rank.
        """
        found = np.zeros(len(windows) * len(self.question.options))
        mine = np.arange(world.rank, len(found), world.size)
        lengths = [len(sample) for sample in self._samples(mine)]
        rows = pack(lengths, self.train.micro_tokens, self.train.micro_batch, 1)[0] if len(mine) else []
        passes = max(world.exchange(len(rows)))
        for row in [*rows, *[[]] * (passes - len(rows))]:
            pairs = mine[row] if row else np.zeros(1, dtype=np.int64)
            scored = self._score(model, windows, pairs, world)
            if row:
                found[pairs] = scored
        return np.array(world.sum(found)).reshape(len(windows), -1)

    def _score(self, model: nn.Module, windows: np.ndarray, pairs: np.ndarray, world: World) -> np.ndarray:
        """Score one packed row, (pairs,); pair n is item n // options with option n % options."""
        samples = self._samples(pairs)
        shown = windows[pairs // len(self.question.options)].ravel()
        tensors: dict[str, Any] = packed_row(samples)
        tensors.pop("tasks")
        key = self.source.segments.key
        tensors[key] = torch.from_numpy(self.source.segments.read(shown))
        ids, each = self.processor.eeg_ids["eeg_token_id"], self.processor.num_eeg_tokens
        tensors["eeg_places"] = placeholder_places(tensors["input_ids"], ids, len(shown), each)
        given = Batch(tensors, 0).to(world.device).tensors
        nll = model(**given).token_nll.double()
        number = sample_of_token(given["cu_seq_lens_q"], given["supervised"])
        summed = torch.zeros(len(samples), dtype=torch.float64, device=nll.device).index_add(0, number, nll)
        scores: np.ndarray = summed.cpu().numpy()
        return scores


def chosen_items(task: Task, source: ClaimedWindows, seed: int) -> Items:
    """Draw at most `ITEMS` of a task's items of one side, by seed."""
    items = task.items(source.windows, ITEMS, seed)
    if len(items.windows) <= ITEMS:
        return items
    chosen = np.sort(np.random.default_rng([seed, len(items.windows)]).permutation(len(items.windows))[:ITEMS])
    return items.taken(chosen)


def fitted(task: Task, options: Sequence[str], nll: np.ndarray, items: Items, split_digest: str) -> TaskTemperature:
    """Fit a task's temperature to the options' negative log-likelihoods in nats, (items, options)."""
    place = {option: number for number, option in enumerate(options)}
    truth = np.array([place[label] for label in items.table["label"]])
    temperature, before, after = fit_temperature(nll, truth)
    names = "\n".join(items.table["item_id"])
    return TaskTemperature(
        task=task.name,
        options=tuple(options),
        temperature=temperature,
        n=len(items.windows),
        nll_before=before,
        nll_after=after,
        split_digest=split_digest,
        windows_digest=hashlib.sha256(names.encode()).hexdigest(),
    )


def said(found: TaskTemperature) -> str:
    """Log line about a fitted temperature."""
    change = f"nll {found.nll_before:.3f} to {found.nll_after:.3f}"
    return f"{found.task}: temperature {found.temperature:.3f} ({change} on {found.n} validation items)"
