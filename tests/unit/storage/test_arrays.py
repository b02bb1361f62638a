"""Pickles: arrays come in whatever wrote them, everything else is refused without being run."""

import collections
import io
import os
import pickle
import pickletools
from pathlib import Path

import numpy as np
import pytest

from storage.errors import InputError
from storage.readers.arrays import load_arrays

ARRAY = np.arange(12, dtype=np.float32).reshape(3, 4)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize(
    "content",
    [
        ARRAY,
        np.asfortranarray(ARRAY),
        np.float64(2.5),
        {"data": [ARRAY, (1, 2.5, "three", None, True, b"six", 1j)], "set": {1, 2}, "frozen": frozenset({3})},
        collections.OrderedDict(a=np.int16(3)),
        np.array(["x", "yz"]),
    ],
    ids=lambda content: type(content).__name__,
)
def test_arrays_and_plain_values_come_back(content: object, protocol: int, tmp_path: Path) -> None:
    path = tmp_path / "a.pkl"
    path.write_bytes(pickle.dumps(content, protocol=protocol))
    back = load_arrays(path)
    assert type(back) is type(content)
    assert repr(back) == repr(content)


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_names_of_older_and_newer_numpy_are_one(protocol: int, tmp_path: Path) -> None:
    path = tmp_path / "old.pkl"
    pickled = pickle.dumps(ARRAY, protocol=protocol)
    assert b"numpy._core" in pickled
    path.write_bytes(_renamed(pickled))
    assert np.array_equal(load_arrays(path), ARRAY)


def _renamed(pickled: bytes) -> bytes:
    """Name NumPy's modules as NumPy 1 did, without frames, so that lengths need no repair."""
    out = io.BytesIO()
    _, *ends = [*(position for _, _, position in pickletools.genops(pickled)), len(pickled)]
    for (opcode, value, position), end in zip(pickletools.genops(pickled), ends, strict=True):
        if opcode.name == "FRAME":
            continue
        if isinstance(value, str) and value.startswith("numpy._core") and opcode.name == "SHORT_BINUNICODE":
            text = value.replace("numpy._core", "numpy.core").encode()
            out.write(b"\x8c" + bytes([len(text)]) + text)
        else:
            out.write(pickled[position:end].replace(b"cnumpy._core", b"cnumpy.core"))
    return out.getvalue()


class Calls:
    """Pickles into a call of a function with arguments."""

    def __init__(self, function, *arguments: object) -> None:
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_code_is_refused_and_not_run(protocol: int, tmp_path: Path) -> None:
    path, witness = tmp_path / "evil.pkl", tmp_path / "witness"
    evil = Calls(os.system, f"touch {witness}")
    for content in (evil, {"data": [ARRAY, evil]}, np.array([evil], dtype=object)):
        path.write_bytes(pickle.dumps(content, protocol=protocol))
        with pytest.raises(
            InputError, match=r"evil\.pkl: holds (posix|nt)\.system, which is neither an array"
        ) as caught:
            load_arrays(path)
        assert "\n" not in str(caught.value)
        assert not witness.exists()
    pickle.loads(path.read_bytes())
    assert witness.exists(), "the pickle does what it is refused for"


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (Calls(eval, "1 + 1"), r"(builtins|__builtin__)\.eval"),
        (Calls(getattr, "a", "upper"), r"(builtins|__builtin__)\.getattr"),
        (Path("a"), "pathlib"),
        (np.random.default_rng(0), "numpy"),
        (np.datetime64("2020-01-01"), None),
        (collections.deque([1]), r"collections\.deque"),
    ],
)
def test_other_objects_are_named(content: object, named: str | None, tmp_path: Path) -> None:
    path = tmp_path / "a.pkl"
    path.write_bytes(pickle.dumps(content, protocol=2))
    if named is None:
        assert load_arrays(path) == content
        return
    with pytest.raises(InputError, match=f"holds {named}"):
        load_arrays(path)


def test_bytes_come_by_no_codec_but_latin1(tmp_path: Path) -> None:
    path = tmp_path / "a.pkl"
    path.write_bytes(b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00aX\x05\x00\x00\x00rot13\x86R.")
    with pytest.raises(InputError, match="is not a complete pickle of arrays"):
        load_arrays(path)


@pytest.mark.parametrize(
    "content", [b"", b"<html>not found</html>", b"\x80", pickle.dumps(ARRAY)[:-20], b"\x80\x04Pperson\n."]
)
def test_damage_is_one_line(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.pkl"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"a\.pkl: is not a complete pickle of arrays \(.+\)\. Fetch") as caught:
        load_arrays(path)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"gone\.pkl: no such file"):
        load_arrays(tmp_path / "gone.pkl")
