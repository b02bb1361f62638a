"""Offload that cannot work is refused before anything starts."""

import pytest
from pydantic import ValidationError

from e2llm_core.training import offload
from e2llm_core.training.config import TrainConfig
from e2llm_core.training.offload import check_offload
from storage.errors import InputError


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"offload": "nvme"}, "give both or neither"),
        ({"nvme_path": "/n"}, "give both or neither"),
        ({"offload": "cpu", "nvme_path": "/n"}, "give both or neither"),
        ({"offload": "nvme", "nvme_path": "/n", "zero_stage": 2}, "needs zero_stage 3"),
        ({"offload": "cpu", "zero_stage": 0}, "needs zero_stage 1"),
    ],
)
def test_what_does_not_go_together_is_refused(fields, told):
    with pytest.raises(ValidationError, match=told):
        TrainConfig(**fields)


def nvme(path) -> TrainConfig:
    return TrainConfig(offload="nvme", nvme_path=path)


def found(monkeypatch, there: bool) -> None:
    monkeypatch.setattr(offload, "build_asynchronous_io", lambda: there)


def test_a_folder_that_cannot_be_written_is_refused(tmp_path, monkeypatch):
    found(monkeypatch, True)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"train\.nvme_path: .*file/swap cannot be written"):
        check_offload(nvme(tmp_path / "file" / "swap"))


def test_without_libaio_nvme_is_refused(tmp_path, monkeypatch):
    found(monkeypatch, False)
    with pytest.raises(InputError, match=r"train\.offload: .*libaio, is not installed\. Install libaio"):
        check_offload(nvme(tmp_path))


def test_a_build_that_fails_is_refused_in_one_line(tmp_path, monkeypatch):
    def build() -> bool:
        raise RuntimeError("Error building extension 'async_io'\nninja: subcommand failed")

    monkeypatch.setattr(offload, "build_asynchronous_io", build)
    with pytest.raises(
        InputError, match=r"train\.offload: .*extension 'async_io'\. Install a C\+\+ compiler"
    ) as caught:
        check_offload(nvme(tmp_path))
    assert "\n" not in str(caught.value)


def test_what_can_work_is_not_refused_and_leaves_nothing(tmp_path, monkeypatch):
    found(monkeypatch, True)
    check_offload(nvme(tmp_path / "swap"))
    assert list((tmp_path / "swap").iterdir()) == []
    found(monkeypatch, False)
    check_offload(TrainConfig(offload="cpu"))
