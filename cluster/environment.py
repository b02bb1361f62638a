"""What a run ran on: versions, code state, hardware. No names of people, hosts or accounts."""

import os
import platform
import subprocess
import sys
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = (
    "torch",
    "deepspeed",
    "transformers",
    "peft",
    "ray",
    "mne",
    "zarr",
    "tensorstore",
    "numpy",
    "scikit-learn",
)


def environment(root: Path, packages: Iterable[str] = PACKAGES) -> dict[str, Any]:
    """Versions, git state and hardware of this node, JSON-ready.

    Parameters
    ----------
    root : Path
        Folder of the code.
    packages : iterable of str
        Whose versions; all must be installed.
    """
    import psutil

    return {
        "python": sys.version.split()[0],
        "platform": f"{platform.system()} {platform.machine()}",
        "cpus": os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "gpus": _gpus(),
        "packages": {name: metadata.version(name) for name in packages},
        "git": _git(root),
    }


def _gpus() -> list[str]:
    query = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    try:
        found = subprocess.run(query, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return found.stdout.strip().splitlines() if found.returncode == 0 else []


def _git(root: Path) -> dict[str, str | bool | None]:
    def ask(*words: str) -> str | None:
        try:
            said = subprocess.run(["git", *words], cwd=root, capture_output=True, text=True, timeout=20, check=False)
        except (OSError, subprocess.TimeoutExpired):
            return None
        return said.stdout.strip() if said.returncode == 0 else None

    status = ask("status", "--porcelain", "--untracked-files=no")
    return {"commit": ask("rev-parse", "HEAD"), "changed": None if status is None else bool(status)}
