"""SuperInfo: predictive information minus superfluous information, J = I(z1;z2) − λa I(v1;z1|v2) − λb I(v2;z2|v1).

The objective is that of Yu et al., arXiv 2408.10292, whose heads and weights are not known here. The cross-view bound
with von Mises–Fisher distributions is Lee et al.'s, arXiv 2109.12909: C-SimCLR is this file at λa = λb = 1, no warm-up.
Run: ``python -m pretrain demo-superinfo --data FOLDER --method.lambda-a 0.1``.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor, nn

from pretrain import vmf
from pretrain.methods.base import Batch, Sizes
from pretrain.methods.heads import projection_mlp, unit
from pretrain.objectives import info_nce, nt_xent, spread, superfluous_vmf


@dataclasses.dataclass(frozen=True, kw_only=True)
class SuperInfoConfig:
    """SuperInfo; d, κe, κb and λ default to C-SimCLR's (google-research/compressive-visual-representations)."""

    dim: int = 256  # of z, on the unit sphere
    hidden_dim: int = 2048  # of the projection head
    kappa_e: float = 1024.0  # concentration of p(z|v): how little noise a view's embedding carries
    kappa_b: float = 10.0  # concentration of q(z1|v2); the contrast's temperature is its inverse
    lambda_a: float = 1.0  # weight per nat of I(v1; z1 | v2)
    lambda_b: float = 1.0  # weight per nat of I(v2; z2 | v1)
    lambda_warmup: float = 0.3  # share of training over which both weights rise linearly from 0
    deterministic: bool = False  # z is the direction itself and both weights are off: SimCLR at 1 / kappa-b


class SuperInfo(nn.Module):
    """Backbone, MLP head to directions μ, one draw z ~ vMF(μ, κe) a view that both terms of the loss read."""

    def __init__(self, config: SuperInfoConfig, backbone: nn.Module, sizes: Sizes) -> None:
        super().__init__()
        self.config, self.backbone, self.feature_dim = config, backbone, sizes.feature_dim
        self.head = projection_mlp(sizes.feature_dim, config.hidden_dim, config.dim)

    def forward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Terms in nats: loss, nce, score and predictive as SimCLR's, superfluous12, superfluous21; and the spreads."""
        config = self.config
        mu1, mu2 = unit(self.head(self.backbone(torch.cat(batch.views)))).chunk(2)
        # The same z in both terms: were the contrast to read μ, λ would buy nothing (superinfo.md).
        z1, z2 = (mu if config.deterministic else vmf.sample(mu, config.kappa_e) for mu in (mu1, mu2))
        # The logits are log vMF(z1; μ2k, κb) up to their common normaliser, hence τ = 1/κb.
        nce, score = nt_xent(z1, z2, 1 / config.kappa_b, keys=(mu1, mu2))
        _, predictive = info_nce(config.kappa_b * (z1 @ mu2.T).detach(), config.kappa_b * (z2 @ mu1.T).detach())
        terms = {
            "nce": nce.detach(),
            "score": score.detach(),
            "predictive": predictive,
            # Of μ: a collapsed μ would still leave the sampling noise in z's own spread.
            "spread": spread(mu1),
        }
        if config.deterministic:
            return {"loss": nce, **terms}
        ramp = min(1.0, progress / config.lambda_warmup) if config.lambda_warmup > 0 else 1.0
        s12, s21 = superfluous_vmf(z1, z2, mu1, mu2, config.kappa_e, config.kappa_b)
        loss = nce + ramp * (config.lambda_a * s12 + config.lambda_b * s21)
        superfluous = {"superfluous12": s12.detach(), "superfluous21": s21.detach(), "z_spread": spread(z1)}
        return {"loss": loss, **terms, **superfluous, "lambda_ramp": loss.new_tensor(ramp)}
