"""Builds of DeepSpeed's extensions: one at a time, and none waits for one that was killed."""

import os
import signal
import threading
import time

import pytest
from deepspeed.ops.op_builder import AsyncIOBuilder
from deepspeed.ops.op_builder.builder import OpBuilder

from e2llm_core.training import extensions
from e2llm_core.training.extensions import build_asynchronous_io, build_communication, only_build


@pytest.fixture(name="folder")
def build_folder(tmp_path):
    folder = tmp_path / "op"
    folder.mkdir()
    return folder


def test_a_killed_build_is_not_waited_for(folder):
    child = os.fork()
    if child == 0:
        with only_build(folder):
            (folder / "lock").touch()
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    with only_build(folder):
        assert not (folder / "lock").exists()


def test_after_a_build_that_failed_others_are_waited_for_again(folder):
    with pytest.raises(RuntimeError), only_build(folder):
        raise RuntimeError
    test_a_build_of_another_program_is_waited_for(folder)


def test_an_old_mark_is_removed(folder):
    mark = folder / "lock"
    mark.touch()
    long_ago = time.time() - extensions.FOREIGN_SECONDS - 1
    os.utime(mark, (long_ago, long_ago))
    with only_build(folder):
        assert not mark.exists()


def test_a_build_of_another_program_is_waited_for(folder):
    mark = folder / "lock"
    mark.touch()
    started = time.monotonic()
    threading.Timer(0.5, mark.unlink).start()
    with only_build(folder):
        assert time.monotonic() - started >= 0.5
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


@pytest.fixture(name="builds")
def recorded_builds(monkeypatch, tmp_path) -> list[list[str]]:
    """Locks that are there when DeepSpeed builds, which it only seems to do here."""
    builds: list[list[str]] = []
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path))

    def load(builder: object, verbose: bool = False) -> None:
        builds.append(sorted(path.name for path in tmp_path.rglob("*.lock")))

    monkeypatch.setattr(OpBuilder, "load", load)
    return builds


def test_communication_is_built_where_the_lock_is_taken(monkeypatch, builds):
    import deepspeed
    from deepspeed.accelerator import get_accelerator

    class Builder:
        NAME = name = "deepspeed_shm_comm"
        load = OpBuilder.load

    monkeypatch.setattr(deepspeed.ops, "__compatible_ops__", {Builder.NAME: True})
    monkeypatch.setattr(type(get_accelerator()), "create_op_builder", lambda self, name: Builder())
    build_communication()
    assert builds == [[".deepspeed_shm_comm.lock"]]


def test_asynchronous_io_is_built_after_what_it_is_linked_to(monkeypatch, builds):
    monkeypatch.setattr(AsyncIOBuilder, "load", OpBuilder.load)
    monkeypatch.setattr(AsyncIOBuilder, "is_compatible", lambda self, verbose: True)
    assert build_asynchronous_io()
    assert builds == [[".pin_memory.lock"], [".async_io.lock", ".pin_memory.lock"]]


def test_asynchronous_io_is_not_tried_without_its_library(monkeypatch, builds):
    monkeypatch.setattr(AsyncIOBuilder, "is_compatible", lambda self, verbose: False)
    assert not build_asynchronous_io()
    assert not builds
