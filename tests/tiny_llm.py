"""A language model that nobody trained, where a test needs no trained one."""

from pathlib import Path

import torch

from e2llm_core.llm.tiny_llm import tiny_llm, train_tokenizer
from e2llm_core.tasks.corpus.dialogues import corpus_dialogue

_VOCABULARY = 400


def save_tiny_llm(folder: Path, labels: tuple[str, ...]) -> Path:
    """Write one with its tokenizer, which knows the labels, and return the folder."""
    texts = [d.user + d.answer + (d.thinking or "") for d in (corpus_dialogue(n, labels, 0) for n in range(200))]
    tokenizer = train_tokenizer(texts, _VOCABULARY)
    torch.manual_seed(0)
    tiny_llm(_VOCABULARY, 32, 2, 2, 1, 64, tokenizer=tokenizer).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
