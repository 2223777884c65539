"""C-BYOL: BYOL without noise, the published loss with it, and a q that is fitted whatever the weights are."""

import copy
import dataclasses

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from pretrain.common.errors import InputError, RunError
from pretrain.common.ranges import require_ranges
from pretrain.config import PretrainConfig
from pretrain.information import vmf
from pretrain.methods import Batch, Sizes
from pretrain.methods.byol import BYOL, BYOLConfig
from pretrain.methods.byol_superinfo import BYOLSuperInfo, BYOLSuperInfoConfig
from pretrain.presets import PRESETS
from pretrain.runtime.collapse import WINDOW, CollapseWatch

FORMS = ("vmf", "bounded")
SIZES = Sizes(feature_dim=24, num_classes=0, num_images=12)


def small(**changes):
    given = {"dim": 8, "hidden_dim": 16, "lambda_a": 0.3, "lambda_b": 0.1, "lambda_warmup": 0.0, "target_momentum": 0.9}
    return BYOLSuperInfoConfig(**given | changes)


def built(config, cls=BYOLSuperInfo):
    """The method around a small backbone, its target moved away from it, and a batch of 12 images."""
    torch.manual_seed(0)
    method = cls(config, nn.Sequential(nn.Flatten(), nn.Linear(48, 24), nn.ReLU()), SIZES)
    with torch.no_grad():
        for parameter in [*method.target_backbone.parameters(), *method.target_projector.parameters()]:
            parameter.add_(0.05 * torch.randn_like(parameter))
    views = [torch.randn(12, 3, 4, 4), torch.randn(12, 3, 4, 4)]
    return method, Batch(views=views, index=torch.arange(12), label=None)


def gradients(method, loss):
    method.zero_grad()
    loss.backward()
    return {name: p.grad.clone() for name, p in method.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("form", FORMS)
def test_without_noise_it_is_byol(form):
    """The same loss and gradients from the same weights, and a target that moves alike."""
    config = small(parameterisation=form, deterministic=True)
    ours, batch = built(config)
    byol, _ = built(BYOLConfig(dim=8, hidden_dim=16, target_momentum=0.9), BYOL)
    byol.backbone.load_state_dict(ours.backbone.state_dict())
    byol.projector.load_state_dict(ours.head.projector.state_dict())
    byol.predictor.load_state_dict(ours.head.predictor.mean.state_dict())
    byol.target_backbone.load_state_dict(ours.target_backbone.state_dict())
    byol.target_projector.load_state_dict(ours.target_projector.state_dict())
    state = torch.get_rng_state()
    terms, truth = ours(batch, 0.4), byol(batch, 0.4)
    assert torch.equal(state, torch.get_rng_state()) and "superfluous12" not in terms
    assert terms["loss"].item() == pytest.approx(truth["loss"].item(), rel=1e-6)
    assert terms["target_momentum"] == truth["target_momentum"]
    found, wanted = gradients(ours, terms["loss"]), gradients(byol, truth["loss"])
    names = {"projector.": "head.projector.", "predictor.": "head.predictor.mean."}
    assert len(wanted) == len(found) == 10
    for name, gradient in wanted.items():
        for old, new in names.items():
            name = new + name.removeprefix(old) if name.startswith(old) else name
        torch.testing.assert_close(found[name], gradient, rtol=1e-4, atol=1e-6)
    for one, other in zip(ours.target_backbone.parameters(), byol.target_backbone.parameters(), strict=True):
        assert torch.equal(one, other)


def cbyol_loss(method, batch, beta):
    """add_byol_ceb_loss of google-research/compressive-visual-representations, image by image, on the method's nets.

    byol_loss_weight is κd/2. Both residuals come with the weight β, both regressions are added up.
    """
    config, total = method.config, 0.0
    with torch.no_grad():
        targets = [F.normalize(method.target_projector(method.target_backbone(view)), dim=1) for view in batch.views]
    online = [method.head(method.backbone(view)).mu for view in batch.views]
    drawn = [vmf.sample(mu, config.kappa_e) for mu in online]
    for mu, z, target in zip(online, drawn, reversed(targets), strict=True):
        predicted, backward = method.prediction(z), method.posterior(target).mu
        for i in range(len(z)):
            square = (F.normalize(predicted[i], dim=0) - target[i]).square().sum()
            residual = vmf.log_prob(z[i], mu[i], config.kappa_e) - vmf.log_prob(z[i], backward[i], config.kappa_b)
            total = total + (config.kappa_d / 2 * square + beta * residual) / len(z)
    return total


@pytest.mark.parametrize(("beta", "kappa_d"), [(1.0, 4.0), (1.0, 10.0), (0.3, 4.0)])
def test_cbyols_gradient_is_twice_that_of_half_its_beta(beta, kappa_d):
    """For q's head, which is fitted with a weight of its own, at the published β = 1."""
    method, batch = built(small(lambda_a=beta / 2, lambda_b=beta / 2, kappa_d=kappa_d, kappa_e=200.0))
    method.eval()  # the target stays
    torch.manual_seed(1)
    terms = method(batch, 0.0)
    ours = gradients(method, terms["loss"])
    torch.manual_seed(1)
    loss = cbyol_loss(method, batch, beta)
    theirs = gradients(method, loss)
    assert loss.item() == pytest.approx(2 * terms["loss"].item(), rel=1e-5)
    compared = {name for name in ours if beta == 1 or not name.startswith("posterior.")}
    assert ours.keys() == theirs.keys() and len(compared) >= 11
    for name in compared:
        torch.testing.assert_close(theirs[name], 2 * ours[name], rtol=1e-4, atol=1e-4 * float(ours[name].abs().max()))


@pytest.mark.parametrize("form", FORMS)
def test_the_loss_is_the_sum_of_its_terms(form):
    method, batch = built(small(parameterisation=form, lambda_b=-0.0001, lambda_a=0.3, lambda_warmup=0.4, kappa_d=6.0))
    for progress, ramp in ((0.0, 0.0), (0.1, 0.25), (0.9, 1.0)):
        terms = {name: value.item() for name, value in method(batch, progress).items()}
        penalty = 0.3 * terms["superfluous12"] - 0.0001 * terms["superfluous21"]
        assert terms["loss"] == pytest.approx(1.5 * terms["regression"] + ramp * penalty, rel=1e-5)
        assert {"z_std", "h_std", "snr"} <= terms.keys() and ("excess12" in terms) == (form == "vmf")


@pytest.mark.parametrize("form", FORMS)
def test_q_is_fitted_alike_for_every_weight_and_the_encoder_is_not(form):
    """A negative weight would otherwise teach q to be wrong, which raises a bound without any information."""
    found = []
    for weight in (-1e-5, 0.0, 0.5):
        method, batch = built(small(parameterisation=form, lambda_a=weight, lambda_b=weight))
        if form == "bounded":  # where σ1 is σ2 the divergence has no slope in it
            nn.init.normal_(method.posterior.sigma.bias)
        torch.manual_seed(3)
        found.append(gradients(method, method(batch, 0.5)["loss"]))
    for name in found[0]:
        same = [torch.equal(one[name], found[0][name]) for one in found[1:]]
        assert same == [name.startswith(("posterior.", "prediction."))] * 2, name
    method, batch = built(small(parameterisation=form, lambda_a=-1e-5, lambda_b=-1e-5))
    optimizer = torch.optim.Adam(method.posterior.parameters(), 0.01)
    bounds = []
    for _ in range(60):
        terms = method(batch, 0.5)
        optimizer.zero_grad()
        terms["loss"].backward()
        optimizer.step()
        bounds.append(float(terms["superfluous12"] + terms["superfluous21"]))
    assert sum(bounds[-10:]) < sum(bounds[:10])


@pytest.mark.parametrize("collapsed", ["online", "target"])
def test_either_networks_collapse_stops_the_run(collapsed):
    method, batch = built(small())
    method.eval()
    healthy = method(batch, 0.5)["embedding_std"]
    last = method.head.predictor.mean[-1] if collapsed == "online" else method.target_projector[-1]
    constant = nn.Linear(16, 8)
    nn.init.zeros_(constant.weight)
    (method.head.predictor.mean if collapsed == "online" else method.target_projector)[-1] = constant
    assert last.weight.shape == constant.weight.shape
    terms = {name: value.item() for name, value in method(batch, 0.5).items()}
    assert healthy > 0.1 and terms["embedding_std"] < 1e-3
    watch = CollapseWatch(2 * WINDOW)
    with pytest.raises(RunError, match="embeddings collapsed"):
        for step in range(2 * WINDOW):
            watch.check(step, terms)


def test_the_target_follows_before_it_is_asked():
    method, batch = built(small())
    slow, fast = copy.deepcopy(method.target_projector), copy.deepcopy(method.head.projector)
    method(batch, 0.0)
    for now, old, new in zip(method.target_projector.parameters(), slow.parameters(), fast.parameters(), strict=True):
        torch.testing.assert_close(now, 0.9 * old + 0.1 * new)
        assert not now.requires_grad


def test_a_rate_is_refused_for_it_has_no_candidates():
    for bound in ("rate-normal", "rate-mixture"):
        with pytest.raises(InputError, match=f"--method.bound {bound}: without candidates it must be cross_view"):
            require_ranges(PretrainConfig(method=small(bound=bound, parameterisation="bounded")))


def test_the_published_settings():
    """compressive_visual_representations/scripts/cbyol.sh: byol_loss_weight, κe, κb, β and ema_alpha."""
    long, short = PRESETS["cbyol-r50-1000ep"].method, PRESETS["cbyol-r50-300ep"].method
    assert short == dataclasses.replace(long, kappa_d=10.0, target_momentum=0.99)
    assert (long.kappa_d, long.kappa_e, long.kappa_b, long.target_momentum) == (4.0, 16384.0, 10.0, 0.996)
    assert long.weights == (0.5, 0.5) and long.lambda_warmup == 0 and not long.output_norm
    assert (long.dim, long.hidden_dim) == (256, 4096)
