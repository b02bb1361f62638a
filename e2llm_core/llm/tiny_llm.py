"""A small tokenizer and Qwen3 for the demo and the tests, made from scratch."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AddedToken, PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from e2llm_core.llm.tokens import EEG_TOKENS, END_OF_TEXT, THINK_END, THINK_START, TURN_END, TURN_START

CHAT_TEMPLATE = (
    "{%- for message in messages %}"
    "{{- '<|im_start|>' + message.role + '\\n' }}"
    "{%- if message.role == 'assistant' %}{{- message.content.split('</think>')[-1].lstrip('\\n') }}"
    "{%- else %}{{- message.content }}{%- endif %}"
    "{{- '<|im_end|>\\n' }}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}"
    "{%- if enable_thinking is defined and enable_thinking is false %}"
    "{{- '<think>\\n\\n</think>\\n\\n' }}{%- endif %}"
    "{%- endif %}"
)
_ADDED = (END_OF_TEXT, TURN_START, TURN_END, THINK_START, THINK_END, *EEG_TOKENS)
_SMALLEST = 256 + len(_ADDED)


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE tokenizer with Qwen's turn and think tokens and the EEG tokens.

    Every text survives encoding and decoding unchanged: all 256 bytes are in the vocabulary and nothing is
    normalised. Digits are single tokens, as in Qwen.

    Parameters
    ----------
    texts
        Training texts.
    vocab_size
        Largest number of tokens, added ones included.

    Raises
    ------
    ValueError
        If `vocab_size` cannot hold the bytes and the added tokens.
    """
    if vocab_size < _SMALLEST:
        raise ValueError(f"vocab_size: {vocab_size} is too small. Give at least {_SMALLEST}")
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - len(_ADDED),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    core.train_from_iterator(texts, trainer)
    thinking = {THINK_START, THINK_END}
    core.add_tokens([AddedToken(t, special=t not in thinking, normalized=False) for t in _ADDED])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core,
        eos_token=TURN_END,
        pad_token=END_OF_TEXT,
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def tiny_qwen3(
    vocab_size: int,
    hidden_size: int = 128,
    layers: int = 4,
    heads: int = 4,
    kv_heads: int = 2,
    intermediate: int = 384,
    tie: bool = True,
    max_length: int = 4096,
    tokenizer: PreTrainedTokenizerFast | None = None,
) -> Qwen3ForCausalLM:
    """Build a random `Qwen3ForCausalLM` of a small size, float32.

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
    """
    ids: dict[str, Any] = {}
    if tokenizer is not None:
        ids = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    config = Qwen3Config(
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
    )
    return Qwen3ForCausalLM(config)
