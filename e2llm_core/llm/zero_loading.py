"""Loading a language model under ZeRO-3: every rank reads its own share of every tensor, and nothing else.

transformers reads all files into one state dict in the memory of rank 0 and broadcasts from there. Here the
model is built partitioned, and each rank copies its flat stretch of each parameter from the files. There is no
collective, so a host holds its ranks' partitions and, for a moment, one whole parameter.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig
from transformers.initialization import no_init_weights

from e2llm_core.llm.embedding_rows import mean_row, rows_at_once
from e2llm_core.llm.families.base import Family, Piece
from e2llm_core.llm.weight_files import BLOCK, WeightFiles, match
from e2llm_core.training.deepspeed_private import own_stretch, partition_of, partitioning
from storage.errors import InputError


def load_partitioned(
    folder: Path, family: Family, rows: int, settings: dict[str, Any], dtype: str | torch.dtype, attention: str
) -> Any:
    """Load a causal language model, partitioned over the ranks.

    Parameters
    ----------
    folder
        transformers folder with safetensors: one file, or several and an index. Experts may be stored one by one, as
        published, or fused, as the model has them.
    family
        Family of the model.
    rows
        Of its embedding tables; those beyond the checkpoint's become `e2llm_core.llm.embedding_rows.mean_row`.
    settings
        DeepSpeed's, of the run. The process group must be there.
    dtype
        Of the parameters; ``"auto"`` is what ``config.json`` says.
    attention
        ``attn_implementation`` of transformers.

    Returns
    -------
    PreTrainedModel
        In evaluation mode. Buffers are whole, on the device of the run.

    Raises
    ------
    InputError
        If the tensors are not exactly the model's.
    """
    config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    if getattr(config, "quantization_config", None) is not None:
        raise InputError(str(folder), "the checkpoint is quantised", "Give the bfloat16 checkpoint of this model")
    kind = _torch_dtype(config.dtype or "float32" if dtype == "auto" else dtype)
    skeleton = _build(config, kind, attention, torch.device("meta"))
    shapes = {name: tuple(parameter.shape) for name, parameter in skeleton.named_parameters()}
    files = WeightFiles(folder)
    with contextlib.closing(files):
        reads = match(shapes, skeleton.all_tied_weights_keys, files, family)
        _refuse_untied(skeleton.all_tied_weights_keys, files)
        largest = max(*(parameter.numel() for parameter in skeleton.parameters()), rows * config.hidden_size)
        config.vocab_size = rows
        model = _build(config, kind, attention, partitioning(settings, kind, largest))
        for name, parameter in model.named_parameters():
            _fill(parameter, reads[name], files)
    if (folder / "generation_config.json").is_file():
        model.generation_config = GenerationConfig.from_pretrained(folder)
    _keep_experts_together(model, family)
    return model.eval()


def _torch_dtype(name: str | torch.dtype) -> torch.dtype:
    found = getattr(torch, name) if isinstance(name, str) else name
    assert isinstance(found, torch.dtype)
    return found


def _build(config: Any, dtype: torch.dtype, attention: str, context: Any) -> Any:
    """Instantiate without initialising; `context` partitions each module's parameters as soon as it is built."""
    from transformers.integrations.deepspeed import prevent_arange_dtype_change
    from transformers.modeling_utils import set_zero3_state

    # set_zero3_state keeps transformers from opening a deepspeed.zero.Init of its own.
    with no_init_weights(), prevent_arange_dtype_change(), set_zero3_state(), context:
        model = AutoModelForCausalLM.from_config(
            copy.deepcopy(config), dtype=dtype, attn_implementation=attention, trust_remote_code=False
        )
    model.tie_weights(recompute_mapping=False)
    return model


def _fill(parameter: Any, pieces: tuple[Piece, ...], files: WeightFiles) -> None:
    """Read this rank's stretch of a partitioned parameter; the padding of the last stretch becomes zero.

    What the pieces do not fill are added rows of an embedding table, which is stored as one piece.
    """
    start, stop = own_stretch(parameter)
    with torch.no_grad(), partition_of(parameter) as own:
        own[stop - start :].zero_()
        offset = 0
        for piece in pieces:
            low, high = max(start, offset), min(stop, offset + piece.numel)
            for first in range(low, high, BLOCK):
                last = min(first + BLOCK, high)
                files.read(piece.name, first - offset, own[first - start : last - start])
            offset += piece.numel
        if stop > offset:
            width = pieces[0].shape[1]
            added = mean_row(_blocks(pieces[0], files, own.dtype)).to(own)
            low = max(start, offset)
            own[low - start : stop - start] = added[torch.arange(low, stop) % width]


def _blocks(table: Piece, files: WeightFiles, dtype: torch.dtype) -> Iterator[Tensor]:
    """Blocks of a stored table, as `mean_row` takes them."""
    rows, width = table.shape
    for first in range(0, rows, rows_at_once(width)):
        block = torch.empty(min(rows_at_once(width), rows - first), width, dtype=dtype)
        files.read(table.name, first * width, block.view(-1))
        yield block


def _refuse_untied(tied: dict[str, str], files: WeightFiles) -> None:
    """Check tied tensors that a checkpoint stores twice; both copies must be equal."""
    for target, source in tied.items():
        if target not in files.shapes or source not in files.shapes:
            continue
        if files.shapes[target] != files.shapes[source] or not files.same(target, source):
            raise InputError(
                str(files.folder / files.files[target]),
                f"{target} differs from {source}, though config.json ties them",
                "Set tie_word_embeddings to false in config.json",
            )


def _keep_experts_together(model: nn.Module, family: Family) -> None:
    """Gather a mixture's block at once: which experts a token takes differs between ranks."""
    blocks = {type(module) for module in model.modules() if type(module).__name__ == family.expert_block}
    if blocks:
        from deepspeed.utils import set_z3_leaf_modules

        set_z3_leaf_modules(model, sorted(blocks, key=lambda block: block.__name__))
