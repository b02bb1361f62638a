"""Prompts, targets and EEG segments to model inputs, in the chat format of the language model's family."""

from __future__ import annotations

import json
import re
from bisect import bisect_right
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from e2llm_core.llm.families.base import Family
from e2llm_core.llm.families.table import family_of
from e2llm_core.llm.supervision import IGNORED
from e2llm_core.llm.tokens import EEG_END, EEG_MARKER, EEG_PAD, EEG_START, EEG_TOKENS, load_tokenizer
from e2llm_core.tower.tower import EEGSettings

PROCESSOR_CONFIG = "e2llm_processor.json"
_ROLES = ("system", "user", "assistant")
_KEPT_PROMPTS = 1024
_ANSWER_END = re.compile(r"[.;]\s+")


class E2LLMProcessor:
    """Tokenizer, with the EEG settings of a segment.

    Parameters
    ----------
    tokenizer
        Tokenizer of the language model, with a chat template, to which `add_eeg_tokens` was applied.
    num_eeg_tokens
        Placeholder positions per segment, ``E2LLMConfig.num_eeg_tokens``.
    eeg
        Settings of one segment.
    family
        Family of the language model.

    Raises
    ------
    ValueError
        If the tokenizer lacks the EEG tokens, the family's turn tokens or a chat template.
    """

    def __init__(self, tokenizer: Any, num_eeg_tokens: int, eeg: EEGSettings, family: Family) -> None:
        if num_eeg_tokens < 1:
            raise ValueError(f"num_eeg_tokens: {num_eeg_tokens} is too small. Give the model's number")
        vocabulary = tokenizer.get_vocab()
        absent = [t for t in (*EEG_TOKENS, family.turn_start, family.turn_end) if t not in vocabulary]
        if absent:
            raise ValueError(
                f"tokenizer: lacks {absent}. Use a tokenizer of {family.name} and call add_eeg_tokens on it"
            )
        if not tokenizer.chat_template:
            raise ValueError("tokenizer: has no chat template. Use that of the instruction-tuned model")
        self.tokenizer = tokenizer
        self.family = family
        self.num_eeg_tokens = num_eeg_tokens
        self.eeg = eeg
        self.eeg_ids = {
            "eeg_token_id": vocabulary[EEG_PAD],
            "eeg_start_id": vocabulary[EEG_START],
            "eeg_end_id": vocabulary[EEG_END],
        }
        self._prompt_ids = lru_cache(_KEPT_PROMPTS)(self._new_prompt_ids)
        pad = tokenizer.pad_token_id
        self.pad_token_id: int = pad if pad is not None else vocabulary[family.turn_end]

    def build_prompt(self, messages: Sequence[dict[str, str]], enable_thinking: bool = True) -> str:
        """Render a conversation up to the answer that the model is to give, by the tokenizer's chat template.

        Parameters
        ----------
        messages
            ``{"role": "system" | "user" | "assistant", "content": str}``. Each ``<eeg>`` in a user's content
            stands for one segment. The rationale of earlier assistant turns is left out.
        enable_thinking
            False ends the prompt with an empty rationale, after which the model answers at once.

        Raises
        ------
        ValueError
            If a role is unknown, a content holds reserved tokens, or the last message is the assistant's.
        """
        if not messages or messages[-1]["role"] == "assistant":
            raise ValueError("messages: the last one must be the user's. Give the answer as a target instead")
        shown = [{"role": message["role"], "content": self._content(message)} for message in messages]
        return self.family.render(self.tokenizer, shown, enable_thinking)

    def build_target(self, answer: str, rationale: str | None = None, thinking_in_prompt: bool = False) -> str:
        """Render the assistant's turn: rationale, answer and end of turn.

        Parameters
        ----------
        answer
            The final answer.
        rationale
            The rationale before the answer, or None for an empty one.
        thinking_in_prompt
            True when the prompt already holds the empty rationale (``enable_thinking=False``).

        Raises
        ------
        ValueError
            If a text holds reserved tokens, or a rationale is given after a prompt that holds an empty one.
        """
        form = self.family.rationale
        for text in (answer, rationale or ""):
            _refuse_reserved("target", text, (*EEG_TOKENS, *self.family.control_tokens, *form.reserved))
        if thinking_in_prompt and rationale is not None:
            raise ValueError("rationale: the prompt holds an empty one. Use enable_thinking=True")
        start = "" if thinking_in_prompt else form.write(rationale or "")
        return f"{start}{form.before_answer}{answer}{self.family.turn_end}"

    def __call__(
        self,
        prompts: Sequence[str],
        targets: Sequence[str] | None = None,
        segments: Sequence[Tensor | None] | None = None,
        padding_side: str | None = None,
        max_length: int | None = None,
    ) -> dict[str, Tensor]:
        """Tokenise prompts (and targets) and stack their EEG segments.

        Parameters
        ----------
        prompts
            Rendered by `build_prompt`.
        targets
            Rendered by `build_target`, one per prompt; makes ``labels``.
        segments
            Per prompt a float tensor (n_segments, n_chans, n_times), or None.
        padding_side
            ``"right"`` or ``"left"``; by default right with targets, left without.
        max_length
            Longest allowed row in tokens; nothing is ever cut.

        Returns
        -------
        dict
            ``input_ids``, ``attention_mask`` (B, L); with targets ``labels`` (B, L), -100 outside the
            targets; ``eeg`` (G, n_chans, n_times) if there are segments.

        Raises
        ------
        ValueError
            If counts or shapes do not match, or a row is too long.
        """
        segments = segments if segments is not None else [None] * len(prompts)
        if len(segments) != len(prompts) or (targets is not None and len(targets) != len(prompts)):
            raise ValueError("prompts: targets or segments differ in number. Give one of each per prompt")
        side = padding_side or ("left" if targets is None else "right")
        if side not in ("left", "right"):
            raise ValueError(f"padding_side: {side!r} is unknown. Choose 'left' or 'right'")
        prompt_ids = [self._encode(prompt) for prompt in prompts]
        target_ids = [self._encode(target) for target in (targets if targets is not None else [""] * len(prompts))]
        for index, (ids, segment) in enumerate(zip(prompt_ids, segments, strict=True)):
            self._check_segments(index, ids, segment)
        rows = [prompt + target for prompt, target in zip(prompt_ids, target_ids, strict=True)]
        longest = max((len(row) for row in rows), default=0)
        if max_length is not None and longest > max_length:
            raise ValueError(f"max_length: a row has {longest} tokens, above {max_length}. Raise the limit")
        batch = {
            "input_ids": _pad(rows, self.pad_token_id, side),
            "attention_mask": _pad([[1] * len(row) for row in rows], 0, side),
        }
        if targets is not None:
            labels = [[IGNORED] * len(p) + t for p, t in zip(prompt_ids, target_ids, strict=True)]
            batch["labels"] = _pad(labels, IGNORED, side)
        present = [segment for segment in segments if segment is not None and len(segment)]
        if present:
            batch["eeg"] = torch.cat(present)
        return batch

    def tokenize(
        self, messages: Sequence[dict[str, str]], answer: str, rationale: str | None
    ) -> tuple[list[int], list[int]]:
        """Token ids of a conversation and of its answer, which follows immediately if there is no rationale.

        Training asks few different questions, each of them often: their token ids are kept.
        """
        at_once = rationale is None
        prompt = self._prompt_ids(tuple((m["role"], m["content"]) for m in messages), not at_once)
        return list(prompt), self._encode(self.build_target(answer, rationale, at_once))

    def number_answers(self, answer: str, rationale: str | None) -> list[int]:
        """Number of the answer that each token of a target belongs to.

        A rationale's sentences, the items of a list and the final answer are answers of their own.
        """
        target = self.build_target(answer, rationale, rationale is None)
        ends = [end.end() for end in _ANSWER_END.finditer(target)]
        found = self.tokenizer(target, add_special_tokens=False, return_offsets_mapping=True)
        return [bisect_right(ends, start) for start, _ in found["offset_mapping"]]

    def _new_prompt_ids(self, messages: Sequence[tuple[str, str]], enable_thinking: bool) -> list[int]:
        shown = [{"role": role, "content": content} for role, content in messages]
        return self._encode(self.build_prompt(shown, enable_thinking))

    def batch_decode(self, ids: Tensor) -> list[str]:
        """Decode generated ids, without turn and padding tokens; rationales are kept."""
        return [self.family.until_end(text) for text in self.tokenizer.batch_decode(ids, skip_special_tokens=False)]

    def split_answer(self, text: str) -> tuple[str | None, str]:
        """Split generated text into the rationale and the answer, as `Family.split` does."""
        return self.family.split(text)

    def save_pretrained(self, directory: str | Path) -> None:
        """Write the tokenizer files and ``e2llm_processor.json``."""
        folder = Path(directory)
        folder.mkdir(parents=True, exist_ok=True)
        self.tokenizer.save_pretrained(str(folder))
        content = {"format": 1, "num_eeg_tokens": self.num_eeg_tokens, "eeg": self.eeg.to_dict()}
        (folder / PROCESSOR_CONFIG).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")

    @classmethod
    def from_pretrained(cls, directory: str | Path, **kwargs: Any) -> E2LLMProcessor:
        """Read the processor of a model folder or hub id; the model's ``config.json`` names its family.

        Raises
        ------
        ValueError
            If the folder holds no processor, or no model of a known family.
        """
        from e2llm_core.model.model_io import local_folder

        folder = local_folder(str(directory), kwargs.pop("revision", None))
        path = folder / PROCESSOR_CONFIG
        config = folder / "config.json"
        if absent := [file.name for file in (path, config) if not file.is_file()]:
            raise ValueError(f"processor {folder}: no {absent[0]}. Give the 'model' folder of a run")
        content = json.loads(path.read_text(encoding="utf-8"))
        text_config = json.loads(config.read_text(encoding="utf-8"))["text_config"]
        family = family_of(text_config["model_type"], f"processor {config}")
        return cls(load_tokenizer(folder), content["num_eeg_tokens"], EEGSettings.from_dict(content["eeg"]), family)

    def _content(self, message: dict[str, str]) -> str:
        role, content = message["role"], message["content"]
        if role not in _ROLES:
            raise ValueError(f"messages: role {role!r} is unknown. Choose one of {list(_ROLES)}")
        _refuse_reserved(f"messages, role {role}", content, (*EEG_TOKENS, *self.family.control_tokens))
        if role == "assistant":
            return self.family.rationale.forget(content)
        if role != "user":
            return content
        return content.replace(EEG_MARKER, f"{EEG_START}{EEG_PAD * self.num_eeg_tokens}{EEG_END}")

    def _encode(self, text: str) -> list[int]:
        return list(self.tokenizer.encode(text, add_special_tokens=False))

    def _check_segments(self, index: int, ids: list[int], segment: Tensor | None) -> None:
        count = 0 if segment is None else len(segment)
        placeholders = ids.count(self.eeg_ids["eeg_token_id"])
        if placeholders != count * self.num_eeg_tokens:
            raise ValueError(
                f"prompt {index}: {placeholders // self.num_eeg_tokens} {EEG_MARKER} markers for {count} "
                "segments. Give one segment per marker"
            )
        wanted = (len(self.eeg.channels), self.eeg.n_times)
        if segment is not None and (segment.ndim != 3 or tuple(segment.shape[1:]) != wanted):
            raise ValueError(
                f"prompt {index}: segments of shape {tuple(segment.shape)}, expected "
                f"(n, {wanted[0]}, {wanted[1]}). Cut windows with the model's channels, rate and length"
            )


def _refuse_reserved(place: str, text: str, reserved: Sequence[str]) -> None:
    found = [token for token in reserved if token in text]
    if found:
        raise ValueError(f"{place}: reserved tokens {found} in the text. Remove them; mark EEG by {EEG_MARKER}")


def _pad(rows: Sequence[list[int]], value: int, side: str) -> Tensor:
    longest = max((len(row) for row in rows), default=0)
    fill = [[value] * (longest - len(row)) for row in rows]
    padded = [f + row if side == "left" else row + f for row, f in zip(rows, fill, strict=True)]
    return torch.tensor(padded, dtype=torch.long).view(len(rows), longest)
