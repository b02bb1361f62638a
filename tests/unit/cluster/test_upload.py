"""What is shipped to the nodes is code: measured as Ray packs it, and noticed when it is not."""

import shutil
import zipfile
from pathlib import Path

import pytest

from cluster import upload
from storage.errors import InputError

ROOT = Path(__file__).resolve().parents[3]
LEFT_OUT = (
    ".git/HEAD",
    ".venv/bin/python",
    "runs/demo/model.safetensors",
    "data/SEED-VII/1.mat",
    "tests/test_one.py",
    "docs/report.png",
    "benchmarks/results/one.json",
    "store.zarr/zarr.json",
    "jobs/store.zarr/zarr.json",
    "jobs/__pycache__/cli.pyc",
    ".ruff_cache/one",
    ".env",
    "cloud.env",
    "server.key",
    "server.pem",
    "e2llm.token",
)
SHIPPED = ("jobs/stage1.yaml", "jobs/cli.py", "storage/store.py", "pyproject.toml")


@pytest.fixture
def folder(tmp_path):
    """A folder with this repository's ignore files, code, and what is not to be shipped."""
    root = tmp_path / "repository"
    for name in (*LEFT_OUT, *SHIPPED):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(bytes(100))
    for name in (".rayignore", ".gitignore"):
        shutil.copy(ROOT / name, root)
    return root


def packed(root: Path, place: Path) -> dict[str, int]:
    """What Ray itself would upload."""
    from ray._private.ray_constants import get_runtime_env_default_excludes
    from ray._private.runtime_env.packaging import create_package

    create_package(str(root), place, include_gitignore=True, excludes=get_runtime_env_default_excludes())
    with zipfile.ZipFile(place) as archive:
        return {entry.filename: entry.file_size for entry in archive.infolist() if not entry.is_dir()}


def test_only_code_is_shipped(folder, tmp_path):
    assert packed(folder, tmp_path / "code.zip").keys() == {*SHIPPED, ".rayignore", ".gitignore"}


def test_the_size_is_that_of_what_ray_packs(folder, tmp_path):
    found, expected = upload.measure(folder), packed(folder, tmp_path / "code.zip")
    assert (found.files, found.total) == (len(expected), sum(expected.values()))


def test_this_repository_ships_little_and_nothing_is_warned_of(capsys):
    found = upload.measure(ROOT)
    assert {"jobs", "cluster", "e2llm_core", "storage"} <= found.sizes.keys()
    assert not found.sizes.keys() & {".git", ".venv", "runs", "data", "tests", "docs", "benchmarks"}
    upload.announce(ROOT)
    assert capsys.readouterr().out == f"ships {found} to the nodes\n"


@pytest.mark.parametrize("name", ["checkpoints/step-1/weights.bin", "recording.edf", "runs2/model.safetensors"])
def test_what_is_hardly_code_is_named_with_its_size(name, folder, capsys):
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(bytes(5_300_000))
    upload.announce(folder)
    said = capsys.readouterr().out
    assert f"warning: ships {Path(name).parts[0]} (5.3 MB). Move it out" in said
    assert "ships 5.3 MB of code in 7 files to the nodes" in said


def test_too_much_is_refused_with_the_largest_names(folder, capsys):
    with (folder / "all.edf").open("wb") as file:
        file.truncate(upload.MOST_BYTES)
    with pytest.raises(InputError, match=r"too much to copy.*200\.0 MB of code in 7 files.*all\.edf \(200\.0 MB\)"):
        upload.announce(folder)
    assert not capsys.readouterr().out
