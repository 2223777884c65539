"""SuperInfo and the distributions of its embeddings."""

import dataclasses
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from pretrain.common.errors import InputError
from pretrain.common.ranges import require_ranges
from pretrain.config import PretrainConfig
from pretrain.information import objectives, superfluous, vmf
from pretrain.methods import METHODS, Batch, Sizes, distributions
from pretrain.methods.distributions import VMF, Gaussian
from pretrain.methods.simclr import SimCLR, SimCLRConfig
from pretrain.methods.superinfo import StochasticHead, SuperInfo, SuperInfoConfig
from pretrain.presets import PRESETS
from pretrain.runtime.collapse import WINDOW, CollapseWatch
from tests.pretrain.conftest import directions, mean_cosine, naive_nt_xent

FORMS = ("vmf", "bounded")
SIZES = Sizes(feature_dim=24, num_classes=0, num_images=12)


def small(**changes):
    return SuperInfoConfig(**{"dim": 8, "hidden_dim": 16, "kappa_b": 5.0, **changes})


def built(config, seed=0):
    """SuperInfo around a small backbone, and a batch of 12 images."""
    torch.manual_seed(seed)
    backbone = nn.Sequential(nn.Flatten(), nn.Linear(48, 24), nn.ReLU())
    method = SuperInfo(config, backbone, SIZES)
    views = [torch.randn(12, 3, 4, 4), torch.randn(12, 3, 4, 4)]
    return method, Batch(views=views, index=torch.arange(12), label=None)


def gradients(method, loss):
    method.zero_grad()
    loss.backward()
    return {name: p.grad for name, p in method.named_parameters() if p.grad is not None}


def formula_of_the_demo(method, batch, progress):
    """SuperInfo's forward as it was when the demo's numbers were made, in its own operations and draws."""
    config = method.config
    mu1, mu2 = F.normalize(method.head.mean(method.backbone(torch.cat(batch.views))).float(), dim=1).chunk(2)
    z1, z2 = vmf.sample(mu1, config.kappa_e), vmf.sample(mu2, config.kappa_e)
    anchors, candidates = torch.cat([z1, z2]), torch.cat([mu1, mu2])
    n = len(z1)
    logits = anchors @ candidates.T / (1 / config.kappa_b)
    logits = logits.masked_fill(torch.eye(2 * n, dtype=torch.bool), -math.inf)
    nce = F.cross_entropy(logits, torch.arange(2 * n).roll(n))
    s12 = (vmf.log_prob(z1, mu1, config.kappa_e) - vmf.log_prob(z1, mu2, config.kappa_b)).mean()
    s21 = (vmf.log_prob(z2, mu2, config.kappa_e) - vmf.log_prob(z2, mu1, config.kappa_b)).mean()
    ramp = min(1.0, progress / config.lambda_warmup)
    return nce + ramp * (config.lambda_a * s12 + config.lambda_b * s21)


def test_the_default_form_is_bitwise_what_the_demo_was_made_with():
    method, batch = built(small(lambda_a=0.01, lambda_b=0.02, kappa_e=1024.0))
    for progress in (0.1, 0.7):
        torch.manual_seed(5)
        wanted = formula_of_the_demo(method, batch, progress)
        wanted_gradients = gradients(method, wanted)
        torch.manual_seed(5)
        found = method(batch, progress)["loss"]
        found_gradients = gradients(method, found)
        assert torch.equal(found, wanted) and len(found_gradients) == 7
        assert all(torch.equal(found_gradients[name], g) for name, g in wanted_gradients.items())


@pytest.mark.parametrize("form", FORMS)
def test_deterministic_superinfo_is_simclr(form):
    superinfo, batch = built(small(parameterisation=form, deterministic=True))
    simclr = SimCLR(SimCLRConfig(dim=8, hidden_dim=16, temperature=0.2), superinfo.backbone, SIZES)
    simclr.head.load_state_dict(superinfo.head.mean.state_dict())
    terms, truth = superinfo(batch, 0.9), simclr(batch, 0.9)
    assert terms["loss"].item() == pytest.approx(truth["loss"].item(), rel=1e-6)
    assert terms["predictive"].item() == pytest.approx(truth["predictive"].item(), abs=1e-5)
    found, wanted = gradients(superinfo, terms["loss"]), gradients(simclr, truth["loss"])
    for name, gradient in wanted.items():
        ours = found[name.replace("head.", "head.mean.")]
        torch.testing.assert_close(ours, gradient, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("form", FORMS)
def test_deterministic_draws_nothing(form):
    method, batch = built(small(parameterisation=form, deterministic=True))
    state = torch.get_rng_state()
    terms = method(batch, 0.5)
    assert torch.equal(state, torch.get_rng_state()) and "superfluous12" not in terms
    assert all(value.isfinite() for value in terms.values())


BOUNDS = ("cross_view", "rate-normal", "rate-mixture")
TOGETHER = [(form, bound) for form in FORMS for bound in BOUNDS if (form, bound) != ("vmf", "rate-normal")]


@pytest.mark.parametrize(("form", "bound"), TOGETHER)
def test_loss_is_the_sum_of_its_terms_with_both_weights_and_warmup(form, bound):
    method, batch = built(
        small(parameterisation=form, bound=bound, lambda_a=0.3, lambda_b=0.05, lambda_warmup=0.4, kappa_e=20.0)
    )
    for progress, ramp in ((0.0, 0.0), (0.1, 0.25), (0.4, 1.0), (0.9, 1.0)):
        terms = {name: value.item() for name, value in method(batch, progress).items()}
        penalty = 0.3 * terms["superfluous12"] + 0.05 * terms["superfluous21"]
        assert terms["loss"] == pytest.approx(terms["nce"] + ramp * penalty, rel=1e-5)
        assert terms["lambda_ramp"] == pytest.approx(ramp)


def ceb_loss(z1, z2, mu1, mu2, kappa_e, kappa_b, beta):
    """C-SimCLR's loss, image by image: google-research/compressive-visual-representations, add_contrastive_ceb_loss."""
    n, total = len(z1), 0.0
    for z, own, other in ((z1, mu1, mu2), (z2, mu2, mu1)):
        for i in range(n):
            residual = vmf.log_prob(z[i], own[i], kappa_e) - vmf.log_prob(z[i], other[i], kappa_b)
            candidates = [vmf.log_prob(z[i], other[k], kappa_b) for k in range(n)]
            candidates += [vmf.log_prob(z[i], own[k], kappa_b) for k in range(n) if k != i]
            contrast = math.log(2 * n - 1) - (torch.stack(candidates).logsumexp(0) - candidates[i])
            total = total + (beta * residual - contrast) / n
    return total


@pytest.mark.parametrize("beta", [1.0, 0.3])
def test_lambda_is_half_of_csimclrs_beta(beta):
    """With the same draws C-SimCLR's gradient is twice that of SuperInfo at λ = β/2."""
    method, batch = built(small(lambda_a=beta / 2, lambda_b=beta / 2, lambda_warmup=0.0, output_norm=False))
    torch.manual_seed(1)
    ours = gradients(method, method(batch, 0.0)["loss"])
    torch.manual_seed(1)
    p1, p2 = method.head(method.backbone(torch.cat(batch.views))).halves()
    theirs = gradients(method, ceb_loss(p1.sample(), p2.sample(), p1.mu, p2.mu, 1024.0, 5.0, beta))
    assert ours.keys() == theirs.keys() and len(ours) == 6
    for name, gradient in ours.items():
        torch.testing.assert_close(theirs[name], 2 * gradient, rtol=1e-4, atol=1e-4 * float(gradient.abs().max()))


def test_weights_without_warmup_are_on_at_once():
    assert small(lambda_warmup=0.0).ramp(0.0) == 1.0 and small(lambda_warmup=0.5).ramp(0.25) == 0.5


@pytest.mark.parametrize("form", FORMS)
def test_both_terms_read_the_same_sampled_z(form, monkeypatch):
    """The terms of a forward whose draws are replaced by known ones are those of the pure functions on these draws."""
    method, batch = built(small(parameterisation=form))
    drawn = []
    kind = VMF if form == "vmf" else Gaussian
    monkeypatch.setattr(kind, "sample", lambda p: drawn.append((p, p.mu.roll(1, 1))) or drawn[-1][1])
    terms = method(batch, 0.5)
    (p1, z1), (p2, z2) = drawn
    if form == "vmf":
        keys = p1.mu, p2.mu
        s12, s21 = (
            superfluous.cross_view_vmf(z, own.mu, other.mu, 1024.0, 5.0)
            for z, own, other in ((z1, p1, p2), (z2, p2, p1))
        )
    else:
        z1, z2 = F.normalize(z1), F.normalize(z2)
        keys = z1, z2
        s12, s21 = (
            superfluous.cross_view_gaussian(own.mu, own.sigma, other.mu, other.sigma)
            for own, other in ((p1, p2), (p2, p1))
        )
    assert float(terms["nce"]) == pytest.approx(naive_nt_xent(z1, z2, *keys, 0.2), rel=1e-4)
    assert float(terms["superfluous12"]) == pytest.approx(float(s12), rel=1e-5)
    assert float(terms["superfluous21"]) == pytest.approx(float(s21), rel=1e-5)


@pytest.mark.parametrize("bound", ["rate-normal", "rate-mixture"])
def test_a_rate_is_info_nce_with_a_rate_penalty(bound):
    """L + λa (R1 − I) + λb (R2 − I) = (1+λa+λb) L + λa R1 + λb R2 − (λa+λb) log N."""
    method, batch = built(small(parameterisation="bounded", bound=bound, lambda_a=0.3, lambda_b=0.1, lambda_warmup=0.0))
    terms = {name: value.item() for name, value in method(batch, 0.5).items()}
    rates = [terms[f"superfluous{way}"] + math.log(12) - terms["nce"] for way in ("12", "21")]
    expected = 1.4 * terms["nce"] + 0.3 * rates[0] + 0.1 * rates[1] - 0.4 * math.log(12)
    assert terms["loss"] == pytest.approx(expected, rel=1e-5) and min(rates) > 0


def test_the_rates_prior_is_made_of_both_views_of_the_other_images():
    mu1, mu2, s1, s2 = (torch.rand(5, 3) + 0.5 for _ in range(4))
    p1, p2 = (Gaussian(mu=mu, sigma=s, low=0.1, high=2.0) for mu, s in ((mu1, s1), (mu2, s2)))
    z = p1.sample()
    found = distributions.superfluous("rate-mixture", p1, p2, z, torch.tensor(0.25))
    rates = []
    for i in range(5):
        others = [torch.distributions.Normal(m[k], s[k]) for m, s in ((mu1, s1), (mu2, s2)) for k in range(5) if k != i]
        mixture = torch.stack([other.log_prob(z[i]).sum() for other in others]).logsumexp(0) - math.log(8)
        rates.append(float(torch.distributions.Normal(mu1[i], s1[i]).log_prob(z[i]).sum() - mixture))
    assert float(found) == pytest.approx(sum(rates) / 5 - 0.25, rel=1e-4)


def test_settings_that_do_not_go_together_are_refused():
    def refused(**changes):
        with pytest.raises(InputError) as caught:
            require_ranges(PretrainConfig(method=small(**changes)))
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert "--method.bound rate-normal" in refused(bound="rate-normal")
    assert "--method.sigma-min 2.0" in refused(parameterisation="bounded", sigma_min=2.0)
    require_ranges(PretrainConfig(method=small(parameterisation="bounded", bound="rate-normal")))


def test_bounded_noise_starts_in_the_middle_and_stays_inside():
    raw = torch.randn(64, 16)
    start = distributions.bounded(raw, torch.zeros(64, 16), 0.1, 1.0)
    assert start.sigma.min().item() == pytest.approx(0.1**0.5, rel=1e-5) and start.sigma.std() < 1e-6
    torch.testing.assert_close(start.mu.norm(dim=1), torch.full((64,), 4.0))
    far = distributions.bounded(raw, 100 * torch.randn(64, 16), 0.1, 1.0)
    assert far.sigma.min() >= 0.0999 and far.sigma.max() <= 1.0001
    assert float(far.noise()["sigma_at_bound"]) > 0.9 and float(start.noise()["sigma_at_bound"]) == 0
    head = StochasticHead(small(parameterisation="bounded"), 24)
    assert head(torch.randn(8, 24)).sigma.std() < 1e-6


def test_the_bounded_form_cannot_be_rescaled():
    """(μ, σ) → c (μ, σ) would leave contrast and KL as they are; no raw input does it."""
    raw_mu, raw_sigma = torch.randn(24, 8), 0.3 * torch.randn(24, 8)

    def terms(p):
        p1, p2 = p.halves()
        torch.manual_seed(0)
        z1, z2 = p1.sample(), p2.sample()
        nce, _ = objectives.nt_xent(p1.directions(z1), p2.directions(z2), 0.2)
        return torch.stack([nce, p1.cross_view(p2, z1), p2.cross_view(p1, z2)])

    held = distributions.bounded(raw_mu, raw_sigma, 0.1, 1.0)
    again = distributions.bounded(3 * raw_mu, raw_sigma, 0.1, 1.0)
    torch.testing.assert_close(again.mu, held.mu)
    torch.testing.assert_close(terms(again), terms(held))


def test_log_densities_agree_row_by_row():
    for p in (
        VMF(mu=directions(6, 5, 1, dtype=torch.float32)[0], kappa_e=30.0, kappa_b=5.0),
        Gaussian(mu=torch.randn(6, 5), sigma=torch.rand(6, 5) + 0.2, low=0.1, high=2.0),
    ):
        z = p.sample()
        torch.testing.assert_close(p.log_densities(z).diagonal(), p.log_density(z), rtol=1e-4, atol=1e-4)


def test_the_log_says_what_the_noise_is():
    mu = directions(20_000, 16, 1, dtype=torch.float32)[0]
    resultant = mean_cosine(16, 50.0)
    snr = float(VMF(mu=mu, kappa_e=50.0, kappa_b=5.0).noise()["snr"])
    assert snr == pytest.approx(resultant**2 / (1 - resultant**2), rel=0.02)
    terms = Gaussian(mu=2 * torch.randn(20_000, 4), sigma=torch.full((20_000, 4), 0.5), low=0.1, high=1.0).noise()
    assert float(terms["snr"]) == pytest.approx(16, rel=0.05) and float(terms["sigma"]) == pytest.approx(0.5)
    for form in FORMS:
        method, batch = built(small(parameterisation=form))
        named = set(method(batch, 0.5))
        assert {"nce", "nce_score", "predictive", "superfluous12", "superfluous21", "snr"} <= named
        assert {"embedding_std", "z_std", "h_std", "lambda_ramp"} <= named
        assert ("sigma_at_bound" in named) == (form != "vmf")
        assert ({"excess12", "excess21"} <= named) == (form == "vmf")


@pytest.mark.parametrize("name", ["superinfo", "mocov2-superinfo"])
def test_the_log_has_the_excess_over_the_floor(name):
    """Views whose means agree have an excess of 0 but for the draws' noise; with other bounds there is none."""
    config = METHODS[name].Config(dim=8, hidden_dim=16, kappa_b=5.0, kappa_e=500.0)
    torch.manual_seed(0)
    method = METHODS[name](config, nn.Sequential(nn.Flatten(), nn.Linear(48, 24)), SIZES)
    view = torch.randn(12, 3, 4, 4)
    terms = method(Batch(views=[view, view.clone()], index=torch.arange(12), label=None), 0.5)
    floor = superfluous.cross_view_vmf_floor(8, 500.0, 5.0)
    for way in ("12", "21"):
        assert float(terms[f"superfluous{way}"] - terms[f"excess{way}"]) == pytest.approx(floor, rel=1e-5)
        assert (
            abs(float(terms[f"excess{way}"])) < 3
        )  # one draw per image: their mean has a deviation of √(7/2)/√12 nats
    mixture, batch = built(small(bound="rate-mixture"))
    assert "excess12" not in mixture(batch, 0.5)


def test_an_alarm_for_noise_at_its_bounds(capsys):
    watch = CollapseWatch(10 * WINDOW)
    for step in range(6 * WINDOW):
        watch.check(step, {"sigma_at_bound": 0.4 if step < 4 * WINDOW else 0.7})
    said = capsys.readouterr().err
    assert said.count("warning:") == 1 and "sigma_at_bound 0.5" in said and "> 0.5" in said


@pytest.mark.parametrize("form", FORMS)
def test_the_regulariser_on_a_queues_candidates(form):
    """What MoCo v2 + SuperInfo does: keys without gradient and a queue; the query's side alone learns."""
    torch.manual_seed(0)
    config = small(parameterisation=form, lambda_a=0.1, kappa_e=50.0)
    head, momentum_head = StochasticHead(config, 24), StochasticHead(config, 24)
    queue = F.normalize(torch.randn(30, 8), dim=1)
    query, key = (
        head(torch.randn(12, 24)).gather(),
        momentum_head(torch.randn(12, 24)).gather().apply(torch.Tensor.detach),
    )
    z = query.sample()
    keys = key.keys(key.sample())
    torch.testing.assert_close(keys.norm(dim=1), torch.ones(12))
    nce, _ = objectives.info_nce_memory(query.directions(z), keys, queue, 1 / config.kappa_b)
    loss = nce + config.ramp(0.5) * config.lambda_a * query.cross_view(key, z)
    loss.backward()
    assert loss.isfinite() and head.mean[0].weight.grad.abs().sum() > 0
    assert all(p.grad is None for p in momentum_head.parameters())


def test_presets():
    published = PRESETS["csimclr-r50-300ep"]
    assert published.method.weights == SuperInfoConfig().weights == (0.5, 0.5)
    assert published.views.blur == 1.0 and published.views2.solarize == 0.2 and published.learning_rate == 0.3
    assert PRESETS["demo-csimclr"].method == published.method
    assert SuperInfoConfig(parameterisation="bounded", lambda_b=0.1).weights == (1e-4, 0.1)
    assert PRESETS["demo-superinfo-bounded"].method.parameterisation == "bounded"


@pytest.mark.parametrize("form", FORMS)
def test_a_step_in_bf16_is_finite_and_lowers_the_contrast(form):
    weight = 1e-3 if form != "vmf" else 0.1
    method, batch = built(small(parameterisation=form, lambda_a=weight, lambda_b=weight, kappa_e=200.0))
    batch = dataclasses.replace(batch, views=[batch.views[0], batch.views[0] + 0.1 * batch.views[1]])
    optimizer = torch.optim.Adam(method.parameters(), lr=0.01)
    losses = []
    for _ in range(30):
        with torch.autocast("cpu", torch.bfloat16):
            terms = method(batch, 0.9)
        optimizer.zero_grad()
        terms["loss"].backward()
        optimizer.step()
        losses.append(terms["nce"].item())
    assert all(math.isfinite(loss) for loss in losses) and losses[-1] < 0.7 * losses[0]
