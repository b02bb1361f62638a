"""Builds of DeepSpeed's extensions: one at a time, and none waits for one that was killed."""

import os
import threading
import time

import pytest

from e2llm_core.training import extensions
from e2llm_core.training.extensions import build_communication, only_build


@pytest.fixture(name="folder")
def build_folder(tmp_path):
    folder = tmp_path / "op"
    folder.mkdir()
    return folder


def test_the_mark_of_a_killed_build_is_removed(folder):
    mark = folder / "lock"
    mark.touch()
    long_ago = time.time() - extensions.FOREIGN_SECONDS - 1
    os.utime(mark, (long_ago, long_ago))
    with only_build(folder):
        assert not mark.exists()


def test_a_build_of_another_program_is_waited_for(folder):
    mark = folder / "lock"
    mark.touch()
    threading.Timer(0.5, mark.unlink).start()
    with only_build(folder):
        assert not mark.exists()


def test_a_mark_is_not_waited_for_longer_than_a_build_takes(folder, monkeypatch):
    monkeypatch.setattr(extensions, "FOREIGN_SECONDS", 0.3)
    (folder / "lock").touch()
    with only_build(folder):
        assert not (folder / "lock").exists()


def test_builds_take_turns(folder):
    inside, most = [], []

    def build() -> None:
        with only_build(folder):
            inside.append(1)
            most.append(len(inside))
            time.sleep(0.05)
            inside.pop()

    threads = [threading.Thread(target=build) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 4


def test_deepspeed_builds_where_the_lock_is_taken(monkeypatch, tmp_path):
    import deepspeed
    from deepspeed.accelerator import get_accelerator

    class Builder:
        NAME = name = "deepspeed_shm_comm"

        def load(self) -> None:
            taken.append(sorted(path.name for path in tmp_path.rglob("*.lock")))

    taken: list[list[str]] = []
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path))
    monkeypatch.setattr(deepspeed.ops, "__compatible_ops__", {Builder.NAME: True})
    monkeypatch.setattr(type(get_accelerator()), "create_op_builder", lambda self, name: Builder())
    build_communication()
    assert taken == [[".deepspeed_shm_comm.lock"]]
