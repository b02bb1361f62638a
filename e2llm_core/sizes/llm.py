"""True sizes of language models, and parameter arithmetic on them; nothing is downloaded.

Arithmetic, because a plan is to take a second and no torch: a model on the meta device would need both libraries.

Source of every row: the model's own ``config.json`` on the hub (``https://huggingface.co/<id>/blob/main/config.json``).
The totals are those of the published safetensors indices, and those of the transformers classes; tests compare them.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from e2llm_core.counts import Tensors, total_numel
from e2llm_core.llm.families.base import Architecture
from e2llm_core.llm.families.table import family_of
from storage.errors import InputError
from storage.places.base import is_url
from storage.places.location import locate

_VARIANT = re.compile(r"-(Base|Instruct|Chat|Instruct-2507|Thinking-2507)$")


class LLMSize(BaseModel):
    """Shape of a causal language model of a known family.

    Attributes
    ----------
    name
        Hub id, or the folder it was read from.
    experts, experts_per_token, moe_intermediate
        Mixture of experts: experts of a layer, those that a token passes, and their width; 0 for dense models.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    model_type: str
    hidden: int = Field(ge=1)
    layers: int = Field(ge=1)
    heads: int = Field(ge=1)
    kv_heads: int = Field(ge=1)
    head_dim: int = Field(ge=1)
    intermediate: int = Field(ge=1)
    vocab: int = Field(ge=1)
    tied: bool
    experts: int = Field(0, ge=0)
    experts_per_token: int = Field(0, ge=0)
    moe_intermediate: int = Field(0, ge=0)

    @property
    def source(self) -> str:
        """Where the numbers are from."""
        known = self.name in LLM_SIZES
        return f"https://huggingface.co/{self.name}/blob/main/config.json" if known else f"{self.name}/config.json"

    @property
    def architecture(self) -> Architecture:
        """What the family says of it."""
        return family_of(self.model_type).architectures[self.model_type]

    @property
    def query_width(self) -> int:
        """Width of the queries: heads times head dimension."""
        return self.heads * self.head_dim

    @property
    def kv_width(self) -> int:
        """Width of the keys, and of the values."""
        return self.kv_heads * self.head_dim

    @property
    def parameters(self) -> int:
        """All parameters; a tied head counts once."""
        return total_numel(self.tensors())

    @property
    def active_parameters(self) -> int:
        """Parameters that one token passes: all of a dense model, the chosen experts of a mixture."""
        idle = self.layers * (self.experts - self.experts_per_token) * 3 * self.hidden * self.moe_intermediate
        return self.parameters - idle

    @property
    def linear_parameters(self) -> int:
        """Weights of a token's matrix products inside the layers, without embedding and head."""
        experts = max(self.experts_per_token, 1)
        width = self.moe_intermediate if self.experts else self.intermediate
        attention = 2 * self.hidden * (self.query_width + self.kv_width)
        return self.layers * (attention + 3 * experts * self.hidden * width + self.hidden * self.experts)

    @property
    def head_parameters(self) -> int:
        """Weights of the output head (also where it is tied to the embedding)."""
        return self.hidden * self.vocab

    @property
    def linears(self) -> dict[str, tuple[int, int]]:
        """Linear layers of one layer, without a mixture's experts: name to (inputs, outputs)."""
        found = {
            "q_proj": (self.hidden, self.query_width),
            "k_proj": (self.hidden, self.kv_width),
            "v_proj": (self.hidden, self.kv_width),
            "o_proj": (self.query_width, self.hidden),
        }
        if not self.experts:
            found |= {
                "gate_proj": (self.hidden, self.intermediate),
                "up_proj": (self.hidden, self.intermediate),
                "down_proj": (self.intermediate, self.hidden),
            }
        return found

    def layer_tensors(self) -> list[Tensors]:
        """Parameter tensors of one layer."""
        found = [Tensors(name="norm", numel=self.hidden, count=2)]
        for name, (inputs, outputs) in self.linears.items():
            found.append(Tensors(name=name, numel=inputs * outputs))
        if self.architecture.qkv_bias:
            found.append(Tensors(name="q_bias", numel=self.query_width))
            found.append(Tensors(name="kv_bias", numel=self.kv_width, count=2))
        if self.architecture.qk_norm:
            found.append(Tensors(name="qk_norm", numel=self.head_dim, count=2))
        if self.experts:
            expert = self.hidden * self.moe_intermediate
            found.append(Tensors(name="router", numel=self.hidden * self.experts))
            found.append(Tensors(name="experts_gate_up", numel=2 * self.experts * expert))
            found.append(Tensors(name="experts_down", numel=self.experts * expert))
        return found

    def tensors(self) -> list[Tensors]:
        """All parameter tensors."""
        layers = [t.model_copy(update={"count": t.count * self.layers}) for t in self.layer_tensors()]
        embedding = Tensors(name="embedding", numel=self.head_parameters, count=1 if self.tied else 2)
        return [embedding, Tensors(name="final_norm", numel=self.hidden), *layers]

    def lora_tensors(self, rank: int, target_modules: Iterable[str]) -> list[Tensors]:
        """Parameter tensors of low-rank adapters, as PEFT makes them.

        Parameters
        ----------
        rank
            Rank of the adapters.
        target_modules
            Names of linear layers. The experts of a mixture are fused tensors, gate and up together, with an adapter
            of this rank for every expert and name.
        """
        named = list(dict.fromkeys(target_modules))
        shapes = [(name, rank, *self.linears[name]) for name in named if name in self.linears]
        if self.experts:
            fused = rank * self.experts * sum(name in named for name in ("gate_proj", "up_proj"))
            if fused:
                shapes.append(("experts_gate_up", fused, self.hidden, 2 * self.moe_intermediate))
            if "down_proj" in named:
                shapes.append(("experts_down", rank * self.experts, self.moe_intermediate, self.hidden))
        found = []
        for name, width, inputs, outputs in shapes:
            found.append(Tensors(name=f"{name}.lora_A", numel=width * inputs, count=self.layers))
            found.append(Tensors(name=f"{name}.lora_B", numel=width * outputs, count=self.layers))
        return found


def _dense(
    family: str, size: str, hidden: int, layers: int, heads: int, kv_heads: int, intermediate: int, tied: bool
) -> LLMSize:
    qwen3 = family == "Qwen3"
    return LLMSize(
        name=f"Qwen/{family}-{size}",
        model_type="qwen3" if qwen3 else "qwen2",
        hidden=hidden,
        layers=layers,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=128 if qwen3 else hidden // heads,
        intermediate=intermediate,
        vocab=151_936 if qwen3 or hidden < 3_584 else 152_064,
        tied=tied,
    )


def _mixture(size: str, hidden: int, layers: int, heads: int, intermediate: int, moe_intermediate: int) -> LLMSize:
    return LLMSize(
        name=f"Qwen/Qwen3-{size}",
        model_type="qwen3_moe",
        hidden=hidden,
        layers=layers,
        heads=heads,
        kv_heads=4,
        head_dim=128,
        intermediate=intermediate,
        vocab=151_936,
        tied=False,
        experts=128,
        experts_per_token=8,
        moe_intermediate=moe_intermediate,
    )


def _llama(name: str, hidden: int, layers: int, heads: int, kv_heads: int, intermediate: int) -> LLMSize:
    return LLMSize(
        name=name,
        model_type="llama",
        hidden=hidden,
        layers=layers,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=hidden // heads,
        intermediate=intermediate,
        vocab=49_152,
        tied=True,
    )


LLM_SIZES: dict[str, LLMSize] = {
    size.name: size
    for size in (
        _dense("Qwen3", "0.6B", 1024, 28, 16, 8, 3072, True),
        _dense("Qwen3", "1.7B", 2048, 28, 16, 8, 6144, True),
        _dense("Qwen3", "4B", 2560, 36, 32, 8, 9728, True),
        _dense("Qwen3", "8B", 4096, 36, 32, 8, 12288, False),
        _dense("Qwen3", "14B", 5120, 40, 40, 8, 17408, False),
        _dense("Qwen3", "32B", 5120, 64, 64, 8, 25600, False),
        _mixture("30B-A3B", 2048, 48, 32, 6144, 768),
        _mixture("235B-A22B", 4096, 94, 64, 12288, 1536),
        _dense("Qwen2.5", "0.5B", 896, 24, 14, 2, 4864, True),
        _dense("Qwen2.5", "1.5B", 1536, 28, 12, 2, 8960, True),
        _dense("Qwen2.5", "3B", 2048, 36, 16, 2, 11008, True),
        _dense("Qwen2.5", "7B", 3584, 28, 28, 4, 18944, False),
        _dense("Qwen2.5", "14B", 5120, 48, 40, 8, 13824, False),
        _dense("Qwen2.5", "32B", 5120, 64, 40, 8, 27648, False),
        _dense("Qwen2.5", "72B", 8192, 80, 64, 8, 29568, False),
        _llama("HuggingFaceTB/SmolLM2-135M", 576, 30, 9, 3, 1536),
        _llama("HuggingFaceTB/SmolLM2-360M", 960, 32, 15, 5, 2560),
        _llama("HuggingFaceTB/SmolLM2-1.7B", 2048, 24, 32, 32, 8192),
    )
}
"""Hub id -> size. Vocabularies are the rows of the embedding table, spare rows included."""


def llm_size(name: str, place: str = "model.llm") -> LLMSize:
    """Find the size of a language model: from a folder's ``config.json``, else from the table.

    Parameters
    ----------
    name
        Folder, URL or hub id; the published variants of a size (``-Base``, ``-Instruct``, ...) share its row.
    place
        The spec's key, for the message.

    Raises
    ------
    InputError
        When there is no such folder and no such row, or the folder holds another kind of model.
    """
    if is_url(name) or Path(name).is_dir():
        return size_from_folder(name, place)
    base = _VARIANT.sub("", name)
    if base not in LLM_SIZES:
        raise InputError(
            f"{place}: {name}",
            "no such folder, and the sizes of this model are not known",
            f"Name a folder with its config.json, or one of {', '.join(LLM_SIZES)}.",
        )
    return LLM_SIZES[base]


def size_from_folder(folder: str | Path, place: str = "model.llm") -> LLMSize:
    """Read the size of the language model in a folder or at a URL.

    Raises
    ------
    InputError
        When the folder has no readable ``config.json``, or it is of no known family.
    """
    at = f"{place}: {folder}/config.json"
    try:
        content = json.loads(locate(folder).read("config.json"))
        family = family_of(content["model_type"], at)
    except InputError:
        raise
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(at, "is not the configuration of a language model", "Give a complete folder.") from error
    try:
        return size_from_config(content, str(folder))
    except (ValueError, KeyError, TypeError) as error:
        problem = f"holds no readable configuration of {family.name} ({error})"
        raise InputError(at, problem, "Give a folder of one of these models.") from error


def size_from_config(config: Mapping[str, Any], name: str) -> LLMSize:
    """Read the size from the content of a ``config.json``.

    Raises
    ------
    ValueError, KeyError
        When it is not that of a model whose parameters are known.
    """
    architecture = family_of(config["model_type"], name).architectures[config["model_type"]]
    moe = architecture.experts
    if biases := [key for key in ("attention_bias", "mlp_bias") if config.get(key)]:
        raise ValueError(f"{biases[0]} is not supported")
    if moe and (config.get("mlp_only_layers") or config.get("decoder_sparse_step", 1) != 1):
        raise ValueError("mixtures with dense layers in between are not supported")
    return LLMSize(
        name=name,
        model_type=config["model_type"],
        hidden=config["hidden_size"],
        layers=config["num_hidden_layers"],
        heads=config["num_attention_heads"],
        kv_heads=config["num_key_value_heads"],
        head_dim=config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"],
        intermediate=config["intermediate_size"],
        vocab=config["vocab_size"],
        tied=config.get("tie_word_embeddings", False),
        experts=(config.get("num_experts") or config["num_local_experts"]) if moe else 0,  # hub; transformers 5
        experts_per_token=config["num_experts_per_tok"] if moe else 0,
        moe_intermediate=config["moe_intermediate_size"] if moe else 0,
    )


def partition_numel(tensors: Iterable[Tensors], world: int) -> int:
    """Elements that one of `world` ranks keeps under ZeRO-3: every tensor is cut into equal, padded parts."""
    return sum(tensor.count * math.ceil(tensor.numel / world) for tensor in tensors)
