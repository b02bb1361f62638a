"""What is said of a node when its commands do not answer."""

import subprocess

import pytest

from cluster.environment import environment


@pytest.mark.parametrize("error", [subprocess.TimeoutExpired("git", 20), FileNotFoundError("git")])
def test_commands_that_hang_or_are_absent_leave_a_gap(monkeypatch, tmp_path, error):
    def run(*command, **options):
        raise error

    monkeypatch.setattr(subprocess, "run", run)
    found = environment(tmp_path)
    assert found["gpus"] == []
    assert found["git"] == {"commit": None, "changed": None}
