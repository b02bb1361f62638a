"""MAT v5 files: some variables of a file that holds many."""

from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

import numpy as np

from storage.errors import InputError
from storage.readers.mne_file import reason_of


def variable_names(path: Path) -> list[str]:
    """List a file's variables without reading their values; raises `InputError` as `load_variables` does."""
    from scipy.io import whosmat

    try:
        return [name for name, _, _ in whosmat(path)]
    except Exception as error:  # SciPy's parser raises whatever the damage leads it to
        _refuse(path, error)


def load_variables(path: Path, names: Mapping[str, str]) -> dict[str, np.ndarray]:
    """Load some numeric variables of a MAT v5 file; those it does not hold are left out.

    Parameters
    ----------
    path : Path
        The file.
    names : mapping of str to str
        Variables to load, and how an error calls them: their own names may be a person's initials.

    Raises
    ------
    InputError
        When the file is missing or truncated, is no MAT v5 file, or a variable is not numeric.
    """
    from scipy.io import loadmat

    try:
        values = loadmat(path, variable_names=list(names))
    except Exception as error:  # SciPy's parser raises whatever the damage leads it to
        _refuse(path, error)
    found = {name: values[name] for name in names if name in values}
    for name, value in found.items():
        if not (np.issubdtype(value.dtype, np.floating) or np.issubdtype(value.dtype, np.integer)):
            raise InputError(f"{path} {names[name]}", f"holds {value.dtype}, not numbers", "Fetch the file again.")
    return found


def _refuse(path: Path, error: Exception) -> NoReturn:
    if not path.exists():
        raise InputError(str(path), "no such file", "Fetch it, or correct `source.root`.") from None
    raise InputError(str(path), f"not a whole MAT v5 file ({reason_of(error)})", "Fetch the file again.") from None
