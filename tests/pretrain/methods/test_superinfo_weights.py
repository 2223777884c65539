"""λ of both signs: what it does to the superfluous term, and where the contrast no longer holds two views together."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from pretrain.common.errors import InputError
from pretrain.common.ranges import require_ranges
from pretrain.config import PretrainConfig
from pretrain.information import objectives, superfluous, vmf
from pretrain.methods import METHODS, Batch, Sizes
from pretrain.methods.distributions import VMF, Gaussian
from pretrain.methods.superinfo import SuperInfoConfig
from tests.pretrain.conftest import directions, mean_cosine
from tests.pretrain.runtime.test_collapse import KAPPA_E, pairs, spread_out

N, PIXELS = 32, 48
CASES = [  # method, form, bound, the size of λa and of λb
    ("superinfo", "vmf", "cross_view", 0.45),
    ("superinfo", "vmf", "rate-mixture", 0.3),
    ("superinfo", "bounded", "cross_view", 0.002),
    ("superinfo", "bounded", "rate-normal", 0.2),
    ("superinfo", "bounded", "rate-mixture", 0.2),
    ("mocov2-superinfo", "vmf", "cross_view", 0.45),
    ("mocov2-superinfo", "bounded", "cross_view", 0.002),
    ("byol-superinfo", "vmf", "cross_view", 0.1),
    ("byol-superinfo", "bounded", "cross_view", 0.002),
]


def method_of(name, form, bound, weight):
    """The method on flat images, its least σ 0.3 so that λ can go well below 0."""
    config = METHODS[name].Config(
        **{"parameterisation": form, "bound": bound, "lambda_a": weight, "lambda_b": weight, "lambda_warmup": 0.0},
        **{"dim": 8, "hidden_dim": 32, "kappa_e": 30.0, "kappa_b": 5.0, "sigma_min": 0.3},
        **({"queue": 64, "momentum": 0.9} if name.startswith("moco") else {}),
    )
    require_ranges(PretrainConfig(method=config))
    torch.manual_seed(0)
    sizes = Sizes(feature_dim=24, num_classes=0, num_images=N)
    return METHODS[name](config, nn.Sequential(nn.Flatten(), nn.Linear(PIXELS, 24), nn.ReLU()), sizes)


def batch_of(seed):
    """Half of the pixels are the image's own and shared, half each view's."""
    generator = torch.Generator().manual_seed(seed)
    own, *others = (torch.randn(N, PIXELS, generator=generator) for _ in range(3))
    views = [torch.cat([own[:, : PIXELS // 2], other[:, PIXELS // 2 :]], 1).view(N, 3, 4, 4) for other in others]
    return Batch(views=views, index=torch.arange(N), label=None)


def trained_term(name, form, bound, weight):
    """The superfluous terms' mean, in nats, over the last 20 of 80 steps."""
    method, found = method_of(name, form, bound, weight), []
    optimizer = torch.optim.Adam([p for p in method.parameters() if p.requires_grad], 0.005)
    for step in range(80):
        terms = method(batch_of(step), 0.9)
        optimizer.zero_grad()
        terms["loss"].backward()
        optimizer.step()
        found.append(float(terms["superfluous12"] + terms["superfluous21"]) / 2)
    return sum(found[-20:]) / 20


@pytest.mark.parametrize(("name", "form", "bound", "size"), CASES)
def test_a_negative_weight_raises_the_superfluous_term_and_a_positive_one_lowers_it(name, form, bound, size):
    paid, free, taxed = (trained_term(name, form, bound, weight) for weight in (-size, 0.0, size))
    assert paid > free > taxed
    assert min(paid - free, free - taxed) > 0.03  # the three runs have the same draws


def shares(n, weight, c, seeds=40):
    """The vmf loss, but for a constant, of drawn embeddings whose views are at cosine c; λa + λb = ``weight``."""
    found = []
    for seed in range(seeds):
        torch.manual_seed(seed)
        mu1, mu2 = pairs(n, c, 128, seed)
        z1, z2 = vmf.sample(mu1, KAPPA_E), vmf.sample(mu2, KAPPA_E)
        nce, _ = objectives.nt_xent(z1, z2, 1 / 5, keys=(mu1, mu2))
        s12 = superfluous.cross_view_vmf(z1, mu1, mu2, KAPPA_E, 5.0)
        s21 = superfluous.cross_view_vmf(z2, mu2, mu1, KAPPA_E, 5.0)
        found.append(float(nce + weight / 2 * (s12 + s21)))
    return sum(found) / seeds


@pytest.mark.parametrize("weight", [-0.8, -0.9, -0.95])
def test_the_views_cosine_under_a_negative_weight_is_the_closed_forms(weight):
    """The contrast's pull is the share of the negatives: it equals −(λa + λb) where κb A c has this value."""
    n, pull = 64, 5 * vmf.mean_resultant(128, KAPPA_E)
    share = math.expm1(spread_out(n, 0.0, 0.0, 128, 5.0)[0])  # of all negatives over a positive at cosine 0
    best = (math.log(share) - math.log(-weight / (1 + weight))) / pull
    assert 0.3 < best < 0.9
    at_best = shares(n, weight, best)
    assert at_best < shares(n, weight, best - 0.1) and at_best < shares(n, weight, best + 0.1)


@pytest.mark.parametrize(("weight", "together"), [(-0.9, True), (-1.1, False)])
def test_beyond_the_limit_of_the_vmf_form_the_views_part(weight, together):
    apart, closer = (shares(1024, weight, c, seeds=4) for c in (-0.6, -0.4))
    assert (closer < apart) == together


@pytest.mark.parametrize(("factor", "together"), [(0.9, True), (1.1, False)])
def test_beyond_the_limit_of_the_bounded_form_the_views_part(factor, together):
    """At the least noise, where a negative λ brings σ; negatives far more than the positive weighs."""
    config = SuperInfoConfig(parameterisation="bounded", dim=128, kappa_b=5.0)
    weight, d, low = factor * config.least_weight, config.dim, config.sigma_min
    assert config.least_weight == pytest.approx(-3.87e-4, rel=1e-3)
    losses = []
    for c in (-0.6, -0.4):
        mu1, mu2 = (math.sqrt(d) * one for one in pairs(2048, c, d, 0))
        torch.manual_seed(0)
        own, other = (Gaussian(mu=mu, sigma=torch.full_like(mu, low), low=low, high=1.0) for mu in (mu1, mu2))
        z1, z2 = own.sample(), other.sample()
        nce, _ = objectives.nt_xent(F.normalize(z1), F.normalize(z2), 1 / config.kappa_b)
        losses.append(float(nce + weight / 2 * (own.cross_view(other, z1) + other.cross_view(own, z2))))
    assert (losses[1] < losses[0]) == together


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"lambda_a": -0.6, "lambda_b": -0.4}, "--method.lambda-a -0.6 and --method.lambda-b -0.4: their sum"),
        ({"lambda_a": -1.6}, "--method.lambda-a -1.6 and --method.lambda-b 0.5: their sum must be above -1, where"),
        ({"lambda_a": -0.1, "parameterisation": "bounded"}, "--method.lambda-b 0.0001: their sum must be above -0.0"),
        ({"lambda_a": math.nan}, "--method.lambda-a nan: must be finite"),
        ({"lambda_b": -math.inf}, "--method.lambda-b -inf: must be finite"),
    ],
)
def test_weights_under_the_limit_are_refused_in_one_line(changes, words):
    with pytest.raises(InputError) as caught:
        require_ranges(PretrainConfig(method=SuperInfoConfig(**changes)))
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_one_weight_may_be_negative_beside_another():
    for changes in (
        {"lambda_a": -0.9, "lambda_b": -0.05},
        {"lambda_a": -1.4, "lambda_b": 0.5},
        {"lambda_a": -1e-4, "lambda_b": 1e-4, "parameterisation": "bounded"},
        {"lambda_a": -0.4, "lambda_b": -0.4, "parameterisation": "bounded", "bound": "rate-normal"},
    ):
        require_ranges(PretrainConfig(method=SuperInfoConfig(**changes)))


def test_both_terms_of_the_vmf_form_have_one_expectation():
    """Values and gradients agree in the mean over draws: only λa + λb matters, whichever view has which weight."""
    mu1, mu2 = directions(1, 8, 2, seed=3, dtype=torch.float32)
    mu1, mu2 = (one.expand(100_000, -1).clone().requires_grad_() for one in (mu1, mu2))
    torch.manual_seed(0)
    p1, p2 = VMF(mu=mu1, kappa_e=50.0, kappa_b=5.0), VMF(mu=mu2, kappa_e=50.0, kappa_b=5.0)
    values, slopes = [], []
    for own, other in ((p1, p2), (p2, p1)):
        value = own.cross_view(other, own.sample())
        slopes.append([gradient.sum(0) for gradient in torch.autograd.grad(value, (mu1, mu2))])
        values.append(value.item())
    excess = 5 * mean_cosine(8, 50.0) * (1 - (mu1[0] @ mu2[0]).item())
    assert values[0] == pytest.approx(values[1], abs=0.03)
    assert values[0] - p1.cross_view_floor == pytest.approx(excess, abs=0.03)
    for mu, one, other in zip((mu1, mu2), *slopes, strict=True):
        tangent = torch.eye(8) - torch.outer(mu[0], mu[0]).detach()  # along the sphere, where μ can move
        torch.testing.assert_close(tangent @ one, tangent @ other, rtol=0.02, atol=0.05)
