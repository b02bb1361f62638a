import math

import pytest
import torch
import torch.nn.functional as F

from e2llm_core.stages.stage1.objectives.contrastive import contrast_over_step, supervised_contrastive, with_slope


def drawn(number, labels=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    vectors = F.normalize(torch.randn(number, 5, generator=generator, dtype=torch.float64), dim=1)
    return vectors, torch.randint(labels, (number,), generator=generator)


def naive(vectors, labels, weights, temperature):
    """Khosla et al. 2020, equation 2, with loops."""
    losses = []
    for i in range(len(vectors)):
        others = [a for a in range(len(vectors)) if a != i and weights[a]]
        partners = [p for p in others if labels[p] == labels[i]]
        total = sum(math.exp(float(vectors[i] @ vectors[a]) / temperature) for a in others)
        terms = [math.log(math.exp(float(vectors[i] @ vectors[p]) / temperature) / total) for p in partners]
        losses.append(-sum(terms) / len(partners) if partners else 0.0)
    return torch.tensor(losses, dtype=torch.float64)


@pytest.mark.parametrize("temperature", [0.07, 0.2, 1.0])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_it_is_the_published_formula(temperature, seed):
    vectors, labels = drawn(12, seed=seed)
    weights = torch.ones(12)
    weights[[3, 8]] = 0
    found = supervised_contrastive(vectors, labels, weights, temperature)
    torch.testing.assert_close(found, naive(vectors, labels, weights, temperature))


def test_fillers_are_nobodys_partner():
    vectors, labels = drawn(8)
    weights = torch.tensor([1.0, 1, 1, 1, 1, 0, 0, 0])
    without = supervised_contrastive(vectors[:5], labels[:5], weights[:5], 0.2)
    filled = supervised_contrastive(vectors, labels, weights, 0.2)
    torch.testing.assert_close(filled[:5], without)
    everybody = supervised_contrastive(vectors, labels, torch.ones(8), 0.2)
    assert not torch.allclose(everybody[:5], without)


def test_an_anchor_without_partner_costs_nothing():
    vectors, _ = drawn(4)
    found = supervised_contrastive(vectors, torch.tensor([0, 0, 1, 2]), torch.ones(4), 0.2)
    assert (found[:2] > 0).all()
    assert found[2:].tolist() == [0.0, 0.0]


@pytest.mark.parametrize(
    ("labels", "weights"),
    [
        ([0, 0, 1, 1], [1, 1, 1, 1]),
        ([0, 1, 2, 3], [1, 1, 1, 1]),
        ([0, 0, 0, 0], [1, 0, 0, 0]),  # one sample and fillers: nobody to compare with
        ([0], [1]),
    ],
)
def test_gradients_are_finite(labels, weights):
    vectors, _ = drawn(len(labels))
    leaf = vectors.clone().requires_grad_()
    weights = torch.tensor(weights, dtype=torch.float64)
    losses = supervised_contrastive(leaf, torch.tensor(labels), weights, 0.2)
    assert losses.isfinite().all()
    (losses * weights).sum().backward()
    assert leaf.grad.isfinite().all()


def test_closer_partners_cost_less():
    labels = torch.tensor([0, 0, 1, 1])
    apart = torch.eye(4, dtype=torch.float64)
    together = apart[[0, 0, 2, 2]]
    cost = [float(supervised_contrastive(v, labels, torch.ones(4), 0.2).sum()) for v in (apart, together)]
    assert cost[1] < cost[0]


@pytest.mark.parametrize("sizes", [(8,), (4, 4), (3, 3, 2), (1,) * 8])
def test_a_step_has_one_gradient_however_it_is_cut(sizes):
    vectors, labels = drawn(8)
    weights = torch.tensor([1.0, 1, 1, 1, 0, 1, 1, 1], dtype=torch.float64)
    whole = vectors.clone().requires_grad_()
    expected = supervised_contrastive(whole, labels, weights, 0.2)
    (expected * weights).sum().backward()

    losses, slope = contrast_over_step(vectors, labels, weights, 0.2)
    gradients = []
    for part, known, steep, counted in zip(
        vectors.split(sizes), losses.split(sizes), slope.split(sizes), weights.split(sizes), strict=True
    ):
        leaf = part.clone().requires_grad_()
        rows = with_slope(known, steep, leaf)
        torch.testing.assert_close(rows.detach(), known)
        (rows * counted).sum().backward()
        gradients.append(leaf.grad)
    torch.testing.assert_close(losses, expected.detach())
    torch.testing.assert_close(torch.cat(gradients), whole.grad)
