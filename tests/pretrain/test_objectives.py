"""Losses and bounds against double loops, closed forms and scipy.

``python -m pytest tests/pretrain/test_objectives.py``
"""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import stats
from torch import nn

from pretrain import objectives, vmf
from pretrain.methods import Batch, SimCLRConfig, SuperInfoConfig
from pretrain.methods.simclr import SimCLR
from pretrain.methods.superinfo import SuperInfo
from tests.pretrain.conftest import mean_cosine


def directions(n, d, count, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return [F.normalize(torch.randn(n, d, generator=generator, dtype=dtype), dim=1) for _ in range(count)]


def naive_nt_xent(z1, z2, keys1, keys2, temperature):
    """Eq. 1 of SimCLR, one anchor and one candidate at a time."""
    anchors, keys = [*z1, *z2], [*keys1, *keys2]
    n, total = len(z1), 0.0
    for i, anchor in enumerate(anchors):
        positive = (i + n) % (2 * n)
        scores = [float(anchor @ key) / temperature for k, key in enumerate(keys) if k != i]
        total += math.log(sum(math.exp(s) for s in scores)) - float(anchor @ keys[positive]) / temperature
    return total / (2 * n)


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


def test_superfluous_is_scipys_density_ratio():
    z1, z2, mu1, mu2 = directions(4, 16, 4)
    s12, s21 = objectives.superfluous_vmf(z1, z2, mu1, mu2, 30.0, 4.0)

    def naive(z, own, other):
        pairs = zip(z.numpy(), own.numpy(), other.numpy(), strict=True)
        return np.mean(
            [stats.vonmises_fisher(m, 30).logpdf(x) - stats.vonmises_fisher(o, 4).logpdf(x) for x, m, o in pairs]
        )

    assert float(s12) == pytest.approx(naive(z1, mu1, mu2), rel=1e-9)
    assert float(s21) == pytest.approx(naive(z2, mu2, mu1), rel=1e-9)


def test_superfluous_averages_to_the_closed_form_kl():
    """KL(vMF(μ1, κe) ‖ vMF(μ2, κb)) = log C(κe) − log C(κb) + A(κe)(κe − κb μ1·μ2)."""
    d, kappa_e, kappa_b, n = 16, 60.0, 5.0, 50_000
    mu1, mu2 = (v.expand(n, d) for v in directions(1, d, 2))
    z1 = vmf.sample(mu1, kappa_e, torch.Generator().manual_seed(1))
    s12, _ = objectives.superfluous_vmf(z1, z1, mu1, mu2, kappa_e, kappa_b)
    overlap = float(mu1[0] @ mu2[0])
    truth = vmf.log_normaliser(d, kappa_e) - vmf.log_normaliser(d, kappa_b)
    truth += mean_cosine(d, kappa_e) * (kappa_e - kappa_b * overlap)
    assert float(s12) == pytest.approx(truth, abs=0.05)


def test_permutation_and_symmetry():
    z1, z2, mu1, mu2 = directions(7, 8, 4)
    order = torch.randperm(7, generator=torch.Generator().manual_seed(0))
    loss = objectives.nt_xent(z1, z2, 0.3, keys=(mu1, mu2))[0]
    assert torch.allclose(loss, objectives.nt_xent(z1[order], z2[order], 0.3, keys=(mu1[order], mu2[order]))[0])
    assert torch.allclose(loss, objectives.nt_xent(z2, z1, 0.3, keys=(mu2, mu1))[0])
    s12, s21 = objectives.superfluous_vmf(z1, z2, mu1, mu2, 9.0, 2.0)
    swapped = objectives.superfluous_vmf(z2, z1, mu2, mu1, 9.0, 2.0)
    assert torch.allclose(torch.stack([s12, s21]), torch.stack([swapped[1], swapped[0]]))
    assert not torch.allclose(loss, objectives.nt_xent(z1, z2[order], 0.3, keys=(mu1, mu2[order]))[0])


def test_gradients():
    z1, z2, mu1, mu2 = (v.requires_grad_(True) for v in directions(3, 4, 4))
    assert torch.autograd.gradcheck(
        lambda *v: objectives.nt_xent(v[0], v[1], 0.5, keys=(v[2], v[3])), (z1, z2, mu1, mu2)
    )
    assert torch.autograd.gradcheck(lambda *v: objectives.superfluous_vmf(*v, 8.0, 2.0), (z1, z2, mu1, mu2))
    assert torch.autograd.gradcheck(lambda a, b: objectives.info_nce(a @ b.T, b @ a.T), (z1, z2))


def test_float32_inside_autocast():
    z1, z2 = directions(8, 32, 2, dtype=torch.float32)
    plain = [objectives.nt_xent(z1, z2, 0.05)[0], *objectives.superfluous_vmf(z1, z2, z2, z1, 1024.0, 10.0)]
    with torch.autocast("cpu", torch.bfloat16):
        inside = [objectives.nt_xent(z1, z2, 0.05)[0], *objectives.superfluous_vmf(z1, z2, z2, z1, 1024.0, 10.0)]
    assert all(torch.equal(a, b) for a, b in zip(plain, inside, strict=True))


def test_spread_runs_from_collapse_to_the_whole_sphere():
    same, (full,) = torch.ones(64, 16) / 4, directions(4096, 16, 1)
    assert float(objectives.spread(same)) < 1e-3
    assert float(objectives.spread(full)) == pytest.approx(1, abs=0.01)


def methods_with_equal_weights(temperature, **superinfo):
    """SimCLR and SuperInfo around the same small backbone and head."""
    torch.manual_seed(0)
    backbone = nn.Sequential(nn.Flatten(), nn.Linear(48, 24), nn.ReLU())
    simclr = SimCLR(SimCLRConfig(dim=8, hidden_dim=16, temperature=temperature), backbone, 24, 0)
    config = SuperInfoConfig(dim=8, hidden_dim=16, kappa_b=1 / temperature, **superinfo)
    other = SuperInfo(config, backbone, 24, 0)
    other.head.load_state_dict(simclr.head.state_dict())
    views = [torch.randn(12, 3, 4, 4), torch.randn(12, 3, 4, 4)]
    return simclr, other, Batch(views=views, index=torch.arange(12), label=None)


def test_deterministic_superinfo_is_simclr():
    simclr, superinfo, batch = methods_with_equal_weights(0.2, deterministic=True)
    for method in (simclr, superinfo):
        method.zero_grad()
        method.loss = method(batch, 0.9)["loss"]
        method.loss.backward()
        method.gradient = torch.cat([p.grad.flatten() for p in method.head.parameters() if p.grad is not None])
    assert superinfo.loss.item() == pytest.approx(simclr.loss.item(), rel=1e-6)
    torch.testing.assert_close(superinfo.gradient, simclr.gradient, rtol=1e-4, atol=1e-6)


def test_loss_is_the_sum_of_its_terms_with_both_weights_and_warmup():
    _, method, batch = methods_with_equal_weights(0.2, lambda_a=0.3, lambda_b=0.05, lambda_warmup=0.4)
    for progress, ramp in ((0.0, 0.0), (0.1, 0.25), (0.4, 1.0), (0.9, 1.0)):
        terms = {name: value.item() for name, value in method(batch, progress).items()}
        superfluous = 0.3 * terms["superfluous12"] + 0.05 * terms["superfluous21"]
        assert terms["loss"] == pytest.approx(terms["nce"] + ramp * superfluous, rel=1e-5)
        assert terms["lambda_ramp"] == pytest.approx(ramp)


def test_both_terms_read_the_same_sampled_z(monkeypatch):
    _, method, batch = methods_with_equal_weights(0.2)
    drawn = []
    monkeypatch.setattr(vmf, "sample", lambda mu, kappa: drawn.append(mu.roll(1, 1)) or drawn[-1])
    terms = method(batch, 0.5)
    assert len(drawn) == 2
    mu1, mu2 = (z.roll(-1, 1) for z in drawn)
    assert float(terms["nce"]) == pytest.approx(naive_nt_xent(*drawn, mu1, mu2, 0.2), rel=1e-4)
    truth = objectives.superfluous_vmf(*drawn, mu1, mu2, 1024.0, 5.0)
    assert float(terms["superfluous12"]) == pytest.approx(float(truth[0]), rel=1e-5)
    assert float(terms["superfluous21"]) == pytest.approx(float(truth[1]), rel=1e-5)
