import pytest
import torch
from peft import LoraConfig, get_peft_model

from e2llm_core.model.modeling_e2llm import E2LLMForConditionalGeneration
from e2llm_core.model.projector import embedding_rms


def add_lora(llm):
    config = LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False, task_type="CAUSAL_LM")
    return get_peft_model(llm, config)


def snapshot(module) -> dict[str, torch.Tensor]:
    return {key: value.clone() for key, value in module.state_dict().items()}


def test_composition_leaves_ready_made_weights_alone(make_model, make_tower, make_llm):
    base = make_model()
    tower, llm, projector = make_tower(), make_llm(), base.projector
    with torch.no_grad():
        for module in (tower, llm, projector):
            for parameter in module.parameters():
                parameter.add_(0.37)
    before = [snapshot(module) for module in (tower, projector, llm)]
    model = E2LLMForConditionalGeneration.from_parts(base.config, tower, projector, llm)
    model.post_init()
    for kept, module in zip(before, (model.tower, model.projector, model.llm), strict=True):
        assert all(torch.equal(kept[key], value) for key, value in module.state_dict().items())


def test_random_model_from_config_alone(make_model, batch):
    model = E2LLMForConditionalGeneration(make_model().config)
    assert torch.isfinite(model(**batch).loss)


@pytest.mark.parametrize("projector", [{"kind": "mlp"}, {"kind": "resampler", "num_queries": 3, "num_heads": 2}])
def test_projector_starts_at_the_scale_of_the_embeddings(make_model, segments, projector):
    model = make_model(**projector)
    embeddings = model.encode_eeg(segments[1])
    assert embeddings.shape == (2, model.config.num_eeg_tokens, 32)
    assert embeddings.pow(2).mean().sqrt().item() == pytest.approx(embedding_rms(model.llm), rel=0.02)


def test_segments_fill_their_placeholders_in_order(make_model, batch):
    model = make_model()
    embeds = model.embed(batch["input_ids"], batch["eeg"])
    mask = batch["input_ids"] == model.config.eeg_token_id
    torch.testing.assert_close(embeds[mask], model.encode_eeg(batch["eeg"]).flatten(0, 1))
    assert torch.equal(embeds[~mask], model.get_input_embeddings()(batch["input_ids"])[~mask])
    features = model.tower(batch["eeg"])
    assert torch.equal(model.embed(batch["input_ids"], eeg_features=features), embeds)


def test_placeholder_counts_must_match(make_model, batch):
    model = make_model()
    with pytest.raises(ValueError, match=r"2 segments need 10 placeholder tokens \(5 each\), the prompts hold 15"):
        model(batch["input_ids"], batch["attention_mask"], eeg=batch["eeg"][:2])
    with pytest.raises(ValueError, match="0 segments need 0"):
        model(batch["input_ids"], batch["attention_mask"])
    with pytest.raises(ValueError, match="Give one of them"):
        model.embed(batch["input_ids"], batch["eeg"], batch["eeg"])


def test_a_batch_without_eeg_still_reaches_every_trained_parameter(make_model, processor):
    model = make_model().train()
    prompt = processor.build_prompt([{"role": "user", "content": "No signal."}])
    batch = processor([prompt], [processor.build_target("neutral")])
    plain = model.eval()(**batch).loss
    loss = model.train()(**batch).loss
    assert torch.equal(loss, plain)
    loss.backward()
    for part in (model.tower, model.projector):
        gradients = [parameter.grad for parameter in part.parameters()]
        assert all(g is not None and not g.any() for g in gradients[:-1])
    assert torch.equal(model(**batch, eeg=torch.zeros(0, 4, 256)).loss, plain)


def test_likelihood_equals_cross_entropy_of_full_logits(make_model, batch):
    model = make_model()
    nll, counts = model.supervised_log_likelihood(**batch)
    logits = model(batch["input_ids"], batch["attention_mask"], eeg=batch["eeg"]).logits
    for row in range(2):
        labels = batch["labels"][row, 1:]
        expected = torch.nn.functional.cross_entropy(logits[row, :-1].float(), labels, reduction="sum")
        torch.testing.assert_close(nll[row], expected, atol=1e-4, rtol=1e-5)
        assert counts[row] == (labels != -100).sum()
    output = model(**batch)
    torch.testing.assert_close(output.loss, nll.sum() / counts.sum())
    assert output.token_nll.shape == (int(counts.sum()),)


def test_packed_rows_equal_separate_rows(make_model, processor, prompts, segments):
    model = make_model()
    target = processor.build_target("sad")
    rows = [processor([p], [target], [s]) for p, s in zip(prompts, segments, strict=True)]
    separate = sum(model.supervised_log_likelihood(**row)[0] for row in rows)
    lengths = [row["input_ids"].shape[1] for row in rows]
    packed, count = model.supervised_log_likelihood(
        torch.cat([row["input_ids"] for row in rows], dim=1),
        None,
        torch.cat([row["labels"] for row in rows], dim=1),
        torch.cat(segments),
        position_ids=torch.cat([torch.arange(length) for length in lengths]).unsqueeze(0),
    )
    torch.testing.assert_close(packed, separate, atol=1e-3, rtol=1e-4)
    assert count.item() == 2 * (rows[0]["labels"] != -100).sum()


def test_padding_side_does_not_change_the_likelihood(make_model, processor, prompts, segments):
    model = make_model()
    targets = [processor.build_target("sad"), processor.build_target("the first one")]
    left, right = (
        model.supervised_log_likelihood(**processor(prompts, targets, segments, padding_side=side))[0]
        for side in ("left", "right")
    )
    torch.testing.assert_close(left, right, atol=1e-3, rtol=1e-4)


@pytest.mark.parametrize("adapted", [False, True])
def test_batched_generation_equals_single_cache_free_decoding(
    make_model, make_llm, processor, prompts, segments, adapted
):
    model = make_model(add_lora(make_llm()) if adapted else None)
    suppressed = list(processor.eeg_ids.values())
    inputs = processor(prompts, segments=segments)
    together = model.generate(**inputs, max_new_tokens=8, do_sample=False)
    for row, (prompt, segment) in enumerate(zip(prompts, segments, strict=True)):
        single = processor([prompt], segments=[segment])
        embeds = model.embed(single["input_ids"], single["eeg"])
        wanted: list[int] = []
        for _ in range(8):
            logits = model(inputs_embeds=embeds, use_cache=False).logits[0, -1].detach()
            logits[suppressed] = -torch.inf
            wanted.append(int(logits.argmax()))
            if wanted[-1] == processor.tokenizer.eos_token_id:
                break
            embeds = torch.cat([embeds, model.get_input_embeddings()(torch.tensor([wanted[-1:]]))], dim=1)
        assert together[row].tolist()[: len(wanted)] == wanted
    assert len(set(together.flatten().tolist())) > 2, "the toy model decodes a constant: the test shows nothing"


def test_eeg_tokens_are_never_generated(make_model, processor, prompts, segments):
    model = make_model()
    torch.manual_seed(0)
    inputs = processor(prompts, segments=segments)
    ids = model.generate(**inputs, max_new_tokens=60, do_sample=True, temperature=50.0, top_k=0, top_p=1.0)
    assert not set(ids.flatten().tolist()) & set(processor.eeg_ids.values())


def test_generation_refuses_right_padding_and_missing_masks(make_model, processor, prompts, segments):
    model = make_model()
    right = processor(prompts, segments=segments, padding_side="right")
    with pytest.raises(ValueError, match="padded on the right"):
        model.generate(**right)
    with pytest.raises(ValueError, match="attention_mask: needed for a batch"):
        model.generate(right["input_ids"], eeg=right["eeg"])


def test_frozen_tower_stays_in_evaluation_mode(make_model):
    model = make_model()
    assert model.train().tower.training
    model.tower.requires_grad_(False)
    assert not model.train().tower.training
    assert model.projector.training


def test_embeddings_delegate_and_refusals(make_model, make_tower, make_llm):
    model = make_model()
    assert model.get_input_embeddings() is model.llm.get_input_embeddings()
    assert model.get_output_embeddings() is model.llm.get_output_embeddings()
    with pytest.raises(ValueError, match="exceed 384 embedding rows"):
        E2LLMForConditionalGeneration.assemble(make_tower(), make_llm(), {"eeg_token_id": 384})
    for projector, message in [({"kind": "linear"}, "projector.kind"), ({"width": 3}, "unknown keys")]:
        with pytest.raises(ValueError, match=message):
            E2LLMForConditionalGeneration.assemble(make_tower(), make_llm(), {"eeg_token_id": 1}, projector=projector)
