import argparse
import collections
import pathlib

import pytest
import torch
from safetensors.torch import load_file, save_file

from e2llm_core.encoders import load_encoder
from e2llm_core.encoders.eegpt.weights import convert_checkpoint

TINY = {"dim": 16, "depth": 1, "num_heads": 2}


@pytest.fixture
def source():
    torch.manual_seed(5)
    return load_encoder("eegpt", config=TINY)


def checkpoint_of(encoder, **extra) -> dict:
    state = {f"target_encoder.{key}": value for key, value in encoder.state_dict().items()}
    return {"state_dict": state | {"predictor.mask_token": torch.zeros(1)}, "epoch": 3, **extra}


def assert_same_weights(first, second) -> None:
    for key, value in first.state_dict().items():
        assert torch.equal(second.state_dict()[key], value)


@pytest.mark.parametrize("prefix", ["", "target_encoder."])
def test_safetensors(tmp_path, source, prefix):
    path = tmp_path / "w.safetensors"
    save_file({prefix + key: value.contiguous() for key, value in source.state_dict().items()}, path)
    assert_same_weights(source, load_encoder("eegpt", weights=path, config=TINY))


def test_plain_checkpoint_loads_directly(tmp_path, source):
    torch.save(checkpoint_of(source), tmp_path / "w.ckpt")
    assert_same_weights(source, load_encoder("eegpt", weights=tmp_path / "w.ckpt", config=TINY))


def test_lightning_checkpoint_is_converted_once(tmp_path, source):
    ckpt = tmp_path / "w.ckpt"
    hyper = argparse.Namespace(lr=0.1)
    torch.save(checkpoint_of(source, hparams=hyper, callbacks=collections.defaultdict(list)), ckpt)
    with pytest.raises(ValueError, match="Convert it once") as error:
        load_encoder("eegpt", weights=ckpt, config=TINY)
    assert "convert_checkpoint(ckpt, out_safetensors)" in str(error.value)
    out = convert_checkpoint(ckpt, tmp_path / "w.safetensors")
    assert set(load_file(out)) == set(source.state_dict())
    assert_same_weights(source, load_encoder("eegpt", weights=out, config=TINY))
    assert not list(tmp_path.glob("*.partial"))


class Payload:
    def __reduce__(self):
        return (pathlib.Path.touch, (pathlib.Path("executed-by-pickle"),))


def test_checkpoint_code_is_never_run(tmp_path, source, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save(checkpoint_of(source, hparams=Payload()), "w.ckpt")
    with pytest.raises(ValueError, match="not readable as tensors only"):
        load_encoder("eegpt", weights="w.ckpt", config=TINY)
    with pytest.raises(ValueError, match="not readable as tensors only"):
        convert_checkpoint("w.ckpt", "w.safetensors")
    assert not pathlib.Path("executed-by-pickle").exists()


def test_strict_loading_names_every_problem(tmp_path, source):
    state = {key: value.contiguous() for key, value in source.state_dict().items()}
    state["norm.scale"] = state.pop("norm.weight")
    state["norm.bias"] = torch.zeros(3)
    save_file(state, tmp_path / "w.safetensors")
    with pytest.raises(
        ValueError, match=r"missing norm\.weight; unexpected norm\.scale; wrong shape norm\.bias"
    ) as error:
        load_encoder("eegpt", weights=tmp_path / "w.safetensors", config=TINY)
    assert "(3,) instead of (16,)" in str(error.value)


def test_other_files_are_refused(tmp_path):
    with pytest.raises(ValueError, match="no such file"):
        load_encoder("eegpt", weights=tmp_path / "none.ckpt", config=TINY)
    (tmp_path / "w.bin").write_bytes(b"x")
    with pytest.raises(ValueError, match="unknown suffix"):
        load_encoder("eegpt", weights=tmp_path / "w.bin", config=TINY)
    torch.save({"state_dict": {"encoder.x": torch.zeros(1)}}, tmp_path / "w.ckpt")
    with pytest.raises(ValueError, match=r"no tensor begins with 'target_encoder\.'"):
        load_encoder("eegpt", weights=tmp_path / "w.ckpt", config=TINY)
