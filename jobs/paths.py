"""Where relative paths of a spec begin."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from e2llm_core.stages.config import FolderOrHub
from storage.errors import InputError
from storage.places.base import Place, is_url

ROOT_VARIABLE = "E2LLM_ROOT"
_UPLOADED = "runtime_resources"
CODE = Path(__file__).resolve().parents[1]


def root_folder() -> Path:
    """Folder that relative paths start from: ``E2LLM_ROOT``, else the current one.

    Raises
    ------
    InputError
        When that is a copy of the code which Ray uploaded and will delete.
    """
    root = Path(os.environ.get(ROOT_VARIABLE) or Path.cwd()).resolve()
    if _UPLOADED in root.parts:
        raise InputError(
            "run",
            "the job's folder is an uploaded copy that Ray deletes",
            f"Name the folder for data and runs in {ROOT_VARIABLE}, by `env_vars` of --runtime-env-json.",
        )
    return root


def absolute(value: Any, root: Path) -> Any:
    """A copy of a spec, or a part of one, in which every path is absolute; URLs stay as they are."""
    if isinstance(value, Path):
        return root / value
    if isinstance(value, Place):
        return value if is_url(value) else Place(root / value)
    if isinstance(value, BaseModel):
        fields = type(value).model_fields
        changes = {name: absolute(getattr(value, name), root) for name in fields}
        for name in [name for name, field in fields.items() if FolderOrHub in field.metadata]:
            folder = root / (changes[name] or "")
            changes[name] = str(folder) if changes[name] and folder.is_dir() else changes[name]
        return value.model_copy(update=changes)
    if isinstance(value, tuple):
        return tuple(absolute(item, root) for item in value)
    if isinstance(value, Mapping):
        return {key: absolute(item, root) for key, item in value.items()}
    return value
