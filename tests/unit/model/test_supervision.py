import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from e2llm_core.llm import supervision
from e2llm_core.llm.supervision import SupervisedHead
from e2llm_core.llm.tiny_llm import tiny_llm

WIDTH, VOCABULARY = 5, 17


class Holder(nn.Module):
    """What a language model is to `install`."""

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.head = head

    def get_output_embeddings(self):
        return self.head

    def set_output_embeddings(self, head):
        self.head = head


def drawn(number, seed=0):
    generator = torch.Generator().manual_seed(seed)
    head = nn.Linear(WIDTH, VOCABULARY, bias=False).double()
    head.weight.data = torch.randn(VOCABULARY, WIDTH, generator=generator, dtype=torch.float64)
    hidden = torch.randn(number, WIDTH, generator=generator, dtype=torch.float64)
    targets = torch.randint(VOCABULARY, (number,), generator=generator)
    weights = torch.rand(number, generator=generator)
    return head, hidden, targets, weights


@given(number=st.integers(0, 20), block=st.integers(1, 25), seed=st.integers(0, 5), trains_head=st.booleans())
@settings(deadline=None)
def test_it_is_the_weighted_cross_entropy_with_its_gradients(number, block, seed, trains_head):
    head, hidden, targets, weights = drawn(number, seed)
    head.weight.requires_grad_(trains_head)
    plain = hidden.clone().requires_grad_()
    expected = F.cross_entropy(head(plain).float(), targets, reduction="none")
    (3 * (expected * weights).sum()).backward()
    wanted = head.weight.grad
    head.weight.grad = None

    llm = Holder(head)
    SupervisedHead.install(llm)
    given = hidden.clone().requires_grad_()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(supervision, "_LOGITS_AT_ONCE", block * VOCABULARY)
        total, nll = llm.head(given, targets, weights)
    (3 * total).backward()
    torch.testing.assert_close(nll, expected.detach())
    torch.testing.assert_close(given.grad, plain.grad, atol=1e-5, rtol=1e-5)
    assert not nll.requires_grad
    if trains_head:
        torch.testing.assert_close(head.weight.grad, wanted, atol=1e-5, rtol=1e-5)
    else:
        assert head.weight.grad is None


def test_without_targets_it_is_the_head_it_was():
    head, hidden, *_ = drawn(4)
    llm = Holder(head)
    SupervisedHead.install(llm)
    assert llm.head.weight is head.weight
    assert torch.equal(llm.head(hidden), head(hidden))
    again = llm.head
    SupervisedHead.install(llm)
    assert llm.head is again


@pytest.mark.parametrize("tie", [True, False])
def test_a_tied_head_stays_tied(tie):
    llm = tiny_llm(300, 16, 1, 2, 1, 32, tie=tie)
    names = set(llm.state_dict())
    SupervisedHead.install(llm)
    assert set(llm.state_dict()) == names
    assert (llm.lm_head.weight is llm.model.embed_tokens.weight) == tie


def test_no_more_logits_exist_at_a_time_than_a_block_of_them(monkeypatch):
    head, hidden, targets, _ = drawn(20)
    llm, sizes = Holder(head), []
    SupervisedHead.install(llm)
    monkeypatch.setattr(supervision, "_LOGITS_AT_ONCE", 6 * VOCABULARY)
    plain = F.linear
    monkeypatch.setattr(F, "linear", lambda *given: sizes.append(len(given[0])) or plain(*given))
    llm.head(hidden, targets)
    assert sizes == [6, 6, 6, 2]


@pytest.mark.parametrize("head", [nn.Linear(4, 4), nn.Embedding(4, 4)])
def test_other_heads_are_refused(head):
    with pytest.raises(ValueError, match="lm_head"):
        SupervisedHead.install(Holder(head))


def test_scoring_alone_computes_no_gradients(monkeypatch):
    head, hidden, targets, weights = drawn(6)
    holder = Holder(head)
    SupervisedHead.install(holder)
    expected = holder.head(hidden, targets, weights)[0].item()
    monkeypatch.setattr(torch, "zeros_like", lambda *_: pytest.fail("room for a gradient that nobody asked for"))
    with torch.no_grad():
        assert holder.head(hidden, targets, weights)[0].item() == pytest.approx(expected)
