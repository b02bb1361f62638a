"""What is done in the folder that the jobs' launchers share."""

from cluster.slurm.ray_cluster import _sweep


def test_state_of_jobs_that_have_no_nodes_any_more_is_removed(tmp_path):
    for name in ("7-0", "7-1", "8-0", "12-3"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "token").write_text("secret")
    _sweep(tmp_path, {8})
    assert [path.name for path in tmp_path.iterdir()] == ["8-0"]


def test_a_folder_that_is_not_there_yet_needs_no_sweeping(tmp_path):
    _sweep(tmp_path / "runs", set())
    assert not (tmp_path / "runs").exists()
