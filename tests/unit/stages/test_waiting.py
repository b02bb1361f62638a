"""Forward and backward passes of the language stages ask nothing of a GPU that it would have to answer at once."""

from collections import Counter

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from e2llm_core.llm.supervision import supervised_positions
from e2llm_core.training.sharding import MicroBatch

aten = torch.ops.aten
WAITING = {aten._local_scalar_dense, aten.is_nonzero, aten.nonzero, aten.masked_select, aten.equal, aten.unique_dim}


class Waits(TorchDispatchMode):
    """Counts operations whose result, or the size of it, the host needs: a GPU would be waited for."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: Counter[str] = Counter()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        packet = function.overloadpacket
        by_mask = packet in {aten.index, aten.index_put, aten.index_put_} and any(
            index is not None and index.dtype == torch.bool for index in args[1]
        )
        if packet in WAITING or by_mask:
            self.seen[str(function)] += 1
        return function(*args, **(kwargs or {}))


@pytest.fixture(params=["stage2", "stage3"])
def prepared(request, make_stage2, make_stage3):
    """A stage, its model as it trains, and a row of three samples; of both tasks in stage 3."""
    stage = {"stage2": make_stage2, "stage3": make_stage3}[request.param]()
    torch.manual_seed(0)
    model, _ = stage.build()
    ids = np.array([1, 4, len(stage.training) + 2 if request.param == "stage3" else 2])
    return stage, model.train(), stage.prepare(MicroBatch(ids, np.arange(3), np.ones(3, dtype=np.float32)))


def gradients(model) -> list[torch.Tensor]:
    found = [p.grad for p in model.parameters() if p.grad is not None]
    model.zero_grad()
    return found


def test_the_passes_of_a_micro_batch_never_wait_for_the_device(prepared):
    stage, model, batch = prepared
    with Waits() as waits:
        losses = stage.losses(model, batch)
        losses.total.backward()
    assert not waits.seen, dict(waits.seen)
    assert len(losses.parts) == (3 if stage.name == "stage3" else 1)


def test_what_is_where_is_the_same_found_by_masks_on_the_device(prepared):
    stage, model, batch = prepared
    stage.losses(model, batch).total.backward()
    expected = gradients(model)
    tensors = {key: value for key, value in batch.tensors.items() if key not in {"supervised", "eeg_places"}}
    mask = supervised_positions(tensors["labels"])
    assert torch.equal(batch.tensors["supervised"], mask[0].nonzero().squeeze(1))
    given = {key: value for key, value in tensors.items() if key not in {"tasks", "task_targets"}}
    with Waits() as waits:
        output = model(**given)
    output.loss.backward()
    assert waits.seen["aten.nonzero.default"] == 2, "or the counter counts nothing"
    assert torch.equal(output.loss, stage.losses(model, batch).total)
    assert all(map(torch.equal, gradients(model), expected))
    assert len(output.token_nll) == int(mask.sum())


def test_a_row_whose_placeholders_do_not_fit_its_segments_is_refused_before_the_device_has_it(make_stage3):
    stage = make_stage3()
    (sample,) = stage.tokenize(np.array([0]), np.array([0]))
    short = type(sample)(sample.tokens, ())
    with pytest.raises(ValueError, match=r"1 segments need 5 placeholder tokens .*hold 10"):
        stage.row(stage.training, [sample, short])
