"""`save_pretrained` and `from_pretrained` of the composite model."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

from torch import Tensor, nn

from e2llm_core.model import model_io
from e2llm_core.model.configuration_e2llm import E2LLMConfig
from e2llm_core.model.projector import build_projector
from e2llm_core.tensors import save_tensors
from e2llm_core.tower.tower import EEGTower, load_tower, save_tower
from storage.places.base import is_url


class ModelFolderMixin:
    """Saving to and loading from a model folder; see `e2llm_core.model.model_io` for its layout."""

    config: Any
    tower: EEGTower
    projector: nn.Module
    llm: Any
    from_parts: Any

    def save_pretrained(
        self,
        save_directory: str | Path,
        save_llm: bool = True,
        llm_name: str | Path | None = None,
        llm_revision: str | None = None,
        tensors: dict[str, dict[str, Tensor]] | None = None,
        **kwargs: Any,
    ) -> None:
        """Write a model folder; see `e2llm_core.model.model_io` for its layout.

        Parameters
        ----------
        save_directory
            Folder, made if absent.
        save_llm
            Copy the base language model into the folder; else record where it is, with its SHA-256.
        llm_name, llm_revision
            Folder or hub id to record; by default where the language model was loaded from.
        tensors
            Gathered state dicts under ZeRO-3, by part: ``"tower"``, ``"projector"``, ``"adapter"``, ``"llm"``
            (the bare language model). A part that is absent is read from the model.
        **kwargs
            Options of the language model's own ``save_pretrained`` (``max_shard_size``).

        Raises
        ------
        ValueError
            If a tensor is empty, or the language model's source is unknown.
        """
        folder = Path(save_directory)
        folder.mkdir(parents=True, exist_ok=True)
        given = tensors or {}
        adapted = model_io.is_adapted(self.llm)
        save_tower(self.tower, folder, given.get("tower"))
        projector = given.get("projector") or self.projector.state_dict()
        save_tensors(projector, folder / model_io.PROJECTOR_WEIGHTS)
        if adapted:
            model_io.save_adapter(self.llm, folder / model_io.ADAPTER_FOLDER, given.get("adapter"))
        if save_llm:
            self.config.llm_source = None
            model_io.save_llm(self.llm, folder / model_io.LLM_FOLDER, given.get("llm"), **kwargs)
        else:
            base = self.llm.get_base_model() if adapted else self.llm
            name = llm_name or base.name_or_path
            if not name:
                raise ValueError("llm_name: the language model has no source. Name it or save it")
            self.config.llm_source = model_io.make_llm_source(name, folder, llm_revision)
        self.config.architectures = [type(self).__name__]
        self.config.save_pretrained(folder)

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | Path,
        *,
        llm: str | Path | None = None,
        config: E2LLMConfig | None = None,
        is_trainable: bool = False,
        revision: str | None = None,
        **llm_kwargs: Any,
    ) -> Self:
        """Load a model folder (or URL, or hub id) strictly, from safetensors only.

        Parameters
        ----------
        pretrained_model_name_or_path
            Folder written by `save_pretrained`, its ``s3://bucket/prefix``, or a hub id.
        llm
            Where the base language model is, when it is not where the folder says.
        config
            Configuration to use instead of the folder's.
        is_trainable
            Load the adapter for further training.
        revision
            Hub revision.
        **llm_kwargs
            Options for the language model: ``dtype``, ``attn_implementation``, ``device_map``. Tower and
            projector keep the dtype they were saved in. Remote code is never run.

        Raises
        ------
        ValueError
            If a file is absent, does not fit, or is not the one the model was trained with.
        """
        name = str(pretrained_model_name_or_path)
        folder, url = model_io.local_folder(name, revision), name if is_url(name) else None
        if not (folder / "config.json").is_file():
            raise ValueError(f"model {folder}: no config.json. Give a run's 'model' folder")
        config = config or E2LLMConfig.from_pretrained(folder)
        if llm_kwargs.pop("trust_remote_code", False):
            raise ValueError("trust_remote_code: never used here. Leave it out")
        llm_kwargs.setdefault("dtype", "auto")
        rows = config.text_config.vocab_size  # type: ignore[union-attr]
        base = model_io.load_llm(model_io.resolve_llm(folder, config.llm_source, llm, url), rows, **llm_kwargs)
        if (folder / model_io.ADAPTER_FOLDER).is_dir():
            base = model_io.load_adapter(base, folder / model_io.ADAPTER_FOLDER, is_trainable)
        tower = load_tower(folder)
        projector = build_projector(config.projector or {}, tower.dim, base.config.hidden_size)
        model_io.load_projector(projector, folder)
        return cls.from_parts(config, tower, projector, base).eval()
