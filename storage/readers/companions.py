"""Files that hold the samples or markers of a header file: BrainVision's and EEGLAB's."""

import re
from pathlib import Path

from storage.errors import InputError

_BYTES_PER_SAMPLE = {"INT_16": 2, "INT_32": 4, "IEEE_FLOAT_32": 4}


def companions(path: Path) -> tuple[Path, ...]:
    """Files that hold the samples or markers of a header file, as far as they are there."""
    names = [f"{path.stem}.fdt"] if path.suffix.lower() == ".set" else []
    if path.suffix.lower() == ".vhdr":
        named = (_setting(_text(path), key) for key in ("DataFile", "MarkerFile"))
        names = [name.replace("$b", path.stem) for name in named if name]
    return tuple(beside for name in names if (beside := path.with_name(Path(name).name)).is_file())


def assert_brainvision(path: Path) -> None:
    """Compare a BrainVision recording's three files; other formats pass.

    A recording that was cut at a whole frame after its last marker cannot be told from a shorter one.

    Raises
    ------
    InputError
        When a file that the header names is missing, the samples do not end with a whole frame, or a marker lies
        behind the last sample.
    """
    if path.suffix.lower() != ".vhdr":
        return
    header = _text(path)
    beside = {}
    for key in ("DataFile", "MarkerFile"):
        if name := _setting(header, key):
            beside[key] = path.with_name(Path(name.replace("$b", path.stem)).name)
            if not beside[key].is_file():
                raise InputError(str(path), f"its companion {beside[key].name} is missing", "Put it beside the header.")
    width = _BYTES_PER_SAMPLE.get(_setting(header, "BinaryFormat").upper())
    count = _setting(header, "NumberOfChannels")
    if width is None or "DataFile" not in beside or not count.isdigit() or int(count) == 0:
        return  # text formats and damaged headers: MNE says what is wrong with them
    n_times, rest = divmod(beside["DataFile"].stat().st_size, width * int(count))
    if rest or not n_times:
        raise InputError(str(beside["DataFile"]), "is cut off: it does not end with a whole sample", "Fetch it again.")
    if "MarkerFile" in beside:
        markers = re.findall(r"^Mk\d+=[^,\n]*,[^,\n]*,(\d+),", _text(beside["MarkerFile"]), flags=re.MULTILINE)
        if (last := max(map(int, markers), default=0)) > n_times:
            raise InputError(
                str(beside["DataFile"]),
                f"is cut off: {n_times:,} samples, and a marker at sample {last:,}",
                "Fetch it again.",
            )


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace")


def _setting(header: str, key: str) -> str:
    found = re.search(rf"^{key}=(.*)$", header, flags=re.MULTILINE | re.IGNORECASE)
    return found[1].strip() if found else ""
