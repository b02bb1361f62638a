"""Where relative paths of a spec begin."""

import os
from pathlib import Path

from storage.errors import InputError

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


def spec_file(name: str) -> Path:
    """File of a job spec that another spec names: from the current folder, else from the repository."""
    return Path(name) if Path(name).exists() else CODE / name


def model_folders(name: str, root: Path) -> list[Path]:
    """Where a model may lie that a spec names: below the root folder, else in the repository.

    A copy of the code that Ray uploaded is no place for one: models that are trained from it would outlive it.
    """
    return [root / name] if _UPLOADED in CODE.parts else [root / name, CODE / name]
