import json

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM, Qwen3ForCausalLM

from e2llm_core import E2LLMConfig, E2LLMForConditionalGeneration
from e2llm_core.model.model_io import llm_place, load_llm, make_llm_source
from e2llm_core.stages.language import prepare_llm
from e2llm_core.training.config import TrainConfig
from storage.errors import InputError
from storage.places.scratch import scratch_folder


def add_lora(llm):
    config = LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False, task_type="CAUSAL_LM")
    return get_peft_model(llm, config).eval()


def logits_of(model, batch):
    with torch.no_grad():
        return model(batch["input_ids"], batch["attention_mask"], eeg=batch["eeg"]).logits


@pytest.mark.parametrize("tie", [True, False])
@pytest.mark.parametrize("projector", [{"kind": "mlp"}, {"kind": "resampler", "num_queries": 5, "num_heads": 2}])
def test_plain_round_trip_is_bit_exact(tmp_path, make_model, make_llm, batch, tie, projector):
    model = make_model(make_llm(tie=tie), **projector)
    model.save_pretrained(tmp_path)
    assert not list(tmp_path.rglob("*.bin"))
    again = E2LLMForConditionalGeneration.from_pretrained(tmp_path)
    assert torch.equal(logits_of(again, batch), logits_of(model, batch))
    assert again.config.labels == ["sad", "happy"]
    state = model.state_dict()
    assert all(torch.equal(state[key], value) for key, value in again.state_dict().items())


def test_transformers_auto_classes_find_the_model(tmp_path, make_model, batch):
    model = make_model()
    model.save_pretrained(tmp_path)
    config = AutoConfig.from_pretrained(tmp_path)
    assert isinstance(config, E2LLMConfig)
    assert config.text_config.model_type == "qwen3"
    assert config.num_eeg_tokens == 5
    again = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert torch.equal(logits_of(again, batch), logits_of(model, batch))


def test_adapted_round_trip_is_bit_exact_and_the_adapter_fits_the_bare_qwen(tmp_path, make_model, make_llm, batch):
    model = make_model(add_lora(make_llm()))
    model.save_pretrained(tmp_path)
    again = E2LLMForConditionalGeneration.from_pretrained(tmp_path)
    assert torch.equal(logits_of(again, batch), logits_of(model, batch))
    assert not any(p.requires_grad for n, p in again.llm.named_parameters() if "lora_" in n)
    trainable = E2LLMForConditionalGeneration.from_pretrained(tmp_path, is_trainable=True)
    assert all(p.requires_grad for n, p in trainable.llm.named_parameters() if "lora_" in n)

    bare = Qwen3ForCausalLM.from_pretrained(tmp_path / "llm")
    original = make_llm().state_dict()
    assert all(torch.equal(original[key], value) for key, value in bare.state_dict().items())
    ids = batch["input_ids"]
    wrapped = PeftModel.from_pretrained(bare, tmp_path / "adapter").eval()
    with torch.no_grad():
        assert torch.equal(wrapped(input_ids=ids).logits, model.llm(input_ids=ids).logits)


def test_referenced_llm_is_checked_by_digest(tmp_path, make_model, make_llm, batch):
    make_llm().save_pretrained(tmp_path / "qwen")
    model = make_model(add_lora(Qwen3ForCausalLM.from_pretrained(tmp_path / "qwen").eval()))
    model.save_pretrained(tmp_path / "run" / "model", save_llm=False)
    assert not (tmp_path / "run" / "model" / "llm").exists()
    source = json.loads((tmp_path / "run" / "model" / "config.json").read_text())["llm_source"]
    assert source["name"] == "../../qwen"
    again = E2LLMForConditionalGeneration.from_pretrained(tmp_path / "run" / "model")
    assert torch.equal(logits_of(again, batch), logits_of(model, batch))

    (tmp_path / "qwen").rename(tmp_path / "moved")
    with pytest.raises(ValueError, match=r"no such folder\. Name the language model with llm=PATH"):
        E2LLMForConditionalGeneration.from_pretrained(tmp_path / "run" / "model")
    named = E2LLMForConditionalGeneration.from_pretrained(tmp_path / "run" / "model", llm=tmp_path / "moved")
    assert torch.equal(logits_of(named, batch), logits_of(model, batch))
    weights = tmp_path / "moved" / "model.safetensors"
    tensors = load_file(weights)
    tensors["model.norm.weight"] += 1e-3
    save_file(tensors, weights, metadata={"format": "pt"})
    with pytest.raises(ValueError, match="is not the recorded"):
        E2LLMForConditionalGeneration.from_pretrained(tmp_path / "run" / "model", llm=tmp_path / "moved")


def test_unknown_source_and_ungathered_tensors_are_refused(tmp_path, make_model, make_llm):
    with pytest.raises(ValueError, match="the language model has no source"):
        make_model().save_pretrained(tmp_path, save_llm=False)
    empty = {"x": torch.zeros(0)}
    for part in ("tower", "projector", "adapter", "llm"):
        with pytest.raises(ValueError, match=r"empty tensors \['x'\]"):
            make_model(add_lora(make_llm())).save_pretrained(tmp_path, tensors={part: empty})


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("projector.safetensors", "missing mlp.0.bias"),
        ("tower.safetensors", "missing encoder.norm.bias"),
        ("llm/model.safetensors", r"missing \['model.norm.weight'\]"),
        ("adapter/adapter_model.safetensors", "adapter .* missing"),
    ],
)
def test_incomplete_files_are_refused(tmp_path, make_model, make_llm, file, message):
    make_model(add_lora(make_llm())).save_pretrained(tmp_path)
    tensors = load_file(tmp_path / file)
    for key in ("mlp.0.bias", "encoder.norm.bias", "model.norm.weight"):
        tensors.pop(key, None)
    if "adapter" in file:
        tensors.pop(next(iter(tensors)))
    save_file(tensors, tmp_path / file, metadata={"format": "pt"})
    with pytest.raises(ValueError, match=message):
        E2LLMForConditionalGeneration.from_pretrained(tmp_path)


def test_remote_code_and_pickles_are_refused(tmp_path, make_model, make_llm):
    make_model(add_lora(make_llm())).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="trust_remote_code"):
        E2LLMForConditionalGeneration.from_pretrained(tmp_path, trust_remote_code=True)
    weights = tmp_path / "adapter" / "adapter_model.safetensors"
    torch.save(load_file(weights), tmp_path / "adapter" / "adapter_model.bin")
    weights.unlink()
    with pytest.raises(ValueError, match="Save the adapter as safetensors"):
        E2LLMForConditionalGeneration.from_pretrained(tmp_path)


def test_a_language_model_that_is_nowhere_is_refused(tmp_path, monkeypatch):
    """Without a network: the hub's cache is empty, and no connection is tried."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    with pytest.raises(InputError, match="Qwen/Qwen3-8B: no such folder, the hub cannot be reached, and its cache"):
        load_llm("Qwen/Qwen3-8B")
    with pytest.raises(InputError, match=r"absent: no such folder\. Give a model folder or a hub id"):
        load_llm(tmp_path / "absent")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="empty"):
        load_llm(tmp_path / "empty")


def test_what_is_loaded_keeps_the_name_it_was_asked_by(tmp_path, make_llm):
    make_llm().save_pretrained(tmp_path)
    llm = load_llm(tmp_path)
    assert llm.name_or_path == llm.config._name_or_path == str(tmp_path)


def test_activations_are_recomputed_where_the_spec_asks(make_llm):
    llm = make_llm()
    prepare_llm(llm, TrainConfig())
    assert not llm.is_gradient_checkpointing
    prepare_llm(llm, TrainConfig(activation_checkpointing=True))
    assert llm.is_gradient_checkpointing


@pytest.mark.parametrize(
    ("model", "source", "place"),
    [
        ("/runs/stage2/model", None, "/runs/stage2/model/llm"),
        ("/runs/stage2/model", ("folder", "../../llm/model"), "/runs/llm/model"),
        ("s3://lab/runs/stage2/model", None, "s3://lab/runs/stage2/model/llm"),
        ("s3://lab/runs/stage2/model", ("folder", "../../llm/model"), "s3://lab/runs/llm/model"),
        ("s3://lab/runs/stage2/model", ("folder", "/shared/llm"), "/shared/llm"),
        ("/runs/stage2/model", ("url", "s3://lab/llm"), "s3://lab/llm"),
        ("s3://lab/runs/stage2/model", ("hub", "Qwen/Qwen3-8B"), "Qwen/Qwen3-8B"),
    ],
)
def test_the_language_model_is_found_wherever_the_model_lies(model, source, place):
    assert llm_place(model, source and dict(zip(("kind", "name"), source, strict=True))) == place


def test_a_model_written_in_scratch_space_names_its_language_model_by_its_own_path(tmp_path, make_llm, monkeypatch):
    monkeypatch.setenv("E2LLM_SCRATCH", str(tmp_path / "scratch"))
    make_llm().save_pretrained(tmp_path / "llm")
    beside = make_llm_source(tmp_path / "llm", tmp_path / "run" / "model")
    assert beside["name"] == "../../llm"
    in_scratch = make_llm_source(tmp_path / "llm", scratch_folder("s3://lab/run") / "model")
    assert in_scratch["name"] == str(tmp_path / "llm")
