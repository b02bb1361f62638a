"""Text in whatever encoding it was saved: UTF-8, UTF-16 with its mark, else the ANSI code page."""

import codecs
from pathlib import Path

_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def encoding_of(content: bytes) -> str:
    """Encoding of a text by its bytes; a part cut off anywhere will do.

    Raises
    ------
    ValueError
        When it is no text.
    """
    if content.startswith(_UTF16):
        return "utf-16"
    if b"\0" in content:
        raise ValueError("holds null bytes")
    try:
        codecs.getincrementaldecoder("utf-8")().decode(content)
    except UnicodeDecodeError:
        return "cp1252" if _fits(content, "cp1252") else "latin1"
    return "utf-8-sig"


def read_text(path: Path) -> str:
    """All of a text file; raises `ValueError` when it is none."""
    content = path.read_bytes()
    return content.decode(encoding_of(content))


def _fits(content: bytes, encoding: str) -> bool:
    try:
        content.decode(encoding)
    except UnicodeDecodeError:
        return False
    return True
