import socket
from pathlib import Path

import pytest

from cluster.start import local
from storage.errors import InputError


@pytest.fixture
def elsewhere(tmp_path):
    """The state folder of a cluster on another host, on storage that both see."""
    info = local.ClusterInfo(
        identity="none",
        address="10.78.0.1:20000",
        dashboard_url="http://10.78.0.1:20001",
        token_path=tmp_path / "token",
        temp_dir=tmp_path / "temp",
        root=Path.cwd(),
        num_cpus=1,
        hostname="elsewhere",
    )
    (tmp_path / "token").write_text("a token of the test")
    (tmp_path / "temp").mkdir()
    (tmp_path / "cluster.json").write_text(info.model_dump_json())
    return tmp_path


@pytest.mark.parametrize("verb", [local.down, local.status, local.up])
def test_the_folder_of_another_host_is_left_alone(verb, elsewhere):
    with pytest.raises(InputError, match=f"is the state folder of host elsewhere.*--dir .*-{socket.gethostname()}"):
        verb(elsewhere)
    assert {path.name for path in elsewhere.iterdir()} == {"token", "temp", "cluster.json"}


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "localhost", "10.78.0.1.1", ""])
def test_what_is_no_address_of_a_machine_is_refused(host, tmp_path):
    with pytest.raises(InputError, match="is not an IPv4 address of a machine"):
        local.up(tmp_path, host=host)


def test_an_address_that_this_machine_does_not_have_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"--host 203\.0\.113\.1: cannot be listened on"):
        local.up(tmp_path / "state", host="203.0.113.1")
    assert not (tmp_path / "state").exists()


def test_a_cluster_runs_in_the_repository() -> None:
    """Where no other folder is given, jobs are found there: `./jobs/stage1.yaml`."""
    assert (local.ROOT / "jobs" / "stage1.yaml").is_file()
