"""Reading text in the encodings it is commonly saved in: UTF-8, UTF-16 with byte-order mark, ANSI code page."""

import codecs
from pathlib import Path

_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def encoding_of(content: bytes) -> str:
    """Detect the encoding of a text from its bytes; the first part of a file is enough.

    Raises
    ------
    ValueError
        When the content is not text.
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
    """Read a text file; raises `ValueError` if it is not text."""
    content = path.read_bytes()
    return content.decode(encoding_of(content))


def _fits(content: bytes, encoding: str) -> bool:
    try:
        content.decode(encoding)
    except UnicodeDecodeError:
        return False
    return True
