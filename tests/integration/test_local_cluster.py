import subprocess
import sys

import pytest

from cluster.start import local
from storage.errors import InputError

pytestmark = [pytest.mark.integration, pytest.mark.slow]

RAY = [sys.executable, "-m", "ray.scripts.scripts"]


def ray(cluster: local.ClusterInfo, *arguments: str, **changes: str | None) -> subprocess.CompletedProcess[str]:
    env = cluster.env() | {name: value for name, value in changes.items() if value is not None}
    for name in [name for name, value in changes.items() if value is None]:
        del env[name]
    return subprocess.run([*RAY, *arguments], env=env, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A folder laid out like the repository, with one executable spec."""
    root = tmp_path_factory.mktemp("repository")
    package = root / "jobs"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "__main__.py").write_text(
        "import pathlib, sys, ray\n"
        "ray.init(logging_level='error')\n"
        "kind = pathlib.Path(sys.argv[1]).read_text().split()[-1]\n"
        "print('[job]', kind, sys.argv[2:], pathlib.Path.cwd())\n"
        "print('[node]', ray.nodes()[0]['NodeManagerAddress'])\n"
    )
    spec = package / "tiny.yaml"
    spec.write_text("#!/usr/bin/env -S python -m jobs\nkind: tiny\n")
    spec.chmod(0o755)
    return root


@pytest.fixture(scope="module")
def clusters(root, one_cluster, tmp_path_factory):
    """One of this module, and the one of all modules."""
    directory = tmp_path_factory.mktemp("state") / "first"
    try:
        yield [
            (directory, local.up(directory, num_cpus=1, root=root)),
            (one_cluster.token_path.parent, one_cluster),
        ]
    finally:
        local.down(directory)


def test_state_and_token_are_private(clusters):
    for directory, cluster in clusters:
        assert cluster.token_path.stat().st_mode & 0o777 == 0o600
        assert (directory / "cluster.json").stat().st_mode & 0o777 == 0o600
        assert cluster.token_path.read_text() not in (directory / "cluster.json").read_text()
        assert local.status(directory) == cluster
    assert clusters[0][1].token_path.read_text() != clusters[1][1].token_path.read_text()


def test_a_second_start_in_the_same_folder_is_refused(clusters):
    directory, cluster = clusters[0]
    with pytest.raises(InputError, match="already running"):
        local.up(directory)
    assert local.status(directory) == cluster


def test_an_executable_spec_runs_in_the_root(clusters, root):
    _, cluster = clusters[0]
    done = ray(cluster, "job", "submit", "--", "jobs/tiny.yaml", "a.b=1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"[job] tiny ['a.b=1'] {root}" in done.stdout
    assert "[node] 127.0.0.1" in done.stdout


def test_clients_without_the_right_token_are_refused(clusters, tmp_path):
    _, first = clusters[0]
    _, second = clusters[1]
    command = ("job", "submit", "--", "true")
    without = ray(first, *command, RAY_AUTH_MODE=None, RAY_AUTH_TOKEN_PATH=None, HOME=str(tmp_path))
    wrong = ray(first, *command, RAY_AUTH_TOKEN_PATH=str(second.token_path))
    for refused in (without, wrong):
        assert refused.returncode != 0
        assert "AuthenticationError" in refused.stderr
        assert "submitted successfully" not in refused.stdout


def test_down_ends_its_own_processes_only(clusters):
    (directory, cluster), (other_directory, other) = clusters
    assert local.processes(cluster)
    assert local.down(directory) > 0
    assert local.processes(cluster) == []
    assert not cluster.temp_dir.exists()
    assert not directory.exists()
    assert local.status(directory) is None
    assert local.down(directory) == 0
    assert local.status(other_directory) == other
    assert len(local.processes(other)) > 5
