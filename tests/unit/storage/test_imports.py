"""Importing storage is cheap: what is heavy is imported where it is used."""

import subprocess
import sys

HEAVY = {"mne", "sklearn", "torch", "ray", "tensorstore", "scipy", "openpyxl", "zarr", "matplotlib"}
MODULES = "storage, storage.readers, storage.twin, storage.ingest, storage.windows, storage.splits"


def test_imports_are_light() -> None:
    code = f"import sys, {MODULES}; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert not HEAVY & set(loaded.split())
