"""The EEG tokens, and loading a tokenizer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from storage.places.fetching import fetched

EEG_START, EEG_PAD, EEG_END = "<|eeg_start|>", "<|eeg_pad|>", "<|eeg_end|>"
EEG_TOKENS = (EEG_START, EEG_PAD, EEG_END)
EEG_MARKER = "<eeg>"
"""What a message writes where a segment belongs."""


def load_tokenizer(name_or_path: str | Path, **kwargs: Any) -> Any:
    """Load a fast tokenizer without remote code.

    A local folder, or a URL, is read as its ``tokenizer.json`` says; a class chosen by model type could bring its
    own pre-tokenizer and normaliser instead.
    """
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    folder = fetched(name_or_path)
    if (folder / "tokenizer.json").is_file():
        return PreTrainedTokenizerFast.from_pretrained(str(folder), **kwargs)
    return AutoTokenizer.from_pretrained(str(folder), trust_remote_code=False, **kwargs)


def add_eeg_tokens(tokenizer: Any) -> dict[str, int]:
    """Add the EEG tokens to a tokenizer in place; tokens that it already has are kept.

    The language model needs an embedding row for each: `load_llm` takes the number of rows.

    Returns
    -------
    dict
        ``{"eeg_token_id", "eeg_start_id", "eeg_end_id"}``.
    """
    from transformers import AddedToken

    tokenizer.add_tokens([AddedToken(token, special=True, normalized=False) for token in EEG_TOKENS])
    ids = dict(zip(EEG_TOKENS, tokenizer.convert_tokens_to_ids(list(EEG_TOKENS)), strict=True))
    return {"eeg_token_id": ids[EEG_PAD], "eeg_start_id": ids[EEG_START], "eeg_end_id": ids[EEG_END]}
