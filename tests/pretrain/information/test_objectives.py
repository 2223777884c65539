"""Contrastive losses against double loops."""

import math

import pytest
import torch
import torch.nn.functional as F

from pretrain.information import objectives
from tests.pretrain.conftest import directions, naive_nt_xent


def test_nt_xent_is_the_double_loop():
    z1, z2, k1, k2 = directions(5, 7, 4)
    assert float(objectives.nt_xent(z1, z2, 0.2)[0]) == pytest.approx(naive_nt_xent(z1, z2, z1, z2, 0.2))
    loss, score = objectives.nt_xent(z1, z2, 0.2, keys=(k1, k2))
    assert float(loss) == pytest.approx(naive_nt_xent(z1, z2, k1, k2, 0.2))
    assert float(loss + score) == pytest.approx(math.log(9))


def test_nt_xent_at_chance_is_log_of_the_candidates():
    same = torch.ones(6, 4, dtype=torch.float64) / 2
    assert float(objectives.nt_xent(same, same, 0.1)[0]) == pytest.approx(math.log(11))


def test_info_nce_is_the_double_loop():
    z1, z2, k1, k2 = directions(6, 5, 4)
    logits12, logits21 = 3 * z1 @ k2.T, 3 * z2 @ k1.T
    total = 0.0
    for logits in (logits12, logits21):
        for i in range(6):
            total += math.log(sum(math.exp(float(logits[i, k])) for k in range(6))) - float(logits[i, i])
    loss, bound = objectives.info_nce(logits12, logits21)
    assert float(loss) == pytest.approx(total / 12)
    assert float(bound) == pytest.approx(math.log(6) - total / 12)


@pytest.mark.parametrize("shared", [True, False])
def test_stored_candidates_are_the_double_loop(shared):
    """A queue: the same m keys for every anchor. A bank: m draws of its own for each."""
    anchors, positives = directions(5, 7, 2)
    stored = directions(11, 7, 1, seed=1)[0] if shared else torch.stack(directions(11, 7, 5, seed=1))
    total = 0.0
    for i, anchor in enumerate(anchors):
        keys = stored if shared else stored[i]
        scores = [float(anchor @ positives[i]) / 0.3, *(float(anchor @ key) / 0.3 for key in keys)]
        total += math.log(sum(math.exp(s) for s in scores)) - scores[0]
    loss, score = objectives.info_nce_memory(anchors, positives, stored, 0.3)
    assert float(loss) == pytest.approx(total / 5)
    assert float(loss + score) == pytest.approx(math.log(12))


def test_in_batch_keys_as_stored_candidates_are_the_two_tower_loss():
    """Anchor 0 against every other key in a queue is row 0 of the in-batch contrast."""
    z1, z2 = directions(6, 5, 2)
    loss, _ = objectives.info_nce_memory(z1[:1], z2[:1], z2[1:], 0.2)
    row = F.cross_entropy(z1[:1] @ z2.T / 0.2, torch.zeros(1, dtype=torch.int64))
    assert float(loss) == pytest.approx(float(row))


def cosine_cap(candidates, temperature):
    """The most that ``info_nce`` reports of K = ``candidates`` pairs with cosines over τ as logits, in nats.

    log K − log(1 + (K−1) e^(−(1 + 1/(K−1))/τ)): docs/information.md, "The cap of a cosine contrast".
    """
    gap = (1 + 1 / (candidates - 1)) / temperature
    return math.log(candidates) - math.log1p((candidates - 1) * math.exp(-gap))


@pytest.mark.parametrize(("k", "temperature"), [(2, 10.0), (16, 0.1), (256, 0.1), (256, 0.5), (65536, 0.5)])
def test_the_cap_is_under_both_its_limits(k, temperature):
    cap = cosine_cap(k, temperature)
    assert 0 < cap < min(math.log(k), 1 / temperature)
    assert k < 65536 or cap == pytest.approx(2, abs=1e-3)


def two_tower(z1, z2, temperature):
    return float(objectives.info_nce(z1 @ z2.T / temperature, z2 @ z1.T / temperature)[1])


def test_a_simplex_reaches_the_cap_which_orthogonal_negatives_do_not():
    """K equal views with pairwise cosines −1/(K−1): 3.828 nats at K 64, τ 0.2, where orthogonal ones give 3.805."""
    orthogonal = torch.eye(64, dtype=torch.float64)
    simplex = F.normalize(orthogonal - 1 / 64, dim=1)
    torch.testing.assert_close((simplex @ simplex.T)[0, 1:], torch.full((63,), -1 / 63, dtype=torch.float64))
    cap = cosine_cap(64, 0.2)
    assert two_tower(simplex, simplex, 0.2) == pytest.approx(cap, rel=1e-12) and cap == pytest.approx(3.828, abs=5e-4)
    assert two_tower(orthogonal, orthogonal, 0.2) == pytest.approx(3.805, abs=5e-4)
    loss, _ = objectives.nt_xent(simplex, simplex, 0.2)
    assert math.log(64) - float(loss) < cap


def test_no_two_sets_of_directions_report_more_than_the_cap():
    """Ascent on z1 and z2 themselves, from few dimensions to more than a simplex needs, ends at or under the cap."""
    for dim in (2, 4, 12):
        z1, z2 = (z.requires_grad_() for z in directions(6, dim, 2, seed=dim))
        optimizer = torch.optim.Adam([z1, z2], 0.05)
        for _ in range(400):
            unit1, unit2 = F.normalize(z1, dim=1), F.normalize(z2, dim=1)
            loss, bound = objectives.info_nce(unit1 @ unit2.T / 0.5, unit2 @ unit1.T / 0.5)
            assert bound.item() <= cosine_cap(6, 0.5) + 1e-9
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        reached = bound.item() > cosine_cap(6, 0.5) - 1e-3
        assert reached == (dim >= 5)


def test_permutation_and_symmetry():
    z1, z2, mu1, mu2 = directions(7, 8, 4)
    order = torch.randperm(7, generator=torch.Generator().manual_seed(0))
    loss = objectives.nt_xent(z1, z2, 0.3, keys=(mu1, mu2))[0]
    assert torch.allclose(loss, objectives.nt_xent(z1[order], z2[order], 0.3, keys=(mu1[order], mu2[order]))[0])
    assert torch.allclose(loss, objectives.nt_xent(z2, z1, 0.3, keys=(mu2, mu1))[0])
    assert not torch.allclose(loss, objectives.nt_xent(z1, z2[order], 0.3, keys=(mu1, mu2[order]))[0])
    towers = objectives.info_nce(z1 @ mu2.T, z2 @ mu1.T)[0]
    assert torch.allclose(towers, objectives.info_nce(z2 @ mu1.T, z1 @ mu2.T)[0])
    assert torch.allclose(towers, objectives.info_nce(z1[order] @ mu2[order].T, z2[order] @ mu1[order].T)[0])
    stored = objectives.info_nce_memory(z1, z2, mu1, 0.3)[0]
    assert torch.allclose(stored, objectives.info_nce_memory(z1[order], z2[order], mu1[order], 0.3)[0])
    assert not torch.allclose(stored, objectives.info_nce_memory(z1, z2[order], mu1, 0.3)[0])


def test_gradients():
    z1, z2, mu1, mu2 = (v.requires_grad_(True) for v in directions(3, 4, 4))
    assert torch.autograd.gradcheck(
        lambda *v: objectives.nt_xent(v[0], v[1], 0.5, keys=(v[2], v[3])), (z1, z2, mu1, mu2)
    )
    assert torch.autograd.gradcheck(lambda a, b: objectives.info_nce(a @ b.T, b @ a.T), (z1, z2))
    assert torch.autograd.gradcheck(lambda a, b, c: objectives.info_nce_memory(a, b, c, 0.5), (z1, z2, mu1))
    bank = torch.stack([mu1, mu2, z1]).detach().requires_grad_(True)
    assert torch.autograd.gradcheck(lambda a, b, c: objectives.info_nce_memory(a, b, c, 0.5), (z1, z2, bank))


def test_float32_inside_autocast():
    z1, z2 = directions(8, 32, 2, dtype=torch.float32)

    def losses():
        return [objectives.nt_xent(z1, z2, 0.05)[0], objectives.info_nce_memory(z1, z2, z2, 0.05)[0]]

    plain = losses()
    with torch.autocast("cpu", torch.bfloat16):
        inside = losses()
    assert all(torch.equal(a, b) for a, b in zip(plain, inside, strict=True))


def test_spread_runs_from_collapse_to_the_whole_sphere():
    same, (full,) = torch.ones(64, 16) / 4, directions(4096, 16, 1)
    assert float(objectives.embedding_std(same)) < 1e-3
    assert float(objectives.embedding_std(full)) == pytest.approx(1, abs=0.01)
