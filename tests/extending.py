"""The examples of docs/extending.md, executed as the files that they are shown as."""

import re
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"^```python\n# (\S+\.py)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
EXAMPLES: dict[str, str] = dict(BLOCK.findall(PAGE))
"""Code by its file."""


def name_of(path: str) -> str:
    """Name by which a file is imported."""
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def load(path: str) -> ModuleType:
    """Execute a new file as a module that nothing else can import."""
    module = ModuleType(name_of(path))
    exec(compile(EXAMPLES[path], f"docs/extending.md, {path}", "exec"), module.__dict__)
    return module


def edited(path: str) -> dict[str, Any]:
    """Names of a file of the project with the lines that the page changes; the file's own are left alone."""
    names = dict(vars(import_module(name_of(path))))
    exec(compile(EXAMPLES[path], f"docs/extending.md, {path}", "exec"), names)
    return names
