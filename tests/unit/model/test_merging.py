import json
import subprocess
import sys

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from e2llm_core import E2LLMForConditionalGeneration, E2LLMProcessor
from e2llm_core.model import merging
from e2llm_core.model.merging import merge_model
from e2llm_core.model.model_io import llm_digest, model_digest
from storage.errors import InputError


def add_lora(llm):
    torch.manual_seed(5)
    modules = ["q_proj", "v_proj", "down_proj"]
    config = LoraConfig(r=4, target_modules=modules, init_lora_weights=False, task_type="CAUSAL_LM")
    return get_peft_model(llm, config).eval()


def logits_of(model, batch):
    with torch.no_grad():
        return model(batch["input_ids"], batch["attention_mask"], eeg=batch["eeg"]).logits


def text_logits(llm, ids):
    with torch.no_grad():
        return llm(ids).logits


@pytest.fixture
def handed_on(tmp_path, make_model, make_llm, processor):
    """Write a run's model folder and return the run, and the model it holds."""

    def make(kind, tie=True):
        llm = make_llm(tie=tie)
        folder = tmp_path / "run" / "model"
        if kind == "full":
            model = make_model(llm)
            model.save_pretrained(folder)
        else:
            llm.save_pretrained(tmp_path / "llm")
            model = make_model(add_lora(llm) if kind == "lora" else llm)
            model.save_pretrained(folder, save_llm=False, llm_name=tmp_path / "llm")
        processor.save_pretrained(folder)
        (folder / "probe.json").write_text('{"labels": ["sad", "happy"]}')
        return tmp_path / "run", model

    return make


@pytest.mark.parametrize("tie", [True, False])
@pytest.mark.parametrize("kind", ["lora", "full", "stage2"])
def test_a_merged_model_answers_as_the_one_it_was_made_from(tmp_path, handed_on, batch, kind, tie):
    run, model = handed_on(kind, tie)
    out = merge_model(run, tmp_path / "out" / "merged")
    again = E2LLMForConditionalGeneration.from_pretrained(out)
    expected = logits_of(model, batch)
    torch.testing.assert_close(logits_of(again, batch), expected, atol=1e-5 * float(expected.abs().max()), rtol=0)
    assert again.config.llm_source is None
    assert not (out / "adapter").exists()
    assert not list(out.rglob("*.bin"))
    plain = AutoModelForCausalLM.from_pretrained(out / "llm").eval()
    ids = batch["input_ids"][:, :6].clamp(max=300)
    wanted = text_logits(model.llm, ids)
    torch.testing.assert_close(text_logits(plain, ids), wanted, atol=1e-5 * float(wanted.abs().max()), rtol=0)
    assert plain.config.tie_word_embeddings is tie
    assert (plain.lm_head.weight is plain.model.embed_tokens.weight) is tie
    assert all(tensor.numel() for file in out.rglob("*.safetensors") for tensor in load_file(file).values())


def test_the_adapter_mattered(handed_on, make_model, make_llm, batch):
    _, model = handed_on("lora")
    assert (logits_of(model, batch) - logits_of(make_model(make_llm()), batch)).abs().max() > 0.1


def test_it_loads_without_peft_and_without_the_language_model_it_came_from(tmp_path, handed_on):
    run, _ = handed_on("lora")
    out = merge_model(run / "model", tmp_path / "merged")
    (tmp_path / "llm").rename(tmp_path / "gone")
    code = (
        "import sys; sys.modules['peft'] = None\n"
        "from e2llm_core import E2LLMForConditionalGeneration as Model\n"
        "Model.from_pretrained(sys.argv[1])\n"
    )
    ended = subprocess.run([sys.executable, "-c", code, str(out)], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr


def test_sharded_files_have_an_index_and_hold_the_same(tmp_path, handed_on):
    run, model = handed_on("lora", tie=False)
    out = merge_model(run, tmp_path / "merged", max_shard_size="40KB")
    index = json.loads((out / "llm" / "model.safetensors.index.json").read_text())
    assert len(set(index["weight_map"].values())) > 1
    plain = AutoModelForCausalLM.from_pretrained(out / "llm")
    merged = model.llm.merge_and_unload()
    for name, tensor in merged.state_dict().items():
        torch.testing.assert_close(plain.state_dict()[name], tensor)


def test_processor_tokenizer_probe_and_card_are_there(tmp_path, handed_on, processor):
    run, _ = handed_on("lora")
    out = merge_model(run, tmp_path / "merged")
    text = "<|im_start|>user\nhi <|eeg_start|><|im_end|>"
    for folder in (out, out / "llm"):
        assert AutoTokenizer.from_pretrained(folder).encode(text) == processor.tokenizer.encode(text)
    assert E2LLMProcessor.from_pretrained(out).num_eeg_tokens == processor.num_eeg_tokens
    assert (out / "probe.json").read_text() == (run / "model" / "probe.json").read_text()
    card = (out / "README.md").read_text()
    for digest in (model_digest(run / "model"), model_digest(out), llm_digest(out / "llm")):
        assert digest in card
    assert "r 4" in card
    assert "sad, happy" in card
    assert str(tmp_path) not in card


def test_a_full_models_card_says_that_nothing_was_folded(tmp_path, handed_on):
    run, _ = handed_on("full")
    assert "had no adapter" in (merge_model(run, tmp_path / "merged") / "README.md").read_text()


def test_an_existing_target_is_left_alone(tmp_path, handed_on):
    run, _ = handed_on("full")
    (tmp_path / "merged").mkdir()
    with pytest.raises(InputError, match="exists"):
        merge_model(run, tmp_path / "merged")
    assert list((tmp_path / "merged").iterdir()) == []


def test_a_failure_leaves_nothing(tmp_path, handed_on, monkeypatch):
    run, _ = handed_on("full")

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(merging, "_card", fail)
    with pytest.raises(OSError, match="disk full"):
        merge_model(run, tmp_path / "merged")
    assert not list(tmp_path.glob("merged*"))


def test_an_empty_tensor_is_never_handed_out(tmp_path):
    save_file({"whole": torch.ones(2), "hollow": torch.ones(0, 3)}, tmp_path / "model.safetensors")
    with pytest.raises(RuntimeError, match="hollow"):
        merging._require_whole(tmp_path)


@pytest.mark.parametrize("what", ["absent", "no model", "no language model"])
def test_what_cannot_be_merged_is_refused_in_one_line(tmp_path, handed_on, what):
    run, _ = handed_on("lora")
    source = tmp_path / "nowhere" if what == "absent" else tmp_path / "llm"
    if what == "no language model":
        (tmp_path / "llm" / "model.safetensors").unlink()
        source = run
    with pytest.raises(InputError) as error:
        merge_model(source, tmp_path / "merged")
    assert "\n" not in str(error.value)
    assert not list(tmp_path.glob("merged*"))
