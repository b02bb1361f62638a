"""The doctor on a real Ray: two nodes, and this machine alone."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from jobs.cli import app

pytestmark = [pytest.mark.integration, pytest.mark.slow]
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def two_nodes():
    import ray
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    cluster.add_node(num_cpus=1)
    ray.init(cluster.address, log_to_driver=False, runtime_env={"env_vars": {"PYTHONPATH": str(ROOT)}})
    try:
        yield cluster
    finally:
        ray.shutdown()
        cluster.shutdown()


def test_every_node_is_examined_and_the_sum_over_both_measured(two_nodes, tmp_path):
    from cluster.doctor.examination import examine_cluster

    found = {each.topic: each for each in examine_cluster(str(tmp_path))}
    assert found["versions"].verdict == "well"
    assert found["storage"].verdict != "wrong", found["storage"]
    assert found["clocks"].verdict == "well"
    assert "gloo over 2 ranks on 2 nodes: " in found["all-reduce"].found
    assert found["all-reduce"].verdict != "wrong"
    assert not list(tmp_path.iterdir())


def test_this_machine_without_a_cluster(connected, tmp_path):
    done = CliRunner().invoke(app, ["doctor", "--storage", str(tmp_path)], env={"COLUMNS": "120"})
    assert done.exit_code == 0, done.output
    assert "gloo over 2 ranks on 1 node" in done.output
    assert not list(tmp_path.iterdir())


def test_storage_that_cannot_be_written_is_refused_in_one_line(connected, tmp_path):
    (tmp_path / "file").touch()
    done = CliRunner().invoke(app, ["doctor", "--storage", str(tmp_path / "file")])
    assert done.exit_code == 2
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert line.startswith(f"error: {tmp_path}/file: cannot be written: ")
    assert "Traceback" not in done.stderr
