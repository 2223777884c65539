"""SuperInfo: predictive information minus superfluous information, J = I(z1;z2) − λa I(v1;z1|v2) − λb I(v2;z2|v1).

The objective is that of Yu et al., arXiv 2408.10292, whose heads and weights are not known here. The cross-view bound
with von Mises–Fisher distributions is Lee et al.'s, arXiv 2109.12909. C-SimCLR is this file at λa = λb = β/2 without
warm-up: their loss is the sum of both directions' contrasts, of which ours has the mean (google-research/
compressive-visual-representations objective.py, add_contrastive_ceb_loss). distributions.py has p(z|v). With bound
rate-… the loss is InfoNCE with a rate penalty of weight λ/(1+λa+λb), no other kind of term.

A negative λ pays for the bound in place of taxing it, so for what the views do not share: the direction of InfoCL (Wang
et al., arXiv 2203.07004), not its loss. An upper bound that is paid for says less: it can rise without the information.
Where both views are drawn alike, swapping them changes nothing, and the loss's expectation depends on λa + λb alone.
Run: ``python -m pretrain demo-superinfo --data FOLDER --method.lambda-a 0.1``.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Annotated, Literal

import torch
from torch import Tensor, nn

from pretrain.common.ranges import LEAST, MOST, Fraction, Positive, Range, at_least
from pretrain.information.objectives import embedding_std, info_nce, nt_xent
from pretrain.methods.base import Batch, Method, MethodConfig, Sizes
from pretrain.methods.distributions import VMF, Bound, Embedding, bounded, logged, superfluous
from pretrain.methods.heads import l2_normalize, projection_mlp

KAPPA = Range(LEAST, 1e6, "above 0 and at most 1e6")
WEIGHT = Range(-MOST, MOST, "finite")  # of a superfluous term; SuperInfoConfig.least_weight bounds the sum of both


@dataclasses.dataclass(frozen=True, kw_only=True)
class SuperInfoConfig(MethodConfig):
    """SuperInfo; d, κe, κb and for vmf λ default to C-SimCLR's (google-research/compressive-visual-representations)."""

    parameterisation: Literal["vmf", "bounded"] = "vmf"  # of p(z|v)
    bound: Bound = "cross_view"  # of the superfluous terms; rate-normal is for bounded
    dim: Annotated[int, at_least(2)] = 256  # of z; for vmf on the unit sphere
    hidden_dim: Annotated[int, at_least(2)] = 2048  # of the projection head
    output_norm: bool = True  # BatchNorm after the head's last layer, as SimCLR; C-SimCLR has none
    # vmf: concentration of p(z|v), how little noise a view's embedding carries
    kappa_e: Annotated[float, KAPPA] = 1024.0
    # inverse temperature of the contrast; vmf: the concentration of q(z1|v2) as well
    kappa_b: Annotated[float, KAPPA] = 10.0
    sigma_min: Annotated[float, Positive] = 0.1  # bounded: least noise, against μ of length √d
    sigma_max: Annotated[float, Positive] = 1.0  # bounded: most noise
    # weight per nat of I(v1; z1 | v2), below 0 to pay for it; None: 0.5 for vmf, else 1e-4
    lambda_a: Annotated[float | None, WEIGHT] = None
    # weight per nat of I(v2; z2 | v1); None: likewise
    lambda_b: Annotated[float | None, WEIGHT] = None
    lambda_warmup: Annotated[float, Fraction] = 0.3  # share of training over which both weights rise linearly from 0
    deterministic: bool = False  # z is μ itself and both weights are off: SimCLR at 1 / kappa-b

    @property
    def weights(self) -> tuple[float, float]:
        """(λa, λb): those asked for, else C-SimCLR's β = 1 for vmf and docs/demo.md's sweep for bounded."""
        usual = 0.5 if self.parameterisation == "vmf" else 1e-4
        weight_a, weight_b = (usual if weight is None else weight for weight in (self.lambda_a, self.lambda_b))
        return weight_a, weight_b

    @property
    def least_weight(self) -> float:
        """λa + λb must be above it. From there down the contrast has no pull left that brings two views together.

        The loss itself is bounded below for every λ. With c = cos(μ1, μ2), whatever the candidates are, the contrast
        falls by A κb per unit of c at most (A: the length of the mean of z), and the terms rise:

        - vmf by (λa + λb) A κb, the rates in units of the contrast itself: −1.
        - bounded by (λa + λb) d/σ², against κb/(1 + σ²). A negative λ also lowers σ, so σ is σmin.
        """
        if self.parameterisation == "bounded" and self.bound == "cross_view":
            least_noise = self.sigma_min**2
            return -self.kappa_b * least_noise / (self.dim * (1 + least_noise))
        return -1.0

    def conflict(self) -> str | None:
        """The flag and rule of settings that are in range one by one and do not go together."""
        if self.parameterisation == "vmf" and self.bound == "rate-normal":
            return (
                "bound rate-normal: the rate is a constant on the sphere; take cross_view or rate-mixture, or "
                "--method.parameterisation bounded"
            )
        if self.parameterisation == "bounded" and not self.sigma_min < self.sigma_max:
            return f"sigma-min {self.sigma_min}: must be below --method.sigma-max {self.sigma_max}"
        weight_a, weight_b = self.weights
        if not weight_a + weight_b > self.least_weight:
            return (
                f"lambda-a {weight_a:g} and --method.lambda-b {weight_b:g}: their sum must be above "
                f"{self.least_weight:.3g}, where the contrast can no longer hold two views together"
            )
        return None

    def ramp(self, progress: float) -> float:
        """Share of both weights that is on at ``progress`` in [0, 1)."""
        return min(1.0, progress / self.lambda_warmup) if self.lambda_warmup > 0 else 1.0


class StochasticHead(nn.Module):
    """From pooled features (N, feature_dim) to their Embedding; SimCLR's MLP, and σ from its hidden layer."""

    def __init__(self, config: SuperInfoConfig, feature_dim: int) -> None:
        super().__init__()
        self.config = config
        self.mean = projection_mlp(feature_dim, config.hidden_dim, config.dim, output_norm=config.output_norm)
        self.sigma: nn.Linear | None = None
        if config.parameterisation != "vmf":
            self.sigma = nn.Linear(config.hidden_dim, config.dim)
            nn.init.zeros_(self.sigma.weight)  # every σ starts in the middle
            nn.init.zeros_(self.sigma.bias)
            # Without noise nothing reads σ, and DistributedDataParallel would wait for its gradient.
            self.sigma.requires_grad_(not config.deterministic)

    def forward(self, h: Tensor) -> Embedding:
        """p(z|v) of each row."""
        config = self.config
        if self.sigma is None:
            return VMF(mu=l2_normalize(self.mean(h)), kappa_e=config.kappa_e, kappa_b=config.kappa_b)
        hidden = self.mean[:3](h)  # after the ReLU
        raw_mu, raw_sigma = self.mean[3:](hidden), self.sigma(hidden)
        return bounded(raw_mu, raw_sigma, config.sigma_min, config.sigma_max)


class SuperInfo(Method):
    """Backbone, head to p(z|v), one draw of z per view, read by both terms of the loss."""

    Config = SuperInfoConfig
    config: SuperInfoConfig

    def __init__(self, config: SuperInfoConfig, backbone: nn.Module, sizes: Sizes) -> None:
        super().__init__(config, backbone, sizes)
        self.head = StochasticHead(config, sizes.feature_dim)

    def forward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Terms: in nats loss, nce, nce_score and predictive as SimCLR's, and those of ``logged``; stds, snr.

        predictive = log N − two-tower loss is a lower bound on I(z1; z2) (vmf: I(z1; v2)) on the batch that is trained
        on; its cap is below κb nats (docs/information.md). With a rate bound both superfluous terms subtract the mean
        of the two directions' InfoNCE: their mean is a bound, each alone is not. embedding_std, z_std and
        h_std, in [0, 1], are those of the directions of μ, z and h.
        """
        config = self.config
        h = self.backbone(torch.cat(batch.views))
        p1, p2 = (half.gather() for half in self.head(h).halves())
        # The same z in both terms: were the contrast to read μ, noise would be free (docs/information.md).
        z1, z2 = (p.mu if config.deterministic else p.sample() for p in (p1, p2))
        anchors, keys = (p1.directions(z1), p2.directions(z2)), (p1.keys(z1), p2.keys(z2))
        # For vmf the logits are log vMF(z1; μ2k, κb) up to their common normaliser, hence τ = 1/κb.
        nce, score = nt_xent(*anchors, 1 / config.kappa_b, keys=keys)
        with torch.autocast(h.device.type, enabled=False):
            logits = [config.kappa_b * (a @ k.T).detach() for a, k in zip(anchors, reversed(keys), strict=True)]
        _, predictive = info_nce(*logits)
        terms = {
            "nce": nce.detach(),
            "nce_score": score.detach(),
            "predictive": predictive,
            # Of μ: a collapsed μ would still leave the sampling noise in z's own std.
            "embedding_std": embedding_std(p1.directions(p1.mu)),
            "h_std": embedding_std(l2_normalize(h)),
        }
        if config.deterministic:
            return {"loss": nce, **terms}
        ramp, bound = config.ramp(progress), math.log(len(z1)) - nce
        s12, s21 = superfluous(config.bound, p1, p2, z1, bound), superfluous(config.bound, p2, p1, z2, bound)
        weight_a, weight_b = config.weights
        loss = nce + ramp * (weight_a * s12 + weight_b * s21)
        terms |= {**logged(config.bound, p1, s12, s21), "z_std": embedding_std(anchors[0])}
        return {"loss": loss, **terms, **p1.noise(), "lambda_ramp": loss.new_tensor(ramp)}

    def embedding(self, h: Tensor) -> Tensor:
        """(N, d): directions of the means μ."""
        found = self.head(h)
        return found.directions(found.mu)
