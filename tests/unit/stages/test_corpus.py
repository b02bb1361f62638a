"""Corpora of dialogues: training on one gives the batches that drawing gives, and nothing of something else is read."""

import hashlib
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.batch.corpus import CorpusPlan, CorpusWriter, manifest_of
from e2llm_core.model.config import ProjectorConfig
from e2llm_core.stages.config import CachedDataConfig
from e2llm_core.stages.corpus.checks import SCENARIOS, WORDINGS, LeakCheck, others_of
from e2llm_core.stages.corpus.datasheet import Datasheet
from e2llm_core.stages.corpus.names import WindowNames
from e2llm_core.stages.corpus.reading import OTHER
from e2llm_core.stages.stage2.plan import AlignedModel, Stage2Plan
from e2llm_core.stages.stage3.plan import LoraSettings, Stage3Plan, Stage3TrainConfig, TunedModel
from e2llm_core.tasks.facts import ClaimChoice
from e2llm_core.tasks.question import LISTED
from e2llm_core.tasks.registry import trained_tasks
from e2llm_core.tasks.scenarios.scenario import held_out, taught
from e2llm_core.training.config import TrainConfig
from e2llm_core.training.world import World
from storage.blocks import COMPLETE
from storage.corpus import Corpus, read_others
from storage.errors import InputError
from storage.sampling.order import SampleOrder, WrittenOrder
from storage.splits import BySubject
from storage.windows import Windows

ROWS, BATCH = 24, 6
CHOICE = ClaimChoice(smallest=0, reliability=0, wording="varied")


def data_config(data, **fields) -> CachedDataConfig:
    known = {"store": data.config.store, "windows": data.config.windows, "split": data.config.split}
    return CachedDataConfig(**known | fields)


def plan_of(name: str, data, tower_folder, llm_folder, model, balance="class", **fields):
    config, train = data_config(data, **fields), {"claims": CHOICE, "balance": balance, "seed": 3}
    if name == "stage2":
        aligned = AlignedModel(tower=str(tower_folder), llm=str(llm_folder), projector=ProjectorConfig(kind="worded"))
        return Stage2Plan(data=config, model=aligned, train=train)
    lora = LoraSettings(r=2, alpha=4, target_modules=("q_proj",))
    tasks, training = tuple(trained_tasks()), Stage3TrainConfig(lora=lora, **train)
    return Stage3Plan(data=config, model=TunedModel(start=str(model)), train=training, tasks=tasks)


@pytest.fixture(scope="module")
def worded_folder(data, tower_folder, llm_folder, exported, tmp_path_factory):
    """Stage 2's model with a worded projector."""
    stage = plan_of("stage2", data, tower_folder, llm_folder, None).stage()
    folder = tmp_path_factory.mktemp("worded") / "model"
    exported(stage, folder)
    return folder


@pytest.fixture
def plan(data, tower_folder, llm_folder, worded_folder):
    return lambda name, **fields: plan_of(name, data, tower_folder, llm_folder, worded_folder, **fields)


def written(plan, place, others=None, blocks=None, block=7) -> Corpus:
    """What the job does, in this process."""
    job = CorpusPlan(plan, ROWS, others or {}, block)
    stage = plan.stage()
    rows = [row for name, content in job.others.items() for row in others_of(stage.data, name, content)]
    corpus = Corpus.create(place, manifest_of(job, stage, len(rows)))
    writer = CorpusWriter(plan, rows, str(place), corpus.manifest)
    blocks = corpus.missing() if blocks is None else blocks
    assert set(writer({"block": np.array(blocks)})["problem"]) == {""}
    if not corpus.missing():
        corpus.seal()
        corpus.complete()
    return corpus


def all_batches(stage, seed: int, steps: int):
    order, config = stage.order(seed), TrainConfig(global_batch=BATCH, micro_batch=2, micro_tokens=4096)
    return [
        batch
        for step in range(steps)
        for batch in stage.batches(order.batch(step, BATCH), step * BATCH, config, World())
    ]


def assert_same(ones, others) -> None:
    assert len(ones) == len(others)
    for one, other in zip(ones, others, strict=True):
        assert one.num_targets == other.num_targets
        assert one.tensors.keys() == other.tensors.keys()
        for name, value in one.tensors.items():
            assert torch.equal(value, other.tensors[name]) if torch.is_tensor(value) else value == other.tensors[name]


@pytest.mark.parametrize("balance", ["none", "class-and-subject"])
@pytest.mark.parametrize("name", ["stage2", "stage3"])
def test_training_on_a_corpus_sees_the_batches_that_drawing_gives(name, balance, plan, tmp_path):
    written(plan(name, balance=balance), tmp_path)
    drawing, reading = (plan(name, balance=balance, corpus=corpus).stage() for corpus in (None, str(tmp_path)))
    for stage in (drawing, reading):
        stage.build()
    steps = ROWS // BATCH
    assert_same(all_batches(drawing, 3, steps), all_batches(reading, 3, steps))
    assert reading.size == ROWS
    assert reading.tasks == drawing.tasks


def test_after_the_first_epoch_rows_come_in_another_order(plan, tmp_path):
    written(plan("stage2"), tmp_path)
    order = plan("stage2", corpus=str(tmp_path)).stage().order(3)
    epochs = [order.batch(number, ROWS) for number in range(3)]
    np.testing.assert_array_equal(epochs[0], np.arange(ROWS))
    for epoch in epochs[1:]:
        assert sorted(epoch) == list(range(ROWS))
        assert list(epoch) != list(range(ROWS))


@given(size=st.integers(1, 50), step=st.integers(0, 12), batch=st.integers(1, 20), seed=st.integers(0, 5))
def test_a_written_order_is_the_identity_first_and_a_permutation_later(size, step, batch, seed):
    positions = np.arange(step * batch, (step + 1) * batch)
    found, later = WrittenOrder(size, seed).batch(step, batch), SampleOrder(size, seed).batch(step, batch)
    np.testing.assert_array_equal(found, np.where(positions < size, positions, later))


@pytest.mark.parametrize("block", [1, 5, 64])
def test_rows_do_not_depend_on_who_draws_them(plan, tmp_path, block):
    expected = written(plan("stage3"), tmp_path / "whole", block=ROWS).rows(np.arange(ROWS))
    assert written(plan("stage3"), tmp_path / "parts", block=block).rows(np.arange(ROWS)) == expected


def test_a_killed_job_goes_on_with_what_is_missing(plan, tmp_path):
    half = written(plan("stage2"), tmp_path, blocks=[0, 2])
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "parts").iterdir()}
    assert half.missing() == [1, 3]
    with pytest.raises(InputError, match=r"data\.corpus: .*is not complete.*Run the corpus job"):
        plan("stage2", corpus=str(tmp_path)).stage()
    written(plan("stage2"), tmp_path)
    after = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "parts").iterdir()}
    assert before.items() <= after.items()
    assert len(after) == 4


def test_every_claim_of_a_text_is_in_its_row_and_the_seed_too(plan, tmp_path):
    for row in written(plan("stage2"), tmp_path / "readings").rows(np.arange(ROWS)):
        assert len(row["claims"]) == row["answer"].count(";" if row["task"] == "list" else "average") + (
            row["task"] == "list" and row["answer"] != "nothing."
        )
    rows = written(plan("stage3"), tmp_path).rows(np.arange(ROWS))
    assert [row["seed"] for row in rows] == [[3, position] for position in range(ROWS)]
    assert {row["task"] for row in rows} <= set(trained_tasks())
    said = [row for row in rows if row["task"] == "IED" and row["thinking"]]
    assert any(row["claims"] for row in said)
    for row in said:
        assert row["thinking"].count("average") == len(row["claims"])


def others_file(names, path, **columns) -> bytes:
    rows = {
        "windows": [[names.named(0)], [names.named(3), names.named(1)]],
        "user": ["What is this? <eeg>", "Compare <eeg> and <eeg>."],
        "answer": ["an EEG", "two EEGs"],
    }
    pq.write_table(pa.table(rows | columns), path)
    return path.read_bytes()


@pytest.fixture
def names(data) -> WindowNames:
    return WindowNames(data.windows(data.split.train))


def test_others_dialogues_are_mixed_in_and_trained(plan, names, tmp_path):
    content = others_file(names, tmp_path / "lab.parquet")
    corpus = written(plan("stage3"), tmp_path / "corpus", others={"lab.parquet": content})
    rows = corpus.rows(np.arange(ROWS))
    theirs = [row for row in rows if row["task"] == OTHER]
    assert sorted(row["answer"] for row in theirs) == ["an EEG", "two EEGs"]
    assert all(row["source"] == "lab.parquet" and not row["seed"] and not row["claims"] for row in theirs)
    own = written(plan("stage3"), tmp_path / "own").rows(np.arange(ROWS))
    assert [row for row in rows if row["task"] != OTHER] == own[:-2], "what is drawn stays the same"
    stage = plan("stage3", corpus=str(tmp_path / "corpus")).stage()
    assert stage.tasks == (*trained_tasks(), OTHER)
    stage.build()
    place = next(number for number, row in enumerate(rows) if row["answer"] == "two EEGs")
    (tokenized,) = stage.tokenize(np.array([place]), np.array([0]))
    assert tokenized.windows == (3, 1)
    assert corpus.manifest.others == {"lab.parquet": hashlib.sha256(content).hexdigest()}
    assert sum(batch.tensors["task_targets"][-1] for batch in all_batches(stage, 3, ROWS // BATCH)) > 0
    with pytest.raises(InputError, match=r"others: hold 24 dialogues, and the corpus 24 rows in all\. Raise `samples`"):
        manifest_of(CorpusPlan(plan("stage3"), ROWS, {}, 7), stage, ROWS)


@pytest.mark.parametrize(
    ("columns", "problem"),
    [
        ({"user": ["<eeg>", "<eeg>"]}, r"others: lab: row 1: names 2 windows and has 1 times <eeg>"),
        ({"user": [None, "<eeg> <eeg>"]}, r"lab: 1 rows have no user"),
        ({"answer": [1, 2], "windows": [["a"], ["b"]]}, r"lab: cannot be read"),
        ({"windows": [[None], [None, None]]}, r"lab: row 0: names a window in part"),
        ({"answer": ["a", "<|im_end|>"]}, r"lab: row 1: holds <\|im_end\|>"),
        ({"thinking": ["</think>", None]}, r"lab: row 0: holds </think>"),
        ({"answer": ["a", "b <eeg>"]}, r"lab: row 1: holds <eeg>"),
    ],
)
def test_others_dialogues_that_do_not_fit_are_refused(data, names, tmp_path, columns, problem):
    content = others_file(names, tmp_path / "lab.parquet", **columns)
    with pytest.raises(InputError, match=problem):
        others_of(data, "lab", content)


def test_a_file_without_a_column_or_of_another_kind_is_refused(tmp_path):
    pq.write_table(pa.table({"user": ["a"]}), tmp_path / "f.parquet")
    with pytest.raises(InputError, match=r"lab: has no column windows, answer\. Give it the columns"):
        read_others("lab", (tmp_path / "f.parquet").read_bytes())
    with pytest.raises(InputError, match="lab: cannot be read"):
        read_others("lab", b"windows,user,answer")


def test_what_is_held_out_is_found(data, names, tmp_path):
    check = LeakCheck(data.split, data.store.trials)
    own, theirs = names.named(0), WindowNames(data.windows(data.split.test)).named(0)
    row = {"windows": [own], "user": "What is this? <eeg>", "thinking": None, "answer": "sad"}
    assert not check.of(row)
    leaks = {f"{what} of other sides" for what in ("windows", "subjects", "recordings")}
    assert check.of(row | {"windows": [own, theirs]}) == leaks
    for task in trained_tasks().values():
        question = task.question(data.labels)
        (asked,) = question.messages("happy" if LISTED in question.user else "")
        for text in (asked["content"], f" Well: {asked['content'].upper()}\n"):
            assert check.of(row | {"user": text}) == {WORDINGS}
        assert not check.of(row | {"user": task.ask(data.labels)})
    for scenario in held_out():
        assert check.of(row | {"answer": f"Whoever {scenario.text.upper()} is {scenario.state}."}) == {SCENARIOS}
    assert not any(check.of(row | {"user": f"A person {scenario.text}."}) for scenario in taught())
    for window, problem in (
        (theirs, f"holds {', '.join(sorted(leaks))}"),
        (own | {"window": 99}, "names a window that the training side does not have: .* window 99"),
    ):
        content = others_file(names, tmp_path / "lab.parquet", windows=[[window], [own, own]])
        with pytest.raises(InputError, match=f"others: lab: row 0: {problem}"):
            others_of(data, "lab", content)


@settings(max_examples=40, deadline=None)
@given(stride=st.sampled_from([0.25, 0.6, 1.0]), where=st.floats(0, 0.999))
def test_a_name_is_that_of_one_window(data, stride, where):
    windows = Windows(data.store, data.config.windows.model_copy(update={"stride_seconds": stride}))
    names, number = WindowNames(windows), int(where * len(windows))
    assert names.numbers([names.named(number)], "here") == (number,)


def test_names_count_over_the_parts_that_damage_leaves(data):
    windows = Windows(data.store, data.config.windows)
    trials = windows.trials
    parts = trials.loc[trials.index.repeat(2)].reset_index(drop=True)
    halves = np.arange(len(parts)) % 2
    parts["stop"] = np.where(halves == 0, parts["start"] + 256, parts["stop"])
    parts["start"] = np.where(halves == 1, parts["start"] + 256, parts["start"])
    divided = Windows(data.store, data.config.windows, parts)
    names = WindowNames(divided)
    assert [names.named(number)["window"] for number in range(4)] == [0, 1, 0, 1]
    assert names.numbers([names.named(number) for number in range(len(divided))], "") == tuple(range(len(divided)))


def test_a_corpus_of_something_else_is_refused(plan, data, unlike_subjects, tmp_path):
    written(plan("stage3"), tmp_path)

    def refused(match, name="stage3", **fields):
        with pytest.raises(InputError, match=match):
            plan(name, corpus=str(tmp_path), **fields).stage()

    refused("this corpus is of stage3, not stage2", name="stage2")
    split = BySubject(train=("s0",), validation=("s1", "s2"), test=("s3",), reserved=0)
    refused(r"this corpus is of another split \(\w+, not \w+\)\. Run the corpus job.*correct data\.split", split=split)
    refused("this corpus is of another store", store=str(unlike_subjects.config.store))
    stride = data.config.windows.model_copy(update={"stride_seconds": 0.5})
    refused("this corpus is of windows with stride_seconds 1.0, not 0.5", windows=stride)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    other = tmp_path / "other"
    for field, value, match in (
        ("reading_digest", "0" * 64, "told by another projector than that of the model"),
        ("source", manifest["source"] | {"encoder_digest": "0" * 64}, "of another tower"),
    ):
        corpus = Corpus.create(other, Corpus.open(tmp_path).manifest.model_validate(manifest | {field: value}))
        (other / "parts.json").write_text("{}")
        (other / COMPLETE).write_text(corpus.digest)
        with pytest.raises(InputError, match=match):
            plan("stage3", corpus=str(other)).stage()
    with pytest.raises(InputError, match=r"data\.corpus: .*no corpus here"):
        plan("stage3", corpus=str(tmp_path / "nowhere")).stage()


def corpus_digest(plan) -> str | None:
    (found,) = [given for given in plan.inputs() if given.field == "data.corpus"]
    return found.digest()


def test_the_corpus_is_an_input_of_the_stage(plan, tmp_path):
    corpus = written(plan("stage3"), tmp_path)
    reading = plan("stage3", corpus=str(tmp_path))
    assert corpus_digest(reading) == corpus.digest
    assert corpus_digest(plan("stage3")) is None
    slower = reading.model_copy(update={"train": reading.train.model_copy(update={"learning_rate": 1e-6})})
    assert corpus_digest(slower) == corpus.digest
    changed = {"seed": 4, "claims": ClaimChoice()}
    trains = {name: reading.train.model_copy(update={name: value}) for name, value in changed.items()}
    for changes, name in (
        ({"tasks": ("IED",)}, "shares"),
        ({"train": trains["seed"]}, r"train\.seed 3, not 4"),
        ({"train": trains["claims"]}, r"train\.claims\.smallest 0\.0, not 0\.5"),
    ):
        with pytest.raises(InputError, match=f"this corpus is drawn with {name}"):
            corpus_digest(reading.model_copy(update=changes))


def test_stage_2_trains_on_what_its_own_projector_tells(plan, tmp_path):
    written(plan("stage2"), tmp_path)
    reading = plan("stage2", corpus=str(tmp_path))
    fewer = reading.model.model_copy(update={"projector": ProjectorConfig(kind="worded", strongest=2)})
    with pytest.raises(InputError, match=r"drawn with projector\.strongest None, not 2"):
        corpus_digest(reading.model_copy(update={"model": fewer}))


def test_damage_of_a_part_is_refused(plan, tmp_path):
    corpus = written(plan("stage2"), tmp_path)
    part = tmp_path / "parts" / "00001.parquet"
    whole = part.read_bytes()
    other = (tmp_path / "parts" / "00000.parquet").read_bytes()
    for content, problem in ((whole[:100], "cannot be read"), (other, "was changed after the corpus was completed")):
        part.write_bytes(content)
        with pytest.raises(InputError, match=rf"00001\.parquet: {problem}"):
            Corpus.open(tmp_path).rows(np.arange(ROWS))
    with pytest.raises(IndexError):
        corpus.rows(np.array([ROWS]))


def test_the_datasheet_counts_what_is_there(plan, data, names, tmp_path):
    content = others_file(names, tmp_path / "lab.parquet")
    corpus = written(plan("stage3"), tmp_path / "corpus", others={"lab.parquet": content})
    trials = data.store.trials
    subjects = dict(zip(trials["recording_id"], trials["subject"], strict=True))
    sheet = Datasheet(corpus, LeakCheck(data.split, trials), subjects)
    assert set(sheet.leaks.values()) == {0}
    text = sheet.text
    rows = corpus.rows(np.arange(ROWS))
    for task in (*trained_tasks(), OTHER):
        assert f"| {task} | {sum(row['task'] == task for row in rows)} |" in text
    assert f"| rows | {ROWS} in 4 parts, 2 of them by others |" in text
    assert corpus.digest in text
    assert f"| {WORDINGS} | 0 |" in text
    assert f"| {SCENARIOS} | 0 |" in text
