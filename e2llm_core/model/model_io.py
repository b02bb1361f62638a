"""Files of a model folder: strict, safetensors only, no remote code.

Layout::

    config.json            E2LLMConfig
    tower.json tower.safetensors
    projector.safetensors
    llm/                   a transformers folder, unless config.json names a source
    adapter/               a PEFT adapter of the inner language model, if any
    calibration.json       temperatures of its option probabilities, if they were fitted
"""

from __future__ import annotations

import hashlib
import json
import os
import posixpath
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.integrations.deepspeed import deepspeed_config, is_deepspeed_zero3_enabled

from e2llm_core.llm.attention import choose_attention
from e2llm_core.llm.embedding_rows import enlarge, table_rows
from e2llm_core.llm.families.table import family_of
from e2llm_core.llm.zero_loading import load_partitioned
from e2llm_core.model.calibration import CALIBRATION
from e2llm_core.tensors import load_strict, refuse_empty, save_tensors
from storage.errors import InputError
from storage.places.base import is_url
from storage.places.fetching import fetched
from storage.places.scratch import is_scratch

PROJECTOR_WEIGHTS = "projector.safetensors"
LLM_FOLDER = "llm"
ADAPTER_FOLDER = "adapter"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
_COMPLETE = "Give the folder or hub id of a complete model"


def load_llm(name_or_path: str | Path, rows: int = 0, **kwargs: Any) -> Any:
    """Load a causal language model strictly from safetensors, without remote code.

    Under an active `HfDeepSpeedConfig` with stage 3 the parameters come partitioned, and every rank reads its own
    share only (`e2llm_core.llm.zero_loading`).

    Parameters
    ----------
    name_or_path
        Folder or hub id; a hub id is looked up in the hub's cache, and downloaded if it is not there.
    rows
        Embedding rows that are needed; a table that has fewer is enlarged (`e2llm_core.llm.embedding_rows`).
    **kwargs
        ``attn_implementation`` is chosen by `e2llm_core.llm.attention.choose_attention` unless it is given. All are
        passed to ``AutoModelForCausalLM.from_pretrained``; partitioned loading takes ``dtype`` and
        ``attn_implementation``.

    Raises
    ------
    InputError
        If there is no such model, its family is unknown, or the weights do not have exactly its keys and shapes.
    """
    kwargs.setdefault("attn_implementation", choose_attention("auto", kwargs.get("dtype")))
    folder = local_folder(str(name_or_path), kwargs.pop("revision", None))
    if not (folder / "config.json").is_file():
        raise InputError(f"llm {folder}", "no config.json", _COMPLETE)
    model_type = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("model_type", "")
    family = family_of(model_type, f"llm {folder}/config.json")
    config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    rows = table_rows(config.vocab_size, rows)
    if is_deepspeed_zero3_enabled():
        dtype, attention = kwargs.pop("dtype", None) or "auto", kwargs.pop("attn_implementation")
        if kwargs:
            raise TypeError(f"not for a language model under ZeRO-3: {sorted(kwargs)}")
        llm = load_partitioned(folder, family, rows, deepspeed_config(), dtype, attention)
    else:
        llm = _load_whole(folder, **kwargs)
        if rows > config.vocab_size:
            enlarge(llm, rows)
    llm.name_or_path = llm.config._name_or_path = str(name_or_path)
    return llm


def _load_whole(folder: Path, **kwargs: Any) -> Any:
    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            str(folder), use_safetensors=True, trust_remote_code=False, output_loading_info=True, **kwargs
        )
    except OSError as error:
        raise InputError(f"llm {folder}", str(error), _COMPLETE) from error
    llm, info = loaded
    problems = {
        "missing": sorted(info["missing_keys"]),
        "unexpected": sorted(info["unexpected_keys"]),
        "wrong shape": sorted(str(key) for key in info["mismatched_keys"]),
    }
    if found := "; ".join(f"{what} {keys[:4]}" for what, keys in problems.items() if keys):
        raise InputError(f"llm {folder}", found, _COMPLETE)
    return llm


def llm_digest(folder: str | Path) -> str:
    """Compute the SHA-256 over the names and contents of a folder's ``config.json`` and ``*.safetensors``.

    Raises
    ------
    ValueError
        If the folder holds no safetensors.
    """
    root = Path(folder)
    files = sorted(root.glob("*.safetensors"))
    if not files:
        raise ValueError(f"llm {root}: no .safetensors file. Give a folder with safetensors weights")
    return _files_digest(root, [root / "config.json", *files])


def model_digest(folder: str | Path) -> str:
    """Compute the SHA-256 over all that a model folder's answers and probabilities follow from.

    These are its settings, its temperatures where it was calibrated, and every safetensors file, adapters included.
    """
    root = Path(folder)
    settings = [path for name in ("config.json", "tower.json", CALIBRATION) if (path := root / name).exists()]
    return _files_digest(root, [*settings, *sorted(root.rglob("*.safetensors"))])


def _files_digest(root: Path, files: list[Path]) -> str:
    total = hashlib.sha256()
    for file in files:
        with file.open("rb") as handle:
            digest = hashlib.file_digest(handle, "sha256")
        total.update(f"{file.relative_to(root).as_posix()} {digest.hexdigest()}\n".encode())
    return total.hexdigest()


def local_folder(name: str, revision: str | None) -> Path:
    """Return the folder itself, this node's copy of a URL, or the local snapshot of a hub id.

    Raises
    ------
    InputError
        If it is none of these, or the hub cannot be reached and its cache does not hold the model.
    """
    if is_url(name):
        return fetched(name)
    if Path(name).is_dir():
        return Path(name)
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    patterns = ["*.json", "*.safetensors", "*.txt", "*.jinja"]
    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=patterns))
    except HFValidationError as error:
        raise InputError(name, "no such folder", "Give a model folder or a hub id") from error
    except LocalEntryNotFoundError as error:
        problem = "no such folder, the hub cannot be reached, and its cache does not hold this model"
        raise InputError(
            name, problem, "Download it where there is a network (hf download), or give a folder"
        ) from error
    except (HfHubHTTPError, OSError) as error:
        raise InputError(name, f"no such folder, and the hub says: {error}", "Give a folder or a hub id") from error


def make_llm_source(name: str | Path, relative_to: Path, revision: str | None = None) -> dict[str, Any]:
    """Describe a language model outside the model folder, with its digest.

    A local folder is recorded relative to the model folder, so that a tree of runs can move as a whole; when that is
    in scratch space, and so not where the model will lie, by its own path.
    """
    digest = llm_digest(local_folder(str(name), revision))
    if is_url(str(name)):
        return {"kind": "url", "name": str(name), "revision": None, "digest": digest}
    if Path(name).is_dir():
        there = Path(name).resolve()
        path = str(there) if is_scratch(relative_to) else os.path.relpath(there, relative_to.resolve())
        return {"kind": "folder", "name": path, "revision": None, "digest": digest}
    return {"kind": "hub", "name": str(name), "revision": revision, "digest": digest}


def llm_place(model: str | Path, source: dict[str, Any] | None) -> str:
    """Folder, URL or hub id of a model's language model.

    Parameters
    ----------
    model
        Folder or URL of the model.
    source
        What `make_llm_source` said; None: the language model is in the model's folder.
    """
    name = LLM_FOLDER if source is None else source["name"]
    if source is not None and source["kind"] != "folder":
        return name
    if not is_url(str(model)):
        return str((Path(model) / name).resolve())
    scheme, _, path = str(model).partition("//")
    return name if name.startswith("/") else f"{scheme}//{posixpath.normpath(posixpath.join(path, name))}"


def resolve_llm(
    model_folder: Path, source: dict[str, Any] | None, override: str | Path | None, url: str | None = None
) -> Path:
    """Find the folder of a model's language model; its digest is checked if it is outside the model folder.

    Parameters
    ----------
    model_folder
        Model folder on this node.
    source
        Source of the language model, from `make_llm_source`.
    override
        Folder, URL or hub id to use instead.
    url
        URL that the model folder is a copy of.

    Raises
    ------
    ValueError
        If it is absent or is not the one the model was trained with.
    """
    if source is None and override is None:
        return model_folder / LLM_FOLDER
    if override is not None:
        folder = local_folder(str(override), None)
    elif source is not None and source["kind"] == "hub":
        folder = local_folder(source["name"], source["revision"])
    else:
        folder = fetched(llm_place(url or model_folder, source))
    if not folder.is_dir():
        raise ValueError(f"llm {folder}: no such folder. Name the language model with llm=PATH")
    if source is not None and (found := llm_digest(folder)) != source["digest"]:
        raise ValueError(
            f"llm {folder}: digest {found[:12]} is not the recorded {source['digest'][:12]}. "
            "Give the language model that this model was trained with"
        )
    return folder


def is_adapted(llm: Any) -> bool:
    """Whether the language model is wrapped by PEFT."""
    from peft import PeftModel

    return isinstance(llm, PeftModel)


def base_state_dict(llm: Any) -> dict[str, Tensor]:
    """Collect the state dict of the language model below its adapter, with the keys of the bare model."""
    state: dict[str, Tensor] = {}
    base = llm.get_base_model() if is_adapted(llm) else llm
    for key, value in base.state_dict().items():
        if any(part.startswith(("lora_", "modules_to_save")) for part in key.split(".")):
            continue
        state[key.replace(".base_layer.", ".")] = value
    return state


def save_llm(llm: Any, folder: Path, tensors: dict[str, Tensor] | None = None, **kwargs: Any) -> None:
    """Write the bare language model, without its adapter; `tensors` are its gathered tensors under ZeRO-3.

    Raises
    ------
    ValueError
        If a tensor is empty.
    """
    base = llm.get_base_model() if is_adapted(llm) else llm
    state = tensors or base_state_dict(llm)
    refuse_empty(state, "llm")
    base.save_pretrained(folder, state_dict=state, **kwargs)


def save_adapter(llm: Any, folder: Path, tensors: dict[str, Tensor] | None = None) -> None:
    """Write the adapter as PEFT does; `tensors` are the gathered adapter tensors under ZeRO-3."""
    from peft import get_peft_model_state_dict

    folder.mkdir(parents=True, exist_ok=True)
    if tensors is None:
        tensors = get_peft_model_state_dict(llm, save_embedding_layers=False)
    save_tensors(tensors, folder / ADAPTER_WEIGHTS)
    config = llm.peft_config[llm.active_adapter]
    was, config.inference_mode = config.inference_mode, True
    try:
        config.save_pretrained(str(folder))
    finally:
        config.inference_mode = was


def load_adapter(llm: Any, folder: Path, is_trainable: bool = False) -> Any:
    """Wrap a bare language model with a saved adapter, strictly.

    Raises
    ------
    ValueError
        If the adapter has no safetensors, or its tensors are not exactly the wrapped model's.
    """
    from peft import PeftModel, get_peft_model_state_dict

    weights = folder / ADAPTER_WEIGHTS
    if not weights.is_file():
        raise ValueError(f"adapter {folder}: no {ADAPTER_WEIGHTS}. Save the adapter as safetensors")
    wrapped = PeftModel.from_pretrained(llm, str(folder), is_trainable=is_trainable)
    with safe_open(weights, framework="pt") as handle:
        saved = set(handle.keys())
    wanted = set(get_peft_model_state_dict(wrapped, save_embedding_layers=False))
    if saved != wanted:
        raise ValueError(
            f"adapter {folder}: missing {sorted(wanted - saved)[:4]}, "
            f"unexpected {sorted(saved - wanted)[:4]}. "
            "Give the adapter of this language model"
        )
    return wrapped


def load_projector(projector: nn.Module, folder: Path) -> None:
    """Load ``projector.safetensors`` strictly, keeping its dtype.

    Raises
    ------
    ValueError
        If the file is absent or does not fit.
    """
    path = folder / PROJECTOR_WEIGHTS
    if not path.is_file():
        raise ValueError(f"model {folder}: no {PROJECTOR_WEIGHTS}. Give a run's 'model' folder")
    tensors = load_file(path)
    projector.to(next(iter(tensors.values())).dtype)
    load_strict(projector, tensors, place=f"projector {path}")
