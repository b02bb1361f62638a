from collections import OrderedDict

import pytest
import torch

from e2llm_core.training.background import BackgroundCheckpointEngine


def test_what_is_written_is_what_was_given_not_what_it_became(tmp_path):
    tensor = torch.arange(6.0)
    shared = tensor[2:4]
    state = {"a": [tensor, (shared, 3)], "b": OrderedDict(c=tensor, shape=torch.Size([2])), 7: "text"}
    writer = BackgroundCheckpointEngine()
    writer.save(state, str(tmp_path / "file.pt"))
    tensor.zero_()
    writer.finish()
    found = torch.load(tmp_path / "file.pt", weights_only=True)
    assert found["a"][0].tolist() == [0, 1, 2, 3, 4, 5]
    assert found["a"][1][0].tolist() == [2, 3]
    assert type(found["b"]) is OrderedDict
    assert found["b"]["shape"] == torch.Size([2])
    assert found[7] == "text"
    assert not writer.is_writing


def test_a_part_of_a_big_tensor_is_written_as_a_part(tmp_path):
    writer = BackgroundCheckpointEngine()
    writer.save({"part": torch.zeros(1_000_000)[:10]}, str(tmp_path / "file.pt"))
    writer.finish()
    assert (tmp_path / "file.pt").stat().st_size < 10_000


def test_what_could_not_be_written_is_raised_once(tmp_path):
    writer = BackgroundCheckpointEngine()
    writer.save({"a": torch.zeros(3)}, str(tmp_path / "absent" / "file.pt"))
    with pytest.raises(FileNotFoundError):
        writer.finish()
    writer.finish()


def test_it_is_writing_until_it_has_written(tmp_path, monkeypatch):
    import threading

    gate = threading.Event()
    plain = torch.save
    monkeypatch.setattr(torch, "save", lambda *given, **named: (gate.wait(20), plain(*given, **named)))
    writer = BackgroundCheckpointEngine()
    writer.save({"a": torch.zeros(3)}, str(tmp_path / "file.pt"))
    assert writer.is_writing
    gate.set()
    writer.finish()
    assert (tmp_path / "file.pt").exists()
