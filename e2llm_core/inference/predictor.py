"""Questions in, answers out: one predictor behind Ray Serve, Ray Data and the single-file command."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from transformers import Cache

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

    def likelihood(self, question: Question, segments: np.ndarray) -> np.ndarray:
        """Probability of each option as the immediate answer, normalised over the options.

        At the temperature that was fitted for the question's task; at 1 where the model was not calibrated.

        Parameters
        ----------
        question : Question
            Asked about every item.
        segments : np.ndarray
            float32 (items, num_segments, n_chans, n_times).

        Returns
        -------
        np.ndarray
            float64 (items, options).
        """
        temperature = self.calibration.temperature(question.task, question.options)
        return tempered(self.option_nll(question, segments), 1.0 if temperature is None else temperature)

    @torch.no_grad()
    def option_nll(self, question: Question, segments: np.ndarray) -> np.ndarray:
        """Negative log-likelihood of each option as the immediate answer, float32 (items, options), in nats.

        Arguments as in `likelihood`.
        """
        prompt = self.processor.build_prompt(question.messages(), enable_thinking=False)
        targets = [self.processor.build_target(option, None, True) for option in question.options]
        rows = []
        for part in self._parts(segments):
            inputs = self.processor([prompt] * len(part), segments=list(torch.from_numpy(part)))
            read = self.model(
                inputs["input_ids"].to(self.device),
                eeg_features=self._features(part),
                use_cache=True,
                logits_to_keep=1,
            )
            nll = [self._target_nll(target, read.logits, read.past_key_values) for target in targets]
            rows.append(torch.stack(nll, dim=1).cpu().numpy())
        return np.concatenate(rows)

    @torch.no_grad()
    def generate(self, question: Question, segments: np.ndarray) -> list[Generated]:
        """Greedy answers with a chain of thought; arguments as in `likelihood`."""
        prompt = self.processor.build_prompt(question.messages())
        answers = []
        for part in self._parts(segments):
            inputs = self.processor([prompt] * len(part), segments=list(torch.from_numpy(part)))
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

    def _parts(self, segments: np.ndarray) -> list[np.ndarray]:
        return [segments[start : start + self.batch] for start in range(0, len(segments), self.batch)]

    def _features(self, part: np.ndarray) -> Tensor:
        flat = torch.from_numpy(part.reshape(-1, *part.shape[2:])).to(self.device)
        return self.model.tower(flat)

    def _target_nll(self, target: str, logits: Tensor, cache: Cache) -> Tensor:
        """Negative log-likelihood (items,) of one continuation of prompts that were read into `cache`."""
        ids = torch.tensor(self.processor.tokenizer.encode(target, add_special_tokens=False), device=self.device)
        rows = ids.expand(len(logits), -1)
        output = self.model(inputs_embeds=self.model.embed(rows), past_key_values=cache, use_cache=True)
        cache.crop(-len(ids))
        predicted = torch.cat([logits, output.logits[:, :-1]], dim=1).float()
        return torch.nn.functional.cross_entropy(predicted.transpose(1, 2), rows, reduction="none").sum(dim=1)

    def _read(self, text: str, question: Question) -> Generated:
        _, answer = self.processor.split_answer(text)
        return Generated(text, question.read(answer))
