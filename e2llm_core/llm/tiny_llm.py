"""A small tokenizer and language model for the demo and the tests, made from scratch."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, AddedToken, AutoConfig, PreTrainedTokenizerFast

from e2llm_core.llm.families.table import STAND_IN, family_of
from e2llm_core.llm.tokens import EEG_TOKENS


def train_tokenizer(
    texts: Iterable[str], vocab_size: int, model_type: str = STAND_IN, eeg_tokens: bool = True
) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE tokenizer with the control tokens and the chat template of a model's family.

    Every text survives encoding and decoding unchanged: all 256 bytes are in the vocabulary and nothing is
    normalised. Digits are single tokens.

    Parameters
    ----------
    texts
        Training texts.
    vocab_size
        Largest number of tokens, added ones included.
    model_type
        Type of the model that will read the tokens.
    eeg_tokens
        Add the EEG tokens too.

    Raises
    ------
    ValueError
        If `vocab_size` cannot hold the bytes and the added tokens.
    """
    family = family_of(model_type)
    control = (family.end_of_text, family.turn_start, family.turn_end)
    added = (*control, *family.rationale.tokens, *(EEG_TOKENS if eeg_tokens else ()))
    if vocab_size < 256 + len(added):
        raise ValueError(f"vocab_size: {vocab_size} is too small. Give at least {256 + len(added)}")
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - len(added),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    core.train_from_iterator(texts, trainer)
    plain = family.rationale.tokens
    core.add_tokens([AddedToken(token, special=token not in plain, normalized=False) for token in added])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core,
        eos_token=family.turn_end,
        pad_token=family.end_of_text,
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = family.chat_template
    return tokenizer


def tiny_llm(
    vocab_size: int,
    hidden_size: int = 128,
    layers: int = 4,
    heads: int = 4,
    kv_heads: int = 2,
    intermediate: int = 384,
    tie: bool = True,
    max_length: int = 4096,
    tokenizer: PreTrainedTokenizerFast | None = None,
    model_type: str = STAND_IN,
    **settings: Any,
) -> Any:
    """Build a random causal language model of a small size, float32.

    Parameters
    ----------
    vocab_size
        Embedding rows; at least the tokenizer's highest id plus one.
    hidden_size, layers, heads, kv_heads, intermediate
        Size of the model.
    tie
        Share the embedding with the output head.
    max_length
        Longest sequence in tokens.
    tokenizer
        Sets the end and padding ids of the configuration.
    model_type
        transformers' name of the architecture.
    **settings
        More of its configuration, such as ``num_experts``.
    """
    ids: dict[str, Any] = {}
    if tokenizer is not None:
        ids = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    config = AutoConfig.for_model(
        model_type,
        vocab_size=vocab_size,
        hidden_size=hidden_size,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        head_dim=hidden_size // heads,
        intermediate_size=intermediate,
        max_position_embeddings=max_length,
        tie_word_embeddings=tie,
        dtype=torch.float32,
        **ids,
        **settings,
    )
    # The class itself: `from_config` would partition the model under ZeRO-3, and draw other weights from the same seed.
    architecture: Any = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]
    return architecture(config)
