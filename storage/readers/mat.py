"""MAT v5 files: reading selected variables."""

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
    except Exception as error:  # SciPy's parser can raise almost any error on a damaged file
        _refuse(path, error)


def load_variables(path: Path, names: Mapping[str, str]) -> dict[str, np.ndarray]:
    """Load selected numeric variables of a MAT v5 file; variables that it does not hold are left out.

    Parameters
    ----------
    path : Path
        The file.
    names : mapping of str to str
        Variables to load -> their names in error messages, as a variable may be named after a person's initials.

    Raises
    ------
    InputError
        When the file is missing, truncated or not a MAT v5 file, or a variable is not numeric.
    """
    from scipy.io import loadmat

    try:
        values = loadmat(path, variable_names=list(names))
    except Exception as error:  # SciPy's parser can raise almost any error on a damaged file
        _refuse(path, error)
    found = {name: values[name] for name in names if name in values}
    for name, value in found.items():
        if not (np.issubdtype(value.dtype, np.floating) or np.issubdtype(value.dtype, np.integer)):
            raise InputError(f"{path} {names[name]}", f"holds {value.dtype}, not numbers", "Fetch the file again.")
    return found


def _refuse(path: Path, error: Exception) -> NoReturn:
    if not path.exists():
        raise InputError(str(path), "no such file", "Fetch it, or correct `source.root`.") from None
    raise InputError(
        str(path), f"is not a complete MAT v5 file ({reason_of(error)})", "Fetch the file again."
    ) from None
