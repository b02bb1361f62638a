"""Questions in, answers out: one predictor behind Ray Serve, Ray Data and the single-file command."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from transformers import Cache

from e2llm_core.llm.supervision import IGNORED
from e2llm_core.model.calibration import read_calibration, tempered
from e2llm_core.model.model_io import local_folder
from e2llm_core.model.modeling_e2llm import E2LLMForConditionalGeneration
from e2llm_core.model.processing_e2llm import E2LLMProcessor
from e2llm_core.tasks.question import Question
from e2llm_core.training.world import World

MAX_NEW_TOKENS = 192


@dataclass(frozen=True)
class Generated:
    """A generated answer: the whole text, and the option it ends in, None when it ends in none (invalid)."""

    text: str
    answer: str | None


class Predictor:
    """A trained model that answers questions about EEG segments.

    Parameters
    ----------
    model : str or Path
        Model directory of stage 2 or 3, or its URL.
    batch : int
        Questions per forward pass.
    """

    def __init__(self, model: str | Path, batch: int = 64) -> None:
        self.model = E2LLMForConditionalGeneration.from_pretrained(model)
        self.processor = E2LLMProcessor.from_pretrained(model)
        self.calibration = read_calibration(local_folder(str(model), None))
        self.batch = batch
        self.device = World().device
        torch.nn.Module.to(self.model, self.device)
        self.model.eval()

    @property
    def labels(self) -> tuple[str, ...]:
        """Class names of the model."""
        return tuple(self.model.config.labels)

    def likelihood(self, question: Question, segments: np.ndarray, listed: Sequence[str] = ()) -> np.ndarray:
        """Probability of each option as the immediate answer, normalised over the options.

        At the temperature that was fitted for the question's task; at 1 where the model was not calibrated.

        Parameters
        ----------
        question : Question
            Asked about every item.
        segments : np.ndarray
            float32 (items, num_segments, n_chans, n_times).
        listed : sequence of str
            Each item's own part of the question, where it has one.

        Returns
        -------
        np.ndarray
            float64 (items, options).
        """
        temperature = self.calibration.temperature(question.task, question.options)
        return tempered(self.option_nll(question, segments, listed), 1.0 if temperature is None else temperature)

    @torch.no_grad()
    def option_nll(self, question: Question, segments: np.ndarray, listed: Sequence[str] = ()) -> np.ndarray:
        """Negative log-likelihood of each option as the immediate answer, float32 (items, options), in nats.

        Arguments as in `likelihood`. Items whose prompts have equally many tokens are read together, without padding.
        """
        prompts = self._prompts(question, listed, len(segments), enable_thinking=False)
        texts = [self.processor.build_target(option, None, True) for option in question.options]
        targets = [self._ids(text) for text in texts]
        found = np.empty((len(segments), len(targets)), dtype=np.float32)
        lengths = {prompt: len(self._ids(prompt)) for prompt in dict.fromkeys(prompts)}
        for items in self._alike([lengths[prompt] for prompt in prompts]):
            part = segments[items]
            inputs = self.processor([prompts[item] for item in items], segments=list(torch.from_numpy(part)))
            read = self.model(
                inputs["input_ids"].to(self.device),
                eeg_features=self._features(part),
                use_cache=True,
                logits_to_keep=1,
            )
            nll = [self._following_nll([ids] * len(part), read.logits, read.past_key_values) for ids in targets]
            found[items] = torch.stack(nll, dim=1).cpu().numpy()
        return found

    @torch.no_grad()
    def forced_nll(
        self,
        question: Question,
        segments: np.ndarray,
        prefixes: Sequence[str],
        continuations: Sequence[Sequence[str]],
        listed: Sequence[str] = (),
    ) -> np.ndarray:
        """Negative log-likelihood of continuations of an answer that has already begun, in nats.

        Items that have equally many tokens before the continuations are read together, without padding. If the
        tokenizer merges the end of a prefix with a continuation, scoring starts at that token, for all continuations
        of the item.

        Parameters
        ----------
        question : Question
            Asked about every item.
        segments : np.ndarray
            float32 (items, num_segments, n_chans, n_times).
        prefixes : sequence of str
            Beginning of each item's answer, with its rationale as the model's family writes it; may be empty.
        continuations : sequence of sequence of str
            Texts to score after each prefix, not empty, and equally many for every item.
        listed : sequence of str
            Each item's own part of the question, where it has one.

        Returns
        -------
        np.ndarray
            float32 (items, continuations).
        """
        prompts = self._prompts(question, listed, len(segments))
        ids = {prompt: self._ids(prompt) for prompt in dict.fromkeys(prompts)}
        begun = [self._begun(prefix, texts) for prefix, texts in zip(prefixes, continuations, strict=True)]
        starts = [ids[prompt] + start for prompt, (start, _) in zip(prompts, begun, strict=True)]
        found = np.empty((len(begun), len(begun[0][1]) if begun else 0), dtype=np.float32)
        for items in self._alike([len(start) for start in starts]):
            rows = torch.tensor([starts[item] for item in items], device=self.device)
            features = self._features(segments[items])
            read = self.model(rows, eeg_features=features, use_cache=True, logits_to_keep=1)
            for place in range(found.shape[1]):
                targets = [begun[item][1][place] for item in items]
                nll = self._following_nll(targets, read.logits, read.past_key_values)
                found[items, place] = nll.cpu().numpy()
        return found

    @torch.no_grad()
    def generate(self, question: Question, segments: np.ndarray, listed: Sequence[str] = ()) -> list[Generated]:
        """Greedy answers with a chain of thought; arguments as in `likelihood`."""
        prompts = self._prompts(question, listed, len(segments))
        answers = []
        for at in range(0, len(segments), self.batch):
            part = segments[at : at + self.batch]
            inputs = self.processor(prompts[at : at + self.batch], segments=list(torch.from_numpy(part)))
            ids = self.model.generate(
                input_ids=inputs["input_ids"].to(self.device),
                attention_mask=inputs["attention_mask"].to(self.device),
                eeg_features=self._features(part),
                max_new_tokens=MAX_NEW_TOKENS,
                do_sample=False,
                pad_token_id=self.processor.pad_token_id,
            )
            answers += [self._read(text, question) for text in self.processor.batch_decode(ids)]
        return answers

    def _prompts(
        self, question: Question, listed: Sequence[str], count: int, enable_thinking: bool = True
    ) -> list[str]:
        """The prompt of each of `count` items; raises ValueError where `listed` has another number of texts."""
        if listed and len(listed) != count:
            raise ValueError(f"{len(listed)} texts are listed for {count} items")
        texts = dict.fromkeys(listed or ("",))
        built = {text: self.processor.build_prompt(question.messages(text), enable_thinking) for text in texts}
        return [built[text] for text in listed] if listed else count * list(built.values())

    def _alike(self, lengths: Sequence[int]) -> Iterator[list[int]]:
        """Numbers of items that are equally long, a batch at a time."""
        alike: dict[int, list[int]] = defaultdict(list)
        for item, length in enumerate(lengths):
            alike[length].append(item)
        for group in alike.values():
            yield from (group[at : at + self.batch] for at in range(0, len(group), self.batch))

    def _features(self, part: np.ndarray) -> Tensor | None:
        """The tower's outputs for some items' segments, item after item; None where they show none."""
        if part.shape[1] == 0:
            return None
        flat = torch.from_numpy(part.reshape(-1, *part.shape[2:])).to(self.device)
        return self.model.tower(flat)

    def _ids(self, text: str) -> list[int]:
        return list(self.processor.tokenizer.encode(text, add_special_tokens=False))

    def _begun(self, prefix: str, texts: Sequence[str]) -> tuple[list[int], list[list[int]]]:
        """Token ids that a prefix has in common with all that may follow it, and what each text adds to them."""
        whole = [self._ids(prefix + text) for text in texts]
        shared = zip(self._ids(prefix), *whole, strict=False)
        common = [ids[0] for ids in takewhile(lambda ids: len(set(ids)) == 1, shared)]
        return common, [ids[len(common) :] for ids in whole]

    def _following_nll(self, targets: Sequence[list[int]], logits: Tensor, cache: Cache) -> Tensor:
        """Negative log-likelihood (items,) of one continuation each of prompts that were read into `cache`."""
        longest = max(map(len, targets))
        padded = [ids + [IGNORED] * (longest - len(ids)) for ids in targets]
        labels = torch.tensor(padded, device=self.device)
        rows = labels.masked_fill(labels == IGNORED, self.processor.pad_token_id)
        output = self.model(inputs_embeds=self.model.embed(rows), past_key_values=cache, use_cache=True)
        cache.crop(-longest)
        predicted = torch.cat([logits, output.logits[:, :-1]], dim=1).float()
        nll = torch.nn.functional.cross_entropy(
            predicted.transpose(1, 2), labels, reduction="none", ignore_index=IGNORED
        )
        return nll.sum(dim=1)

    def _read(self, text: str, question: Question) -> Generated:
        _, answer = self.processor.split_answer(text)
        return Generated(text, question.read(answer))
