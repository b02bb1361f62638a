"""Files that make up a recording (header, samples, markers, later parts), and which of them names it."""

import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

from storage.errors import InputError
from storage.readers.base import assert_there, is_there

_BYTES_PER_SAMPLE = {"INT_16": 2, "INT_32": 4, "IEEE_FLOAT_32": 4}
_HEADER_OF = {".eeg": (".vhdr",), ".dat": (".vhdr",), ".vmrk": (".vhdr",), ".fdt": (".set",)}
FOLDERS = {".mff", ".ds", ".mefd"}
"""Suffixes of folders that are one recording."""
_SAMPLES = ("data", "datfile")
"""EEGLAB fields that may hold the name of the samples file."""
_MAYBE_A_PART = re.compile(r"(.*)(-\d+|_split-\d+)(_\w+)?(\.fif(?:\.gz)?)", re.IGNORECASE)


def companions(path: Path) -> tuple[Path, ...]:
    """Other files that a recording is read from, if they exist or are links.

    BrainVision: samples and markers. EEGLAB: samples. Split FIF: the later parts. Folder (.mff): all files in it.
    """
    suffix = path.suffix.lower()
    if path.is_dir():
        return tuple(sorted(file for file in path.rglob("*") if file.is_file() or file.is_symlink()))
    if not path.is_file():
        return ()
    found: list[Path] = []
    if suffix == ".vhdr":
        header = _text(path)
        found = [beside for key in ("DataFile", "MarkerFile") if (beside := _beside(path, header, key))]
    elif suffix == ".set":
        found = _eeglab_samples(path)
    elif suffix == ".fif" or path.name.lower().endswith(".fif.gz"):
        found = list(_fif_parts(path, path.stat().st_mtime_ns))
    return tuple(beside for beside in found if is_there(beside))


def marker_file(path: Path) -> Path | None:
    """Path of the marker file that a BrainVision header names; None for other formats."""
    return _beside(path, _text(path), "MarkerFile") if path.suffix.lower() == ".vhdr" else None


def brainvision_units(path: Path) -> list[str]:
    """Units of a BrainVision header's channels, in order and as spelt there; µV where none is stated."""
    fields = _channels(_text(path))
    return [(field[3].strip() if len(field) > 3 else "") or "µV" for field in fields]


def _channels(header: str) -> list[list[str]]:
    """Name, reference, resolution and unit of each channel of a BrainVision header."""
    rows = re.findall(r"^Ch(\d+)=(.*)$", header.partition("[Coordinates]")[0], flags=re.MULTILINE)
    return [row.strip().split(",") for _, row in sorted(rows, key=lambda row: int(row[0]))]


def header_of(path: Path) -> Path | None:
    """Find the header of a samples or marker file; None for any other file, or if there is no header."""
    for suffix in _HEADER_OF.get(path.suffix.lower(), ()):
        for header in [path.with_suffix(suffix), *sorted(path.parent.glob(f"*{suffix}"))]:
            if header.is_file() and path in companions(header):
                return header
    return None


def first_part(path: Path) -> Path | None:
    """Find the first file of the split FIF that this file continues; None if it continues none."""
    match = _MAYBE_A_PART.fullmatch(path.name)
    if match is None:
        return None
    for head in [path.with_name(f"{match[1]}{match[3] or ''}{match[4]}"), *sorted(path.parent.glob("*split-01*"))]:
        if head != path and head.is_file() and path in companions(head):
            return head
    return None


def _mff_of(path: Path) -> Path | None:
    """The .mff folder that contains a file, if any."""
    folders = (parent for parent in path.parents if parent.suffix.lower() == ".mff")
    return next((folder for folder in folders if (folder / "info.xml").is_file()), None)


def whole_of(path: Path) -> Path | None:
    """Find the file or folder that names the recording this file is part of; None if this file is not such a part."""
    return _mff_of(path) or header_of(path) or first_part(path)


def assert_header(path: Path) -> None:
    """Refuse a samples or marker file given instead of its header, and a later part of a split FIF."""
    if head := whole_of(path):
        raise InputError(str(path), f"is part of the recording {head.name}", f"Name {head.name} instead.")


def assert_brainvision(path: Path) -> None:
    """Check that a BrainVision recording's three files agree; other formats pass.

    A recording truncated at a frame boundary after its last marker cannot be told from a shorter one.

    Raises
    ------
    InputError
        When a file that the header names is missing, two channels have the same name, the samples do not end on a
        frame boundary, or a marker lies after the last sample.
    """
    if path.suffix.lower() != ".vhdr":
        return
    header = _text(path)
    beside = {key: found for key in ("DataFile", "MarkerFile") if (found := _beside(path, header, key))}
    for file in beside.values():
        assert_there(file)
        if not file.is_file():
            raise InputError(str(path), f"its companion {file.name} is missing", "Put it beside the header.")
    names = [fields[0] for fields in _channels(header)]
    if twice := [name for name in names if names.count(name) > 1]:
        raise InputError(str(path), f"channels named twice: {twice[0]}", "Rename one of them in the header.")
    width = _BYTES_PER_SAMPLE.get(_setting(header, "BinaryFormat").upper())
    count = _setting(header, "NumberOfChannels")
    if width is None or "DataFile" not in beside or not count.isdigit() or int(count) == 0:
        return  # text formats and damaged headers: MNE reports what is wrong
    n_times, rest = divmod(beside["DataFile"].stat().st_size, width * int(count))
    if rest or not n_times:
        raise InputError(str(beside["DataFile"]), "is truncated: it ends in the middle of a sample", "Fetch it again.")
    if "MarkerFile" in beside:
        markers = re.findall(r"^Mk\d+=[^,\n]*,[^,\n]*,(\d+),", _text(beside["MarkerFile"]), flags=re.MULTILINE)
        if (last := max(map(int, markers), default=0)) > n_times:
            raise InputError(
                str(beside["DataFile"]),
                f"is truncated: it holds {n_times:,} samples, but there is a marker at sample {last:,}",
                "Fetch it again.",
            )


@contextmanager
def in_utf8(path: Path) -> Iterator[Path]:
    """Yield a BrainVision header that MNE can open: the file itself if it is UTF-8, else a temporary copy."""
    files = [path, marker_file(path)] if path.suffix.lower() == ".vhdr" else []
    texts = {file: _text(file) for file in files if file is not None and file.is_file()}
    if all(text.isascii() or text.encode() == file.read_bytes() for file, text in texts.items()):
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        data = _beside(path, texts[path], "DataFile")
        if data is not None:
            (Path(folder) / f"x{data.suffix}").symlink_to(data.absolute())
        for file, text in texts.items():
            for key, name in (("DataFile", f"x{data.suffix if data else ''}"), ("MarkerFile", "x.vmrk")):
                text = re.sub(rf"^{key}=.*$", f"{key}={name}", text, flags=re.MULTILINE | re.IGNORECASE)
            text = re.sub(r"^Codepage=.*$", "Codepage=UTF-8", text, flags=re.MULTILINE | re.IGNORECASE)
            (Path(folder) / f"x{'.vhdr' if file == path else '.vmrk'}").write_text(text, encoding="utf-8", newline="")
        yield Path(folder) / "x.vhdr"


def _beside(path: Path, header: str, key: str) -> Path | None:
    name = _setting(header, key).replace("$b", path.stem)
    return path.with_name(Path(name).name) if name else None


def _eeglab_samples(path: Path) -> list[Path]:
    """Find the .fdt file of a .set file as MNE does: under the name stored in it, else under the .set file's name."""
    own = path.with_suffix(".fdt")
    if not any(file.suffix.lower() == ".fdt" for file in path.parent.iterdir()):
        return []
    try:
        named = _named_in_73(path) if _is_matlab_73(path) else _named_in_matlab(path)
    except Exception:  # damaged, or its reader is not installed: reading the file reports it
        return [own]
    for name in named:
        if name.lower().endswith(".fdt"):
            stated = path.with_name(re.split(r"[\\/]", name)[-1])
            return [stated if is_there(stated) else own]
    return []


def _named_in_matlab(path: Path) -> list[str]:
    from scipy.io import loadmat

    content = loadmat(path, variable_names=["EEG", *_SAMPLES], squeeze_me=True, struct_as_record=False)
    fields = content.get("EEG")
    named = [getattr(fields, key, None) if fields is not None else content.get(key) for key in _SAMPLES]
    return [name for name in named if isinstance(name, str)]


def _is_matlab_73(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(19) == b"MATLAB 7.3 MAT-file"


def _named_in_73(path: Path) -> list[str]:
    import h5py

    with h5py.File(path, "r") as file:
        fields = file.get("EEG", file)
        named = [fields[key] for key in _SAMPLES if key in fields]
        return ["".join(map(chr, name[:].ravel())) for name in named if name.attrs.get("MATLAB_class") == b"char"]


@lru_cache(maxsize=1024)
def _fif_parts(path: Path, mtime_ns: int) -> tuple[Path, ...]:
    """Later parts of a split FIF, in order; empty if the file cannot be read, which its reader reports."""
    import mne

    try:
        raw = mne.io.read_raw_fif(path, preload=False, on_split_missing="ignore", verbose="error")
    except Exception:  # its reader reports what is wrong
        return ()
    names = [Path(name).name for name in raw.filenames if name is not None]
    return tuple(path.with_name(name) for name in names if name != path.name)


def _text(path: Path) -> str:
    """Read a BrainVision file as text: UTF-8, else the ANSI code page that older recorders write."""
    content = path.read_bytes()
    for encoding in ("utf-8-sig", "cp1252"):
        try:
            return content.decode(encoding)
        except UnicodeDecodeError:
            continue
    return content.decode("latin1")


def _setting(header: str, key: str) -> str:
    found = re.search(rf"^{key}=(.*)$", header, flags=re.MULTILINE | re.IGNORECASE)
    return found[1].strip() if found else ""
