"""Merge adapters into one self-contained model folder that plain transformers loads."""

from __future__ import annotations

import shutil
from importlib import metadata
from pathlib import Path
from typing import Any

from safetensors import safe_open

from e2llm_core.model import model_io
from e2llm_core.model.calibration import CALIBRATION
from storage.errors import InputError
from storage.places.base import is_url
from storage.places.fetching import fetched
from storage.places.location import locate

CARD = "README.md"
_CARRIED = ("probe.safetensors", "probe.json", CALIBRATION)
_PACKAGES = ("torch", "transformers", "peft")


def merge_model(source: str | Path, target: Path, llm: str | None = None, max_shard_size: str = "5GB") -> Path:
    """Merge a model's adapter into its language model and write one folder.

    The language model in `target`/llm is a plain transformers folder with its tokenizer, beside it are tower,
    projector, processor and probe. One model is in memory; `target` appears when it is whole.

    Parameters
    ----------
    source : str or Path
        A run's folder, or a model folder of stage 2 or 3; or the URL of one of them.
    target : Path
        Folder to make.
    llm : str, optional
        Where the base language model is, when it is not where the model says.
    max_shard_size : str
        Largest file of the language model.

    Raises
    ------
    InputError
        When there is no such model, it cannot be read, or `target` exists.
    RuntimeError
        When a written tensor is empty.
    """
    if target.exists():
        raise InputError(str(target), "exists", "Name a new folder; nothing was changed.")
    place = _model_place(str(source))
    folder = fetched(place)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(target.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        adapter = _write(place, partial, llm, max_shard_size)
        _require_whole(partial)
        (partial / CARD).write_text(_card(folder, partial, adapter), encoding="utf-8")
        partial.rename(target)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return target


def _model_place(source: str) -> str:
    """Return the model folder of a run, or the source itself."""
    for place in (source, f"{source}/model"):
        if all(locate(place).exists(name) for name in ("config.json", model_io.PROJECTOR_WEIGHTS)):
            return place
    if not is_url(source) and not Path(source).exists():
        raise InputError(source, "no such file or folder", "Check the path.")
    remedy = "Give a run of stage 2 or 3 that has finished, or its `model` folder."
    raise InputError(source, "no model with a language model here", remedy)


def _write(place: str, partial: Path, llm: str | None, max_shard_size: str) -> dict[str, Any] | None:
    """Write everything but the card; return the adapter's settings, None where there is none."""
    from e2llm_core.model.modeling_e2llm import E2LLMForConditionalGeneration
    from e2llm_core.model.processing_e2llm import E2LLMProcessor

    try:
        processor = E2LLMProcessor.from_pretrained(place)
        model = E2LLMForConditionalGeneration.from_pretrained(place, llm=llm)
    except ValueError as error:
        raise InputError(place, f"cannot be read: {error}", "Name a whole model, and its --llm.") from error
    adapter = None
    if model_io.is_adapted(model.llm):
        settings = model.llm.peft_config[model.llm.active_adapter]
        adapter = {"r": settings.r, "alpha": settings.lora_alpha, "modules": sorted(settings.target_modules)}
        model.llm = model.llm.merge_and_unload(safe_merge=True)
    model.save_pretrained(partial, save_llm=True, max_shard_size=max_shard_size)
    processor.save_pretrained(partial)
    processor.tokenizer.save_pretrained(str(partial / model_io.LLM_FOLDER))
    folder = fetched(place)
    for name in _CARRIED:
        if (folder / name).exists():
            shutil.copyfile(folder / name, partial / name)
    return adapter


def _require_whole(folder: Path) -> None:
    """Check every tensor's shape in the written files."""
    for file in sorted(folder.rglob("*.safetensors")):
        with safe_open(file, framework="pt") as tensors:
            empty = [name for name in tensors.keys() if 0 in tensors.get_slice(name).get_shape()]  # noqa: SIM118
        if empty:
            raise RuntimeError(f"{file.name}: empty tensors {empty[:4]}")


def _card(source: Path, folder: Path, adapter: dict[str, Any] | None) -> str:
    """Write a model card: contents, origin and digests."""
    from e2llm_core.model.configuration_e2llm import E2LLMConfig

    config = E2LLMConfig.from_pretrained(folder)
    text: Any = config.text_config
    llm = folder / model_io.LLM_FOLDER
    made = (
        f"A LoRA adapter (r {adapter['r']}, alpha {adapter['alpha']}, on {', '.join(adapter['modules'])}) was folded "
        "into the language model; products of merged weights differ from adapted ones by rounding only."
        if adapter
        else "The model had no adapter; its language model is as it was trained or aligned with."
    )
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in _PACKAGES)
    return _CARD.format(
        made=made,
        labels=", ".join(config.labels or []) or "none recorded",
        channels=len((config.eeg or {})["channels"]),
        eeg=config.eeg,
        layers=text.num_hidden_layers,
        width=text.hidden_size,
        kind=text.model_type,
        dtype=str(text.dtype).removeprefix("torch."),
        versions=versions,
        source=model_io.model_digest(source),
        merged=model_io.model_digest(folder),
        llm=model_io.llm_digest(llm),
    )


_CARD = """---
library_name: transformers
tags: [eeg, emotion-recognition, e2llm]
---

# EEG-to-language model, merged

EEG tower, projector and language model in one folder: no adapter, no reference to another folder.

```python
from e2llm_core import E2LLMForConditionalGeneration, E2LLMProcessor

model = E2LLMForConditionalGeneration.from_pretrained("this folder")
processor = E2LLMProcessor.from_pretrained("this folder")
```

The language model alone, with transformers alone:

```python
from transformers import AutoModelForCausalLM, AutoTokenizer

llm = AutoModelForCausalLM.from_pretrained("this folder/llm")
tokenizer = AutoTokenizer.from_pretrained("this folder/llm")
```

| | |
|---|---|
| language model | {kind}, {layers} layers, width {width}, {dtype} |
| labels | {labels} |
| EEG segment | {eeg[window_seconds]} s at {eeg[sfreq_hz]} Hz, {channels} channels, unit {eeg[unit]} |
| normalisation | {eeg[normalisation]}, adaptation {eeg[adaptation]} |

## How it was made

{made}
Made by `e2llm merge` with {versions}.

| SHA-256 over settings and weights | |
|---|---|
| of the model it was made from | `{source}` |
| of this folder | `{merged}` |
| of `llm/` alone | `{llm}` |

What the model has seen in training is in `probe.json`, under `origin`. For research, not for diagnosis.
"""
