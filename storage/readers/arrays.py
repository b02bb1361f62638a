"""Safe loading of pickled arrays: only arrays, plain containers and scalars are accepted, and no code is run."""

import pickle
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from storage.errors import InputError
from storage.readers.mne_file import reason_of


def load_arrays(path: Path) -> Any:
    """Read a pickle of NumPy arrays, plain containers and scalars, written by any version of Python and NumPy.

    Raises
    ------
    InputError
        When the file is missing or truncated, or names any other object, which is refused before it is imported.
    """
    try:
        with path.open("rb") as file:
            return _Unpickler(file, path).load()
    except InputError:
        raise
    except FileNotFoundError as error:
        raise InputError(str(path), "no such file", "Correct the path.") from error
    except Exception as error:  # a damaged pickle can raise almost any error
        problem = f"is not a complete pickle of arrays ({reason_of(error)})"
        raise InputError(str(path), problem, "Fetch the file again.") from None


def _latin1(text: str, encoding: str) -> bytes:
    """Replace ``_codecs.encode``, through which old pickles store bytes; other codecs may run code."""
    if encoding != "latin1":
        raise ValueError(f"bytes in the encoding {encoding!r}")
    return text.encode("latin1")


def _allowed() -> dict[tuple[str, str], Callable[..., Any]]:
    array = np.empty(0)
    rebuild: Any = array.__reduce_ex__(2)[0]
    in_place: Any = array.__reduce_ex__(5)[0]
    scalar: Any = np.float64(0).__reduce__()[0]
    found: dict[tuple[str, str], Callable[..., Any]] = {
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
        ("collections", "OrderedDict"): OrderedDict,
        ("_codecs", "encode"): _latin1,
    }
    for core in ("numpy.core", "numpy._core"):
        found[f"{core}.multiarray", "_reconstruct"] = rebuild
        found[f"{core}.multiarray", "scalar"] = scalar
        found[f"{core}.numeric", "_frombuffer"] = in_place
    for builtins in ("builtins", "__builtin__"):
        for kind in (set, frozenset, complex, bytearray):
            found[builtins, kind.__name__] = kind
    return found


_ALLOWED = _allowed()


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: BinaryIO, path: Path) -> None:
        super().__init__(file, encoding="latin1")
        self._path = path

    def find_class(self, module: str, name: str) -> Callable[..., Any]:
        try:
            return _ALLOWED[module, name]
        except KeyError:
            raise InputError(
                str(self._path),
                f"holds {module}.{name}, which is neither an array nor a plain value",
                "Do not load it; fetch the file from its authors.",
            ) from None
