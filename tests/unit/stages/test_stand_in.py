"""The stand-in language model in the repository is what its spec makes, and serves more than one label set."""

import json
from itertools import count
from pathlib import Path

import numpy as np
import pytest
import torch

from e2llm_core.claims.claims import statements_in
from e2llm_core.llm.families.table import STAND_IN, family_of
from e2llm_core.llm.tokens import load_tokenizer
from e2llm_core.model.model_io import load_llm
from e2llm_core.model.processing_e2llm import E2LLMProcessor
from e2llm_core.stages.tiny_llm.card import CORPUS, corpus_digest
from e2llm_core.stages.tiny_llm.stage import ScoredText, TextPretraining
from e2llm_core.tasks.facts import CLAIMS_PER_RATIONALE
from e2llm_core.tasks.notes import drawn_segment_of
from e2llm_core.tasks.registry import LABELLING, TASKS
from e2llm_core.tower.tower import EEGSettings
from e2llm_core.training.trainer import Trainer
from e2llm_core.training.world import World
from jobs.load import load_spec
from jobs.spec import SPECS
from storage.labels import SEED_VII

ROOT = Path(__file__).resolve().parents[3]
SPEC, FOLDER = ROOT / "jobs" / "tiny-llm.yaml", ROOT / "jobs" / "stand-in"
STEPS = 10
LARGEST_BYTES = 8 * 2**20


@pytest.fixture(scope="module")
def spec():
    return load_spec(SPEC, [], SPECS).spec


@pytest.fixture(scope="module")
def stage(spec) -> TextPretraining:
    return spec.stage()


@pytest.fixture
def llm():
    return load_llm(FOLDER, dtype="float32").eval()


def rows(folder: Path) -> dict[tuple[str, int], dict[str, float]]:
    """Rows of a run's metrics by split and step."""
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return {(row["split"], row["step"]): row for row in map(json.loads, lines)}


def test_it_is_small_and_its_card_names_the_corpus():
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < LARGEST_BYTES
    assert json.loads((FOLDER / CORPUS).read_text())["digest"] in (FOLDER / "README.md").read_text()


def test_the_corpus_and_the_tokenizer_are_those_of_the_spec(stage, spec):
    known = json.loads((FOLDER / CORPUS).read_text())
    assert corpus_digest(stage.texts) == known["digest"]
    assert known["settings"] == json.loads(spec.model.model_dump_json())
    shipped = load_tokenizer(FOLDER)
    assert shipped.get_vocab() == stage.tokenizer.get_vocab()
    assert all(shipped.encode(text) == stage.tokenizer.encode(text) for text in stage.texts[:20])


def test_its_first_steps_come_back(stage, spec, tmp_path):
    asked = count()
    ended = Trainer(stage, spec.train, tmp_path, World(), stop=lambda: next(asked) >= STEPS).fit()
    assert ended == "stopped"
    made, kept = rows(tmp_path), rows(FOLDER)
    for step in (1, STEPS):
        assert made["train", step]["nll"] == pytest.approx(kept["train", step]["nll"], rel=0.01)


def test_it_reads_the_corpus_as_well_as_its_run_says(stage, llm):
    last = max((step, row["nll"]) for (split, step), row in rows(FOLDER).items() if split == "validation")[1]
    with torch.no_grad():
        found = stage.validate(ScoredText(llm), World())["nll"]
    assert found == pytest.approx(last, rel=0.05)


def answered(llm, question: str) -> tuple[str | None, str]:
    """Its chain of thought and its answer to a question, taking the likeliest token each time."""
    tokenizer = load_tokenizer(FOLDER)
    processor = E2LLMProcessor(tokenizer, 1, EEGSettings(channels=("CZ",)), family_of(STAND_IN))
    prompt = processor.build_prompt([{"role": "user", "content": question}])
    ids = torch.tensor([tokenizer.encode(prompt, add_special_tokens=False)])
    with torch.no_grad():
        made = llm.generate(ids, max_new_tokens=120, do_sample=False, pad_token_id=tokenizer.pad_token_id)
    return processor.split_answer(processor.batch_decode(made[:, ids.shape[1] :])[0])


LABEL_SETS = [("calm", "tense", "drowsy", "alert"), ("positive", "negative"), SEED_VII.names]


@pytest.mark.parametrize("labels", LABEL_SETS)
def test_it_serves_several_label_sets(llm, labels):
    rng, right, repeated = np.random.default_rng(0), [], []
    for label in labels * (12 // len(labels)):
        noted = drawn_segment_of(label, rng)
        thinking, answer = answered(llm, LABELLING.ask(labels, (noted.text,)))
        right.append(answer == label)
        said = {(claim.quantity, claim.above) for claim in statements_in(thinking or "").claims}
        repeated += [(claim.quantity, claim.above) in said for claim in noted.claims[:CLAIMS_PER_RATIONALE]]
    assert np.mean(right) > 0.8
    assert np.mean(repeated) > 0.9


@pytest.mark.parametrize("labels", LABEL_SETS)
def test_it_compares_the_labels_of_two_segments_in_words(llm, labels):
    right = []
    for number in range(16):
        dialogue = TASKS["EPC"].in_words(labels, np.random.default_rng(number))
        right.append(answered(llm, dialogue.user)[1] == dialogue.answer)
    assert np.mean(right) > 0.8
