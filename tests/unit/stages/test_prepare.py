import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from e2llm_core.stages.tiny_llm.plan import TinyLLMConfig
from e2llm_core.stages.tiny_llm.stage import TextPretraining
from e2llm_core.training.config import TrainConfig
from e2llm_core.training.sharding import MicroBatch, shard
from e2llm_core.training.world import World

STAGES = ("text", "stage1", "stage2", "stage3")


@pytest.fixture(scope="module")
def make(make_stage1, make_stage2, make_stage3):
    def text(seed=0):
        return TextPretraining(TinyLLMConfig(vocab_size=400, corpus_size=100), ("sad", "happy"), seed)

    def stage2(seed=0):
        stage = make_stage2(seed)
        stage.build()  # reads the tokenizer
        return stage

    return dict(zip(STAGES, (text, make_stage1, stage2, make_stage3), strict=True))


def micro(ids, positions=None, weights=None) -> MicroBatch:
    ids = np.asarray(ids)
    positions = np.arange(len(ids)) if positions is None else np.asarray(positions)
    weights = np.ones(len(ids)) if weights is None else np.asarray(weights)
    return MicroBatch(ids, positions, weights.astype(np.float32))


def same(first, second) -> bool:
    def equal(one, other) -> bool:
        return torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other

    return first.num_targets == second.num_targets and all(
        equal(value, second.tensors[name]) for name, value in first.tensors.items()
    )


@pytest.mark.parametrize("name", STAGES)
def test_a_batch_is_a_function_of_ids_and_positions(make, name):
    stage = make[name]()
    batch = stage.prepare(micro([5, 1, 3], [70, 71, 72]))
    stage.prepare(micro([0, 2], [1, 2]))
    np.random.seed(99)
    torch.manual_seed(99)
    assert same(batch, stage.prepare(micro([5, 1, 3], [70, 71, 72])))
    assert same(batch, make[name]().prepare(micro([5, 1, 3], [70, 71, 72])))
    assert not same(batch, stage.prepare(micro([5, 1, 4], [70, 71, 72])))


def test_augmentation_of_stage_1_changes_with_the_position_and_the_seed(make):
    stage = make["stage1"]()
    eeg = stage.prepare(micro([2, 4], [10, 11])).tensors["eeg"]
    assert not torch.equal(eeg[:1], stage.prepare(micro([2, 4], [30, 31])).tensors["eeg"][:1])
    assert not torch.equal(eeg[:1], make["stage1"](seed=1).prepare(micro([2, 4], [10, 11])).tensors["eeg"][:1])


@pytest.mark.parametrize("name", ["stage2", "stage3"])
def test_later_stages_show_windows_as_they_are(make, name):
    """What training texts tell of a window is read from the same signal."""
    stage = make[name]()
    tokenized = stage.tokenize(np.array([2, 4]), np.array([10, 31]))
    shown = stage.row(stage.training, tokenized).tensors["eeg"].numpy()
    np.testing.assert_array_equal(shown, stage.training.windows.read(np.concatenate([s.windows for s in tokenized])))


@pytest.mark.parametrize("name", STAGES)
def test_a_sample_is_the_same_in_whatever_micro_batch(make, name):
    """Sum of targets over the shards of two workers, and over one batch: nothing depends on the company."""
    stage = make[name]()
    ids = np.array([4, 0, 2, 3, 1])
    whole = stage.prepare(micro(ids, 20 + np.arange(5)))
    parts = [part for rank in range(2) for part in shard(ids, 20, 2, World(rank, 2))]
    batches = [stage.prepare(part) for part in parts]
    assert sum(float(part.weights.sum()) for part in parts) < sum(len(part.ids) for part in parts), "no filler here"
    assert sum(batch.num_targets for batch in batches) == pytest.approx(whole.num_targets, rel=1e-6)


def test_stage1_fits_its_own_subjects_only_and_its_targets_follow_the_ids(make_stage1, data):
    stage = make_stage1()
    assert set(stage.windows.table["subject"]) == {"s0"}
    assert data.split.reserved == ("s1",)
    batch = stage.prepare(micro([0, 3, 7]))
    assert batch.tensors["labels"].tolist() == stage.windows.table["label_id"].to_numpy()[[0, 3, 7]].tolist()
    assert batch.num_targets == 3.0
    assert stage.prepare(micro([0, 3], weights=[1, 0])).num_targets == 1.0


def test_stage1_without_augmentation_reads_the_windows_as_they_are(make_stage1):
    stage = make_stage1(augment=False)
    eeg = stage.prepare(micro([1, 2], [50, 51])).tensors["eeg"].numpy()
    np.testing.assert_array_equal(eeg, stage.windows.read([1, 2]))


def test_augmentation_shifts_and_flips_but_keeps_every_sample(make_stage1):
    stage = make_stage1()
    eeg = stage.prepare(micro([1] * 8, np.arange(8))).tensors["eeg"].numpy()
    (raw,) = stage.windows.read([1])
    signs = set()
    for row in eeg:
        found = [
            (sign, shift)
            for sign in (1, -1)
            for shift in range(raw.shape[-1])
            if np.array_equal(row, sign * np.roll(raw, shift, axis=-1))
        ]
        assert found
        signs.add(found[0][0])
    assert signs == {1, -1}


def test_language_stages_see_reserved_subjects_too(make_stage2, make_stage3):
    for stage in (make_stage2(), make_stage3()):
        assert set(stage.training.windows.trials["subject"]) == {"s0", "s1"}
        assert set(stage.validation.windows.trials["subject"]) == {"s2"}
    assert make_stage3().size == 2 * make_stage2().size


def test_fillers_count_neither_units_nor_loss(make_stage2):
    stage = make_stage2()
    torch.manual_seed(0)
    model, _ = stage.build()
    real = stage.prepare(micro([3, 4], [0, 1]))
    filled = stage.prepare(micro([3, 4, 3], [0, 1, 0], [1, 1, 0]))
    assert real.num_targets == filled.num_targets
    with torch.no_grad():
        losses = [float(stage.losses(model.eval(), batch).total) for batch in (real, filled)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)


def test_stage3_shows_one_or_two_segments_and_both_tasks(make_stage3):
    stage = make_stage3()
    number = len(stage.training)
    for sample_id, task, segments in ((0, "IED", 1), (number, "EPC", 2)):
        sample = stage.draw(stage.training, sample_id, np.random.default_rng(0))
        assert (sample.dialogue.task, len(sample.windows)) == (task, segments)
    assert stage.prepare(micro([0, number])).tensors["eeg"].shape[0] == 3


def test_a_task_named_twice_has_one_loss(make_stage3):
    stage = make_stage3(tasks=("IED", "EPC", "EPC"))
    number = len(stage.training)
    assert stage.size == 3 * number
    batch = stage.prepare(micro([0, number, 2 * number + 1]))
    assert stage.tasks == ("IED", "EPC")
    assert batch.tensors["tasks"].tolist() == [0, 1, 1]
    assert sum(batch.tensors["task_targets"]) == batch.num_targets


def test_text_supervises_all_tokens_but_the_first_of_each_dialogue(make):
    tensors = make["text"]().prepare(micro([0, 1, 2])).tensors
    starts = tensors["position_ids"] == 0
    assert starts.sum() == 3
    assert (tensors["labels"][starts] == -100).all()
    assert torch.equal(tensors["labels"][~starts], tensors["input_ids"][~starts])


@pytest.mark.parametrize("name", ["text", "stage2", "stage3"])
@pytest.mark.parametrize("workers", [1, 2, 3])
def test_packed_batches_of_all_ranks_hold_the_global_batch_once(make, name, workers):
    """However many ranks: the same samples, tokens and supervised tokens, and equally many rows on every rank."""
    stage, ids = make[name](), np.array([4, 0, 2, 3, 1])
    config = TrainConfig(global_batch=5, micro_batch=3, micro_tokens=300)
    shares = ranks_batches(stage, ids, config, workers)
    assert len({len(share) for share in shares}) == 1
    rows = [batch for share in shares for batch in share]
    whole = stage.prepare(micro(ids, 20 + np.arange(5)))
    assert sum(batch.num_targets for batch in rows) == pytest.approx(whole.num_targets)
    assert sum(batch.samples for batch in rows) == 5 == whole.samples
    assert sum(batch.tokens for batch in rows) == whole.tokens == whole.tensors["input_ids"].numel()
    for batch in rows:
        assert len(batch.tensors["cu_seq_lens_q"]) - 1 <= 3
        assert batch.tokens <= 300 or batch.samples == 1


def ranks_batches(stage, ids, config, workers):
    """Every rank's batches; a thread is a rank, and what ranks exchange is left on a table."""
    return ranks_batches_and_bytes(stage, ids, config, workers)[0]


def ranks_batches_and_bytes(stage, ids, config, workers):
    table, met = {}, threading.Barrier(workers, timeout=30)
    moved = [0] * workers
    alone = threading.Lock()

    class Rank(World):
        def laid_out(self, item):
            table[self.rank] = item
            alone.release()
            met.wait()
            found = [table[rank] for rank in range(workers)]
            met.wait()
            alone.acquire()
            return found

        def gather_beside(self, numbers):
            moved[self.rank] += numbers.nbytes * (workers - 1)
            return np.stack(self.laid_out(numbers))

        def deal_beside(self, parcels):
            assert not len(parcels[self.rank])
            moved[self.rank] += sum(parcel.nbytes for parcel in parcels)
            return [parcels[self.rank] for parcels in self.laid_out(parcels)]

    def batches(rank):
        with alone:  # a stage has one thread that prepares batches
            return stage.batches(ids, 20, config, Rank(rank, workers))

    with ThreadPoolExecutor(workers) as threads:
        shares = list(threads.map(batches, range(workers)))
    return shares, moved


@pytest.mark.parametrize("name", ["stage2", "stage3"])
def test_ranks_send_lengths_and_each_sample_to_the_rank_that_packs_it(make, name):
    """What all ranks send is less than one copy of the tokens: they once sent all of them to all."""
    stage, ids = make[name](), np.arange(12)
    config = TrainConfig(global_batch=12, micro_batch=6, micro_tokens=4096)
    shares, moved = ranks_batches_and_bytes(stage, ids, config, 4)
    tokens = sum(batch.tokens for share in shares for batch in share)
    assert 0 < sum(moved) < 8 * tokens + 12 * 40
    for batch in (batch for share in shares for batch in share):
        assert batch.tensors["eeg"].isfinite().all()


@pytest.mark.parametrize("name", ["stage2", "stage3"])
def test_a_rank_packs_what_others_tokenised_as_its_own(make, name):
    """Rows of one rank, and of three: the same rows of the same samples."""
    stage, ids = make[name](), np.array([4, 0, 2, 3, 1, 5])
    config = TrainConfig(global_batch=6, micro_batch=2, micro_tokens=4096)
    (alone,) = ranks_batches(stage, ids, config, 1)
    dealt = ranks_batches(stage, ids, config, 3)
    by_turns = [share[turn] for turn in range(len(dealt[0])) for share in dealt]
    assert len(alone) == len(by_turns) == 3
    assert all(same(one, other) for one, other in zip(alone, by_turns, strict=True))
