"""The formula for what autograd keeps of a layer, against what it keeps of transformers' layers."""

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoConfig, AutoModelForCausalLM

from cluster.planning.memory import PADDING, layer_bytes_per_token
from e2llm_core.llm.packed_attention import attend_packed
from e2llm_core.sizes.llm import LLMSize

TOKENS = 96
LORA = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def size(layers: int, model_type: str) -> LLMSize:
    return LLMSize(
        name="small",
        model_type=model_type,
        hidden=256,
        layers=layers,
        heads=8,
        kv_heads=2,
        head_dim=32,
        intermediate=768,
        vocab=64,
        tied=True,
    )


def kept_bytes(layers: int, dtype: torch.dtype, tuned: str, model_type: str) -> int:
    """Bytes of distinct storages that autograd saved, weights aside."""
    shape = size(layers, model_type)
    config = AutoConfig.for_model(
        model_type,
        hidden_size=shape.hidden,
        num_hidden_layers=layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        head_dim=shape.head_dim,
        intermediate_size=shape.intermediate,
        vocab_size=shape.vocab,
        tie_word_embeddings=True,
    )
    model = AutoModelForCausalLM.from_config(config, dtype=dtype, attn_implementation="sdpa", trust_remote_code=False)
    attend_packed(model)
    model.requires_grad_(tuned == "full")
    decoder = model.model
    if tuned == "lora":
        model = get_peft_model(model, LoraConfig(r=2, target_modules=list(LORA), task_type="CAUSAL_LM"))
        decoder = model.base_model.model.model
    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    kept: dict[int, torch.UntypedStorage] = {}

    def save(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage
        return tensor

    embeds = torch.randn(1, TOKENS, shape.hidden, dtype=dtype, requires_grad=True)
    starts = torch.tensor([0, TOKENS], dtype=torch.int32)
    with torch.autograd.graph.saved_tensors_hooks(save, lambda tensor: tensor):
        decoder(
            inputs_embeds=embeds,
            position_ids=torch.arange(TOKENS)[None],
            attention_mask=None,
            use_cache=False,
            cu_seq_lens_q=starts,
            cu_seq_lens_k=starts,
            max_length_q=TOKENS,
            max_length_k=TOKENS,
        )
    return sum(storage.nbytes() for storage in kept.values())


@pytest.mark.parametrize("model_type", ["qwen3", "qwen2", "llama"])
@pytest.mark.parametrize("tuned", ["frozen", "lora", "full"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_bytes_of_one_more_layer(dtype, tuned, model_type):
    measured = (kept_bytes(3, dtype, tuned, model_type) - kept_bytes(1, dtype, tuned, model_type)) / 2
    modules = LORA if tuned == "lora" else None
    planned = TOKENS * layer_bytes_per_token(size(1, model_type), dtype.itemsize, tuned == "full", modules)
    unpadded = planned - TOKENS * (PADDING - 1) * dtype.itemsize * 5 * size(1, model_type).query_width
    assert unpadded == pytest.approx(measured, rel=0.06)
