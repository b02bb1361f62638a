"""What is done in the folder that the jobs' launchers share."""

import shutil

import pytest

from cluster.slurm import ray_cluster
from cluster.slurm.allocation import Allocation
from cluster.slurm.ray_cluster import _sweep, ray_on_nodes

ALLOCATION = Allocation(job_id=9, name="9", nodes=("n1",), head="n1", restarts=1, cluster="north")


def test_state_of_jobs_that_have_no_nodes_any_more_is_removed(tmp_path):
    for name in ("7-0", "7-1", "8-0", "12-3"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "token").write_text("secret")
    _sweep(tmp_path, {8})
    assert [path.name for path in tmp_path.iterdir()] == ["8-0"]


def test_a_folder_that_is_not_there_yet_needs_no_sweeping(tmp_path):
    _sweep(tmp_path / "runs", set())
    assert not (tmp_path / "runs").exists()


@pytest.fixture
def no_ray(monkeypatch):
    class Cluster:
        def __init__(self, allocation, state, token):
            assert token.stat().st_mode & 0o777 == 0o600
            assert state.stat().st_mode & 0o777 == 0o700

        def end(self):
            pass

    monkeypatch.setattr(ray_cluster, "RayOnNodes", Cluster)
    monkeypatch.setattr(ray_cluster, "jobs_with_nodes", lambda: {8})


def test_another_slurm_on_the_same_file_system_is_left_alone(no_ray, tmp_path):
    for name in ("north/7-0", "north/8-0", "north/9-0", "south-2/7-0"):
        (tmp_path / name).mkdir(parents=True)
    with ray_on_nodes(ALLOCATION, tmp_path):
        there = {str(path.relative_to(tmp_path)) for path in tmp_path.glob("*/*")}
    assert there == {"north/8-0", "north/9-1", "south-2/7-0"}
    assert not (tmp_path / "north/9-1").exists()


def test_state_that_cannot_be_removed_leaves_the_result_alone(no_ray, tmp_path, monkeypatch):
    def rmtree(path, ignore_errors=False):
        if not ignore_errors:
            raise OSError(39, "Directory not empty", path)

    monkeypatch.setattr(shutil, "rmtree", rmtree)
    ended = False
    with ray_on_nodes(ALLOCATION, tmp_path):
        ended = True
    assert ended
    assert (tmp_path / "north/9-1").exists()
