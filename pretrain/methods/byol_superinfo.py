"""SuperInfo's terms on BYOL's predictor: C-BYOL (Lee et al., arXiv 2109.12909) with a weight for each view's term.

z is drawn around the direction μ of the online network's predictor, a linear layer W predicts the target's projection y
of the other view from z, and q(z1|v2) is a head of its own on the target's projection of v2:

    L = κd/4 · (‖y2 − W z1‖² + ‖y1 − W z2‖²) + λa · KL(p(z1|v1) ‖ q(z1|v2)) + λb · KL(p(z2|v2) ‖ q(z2|v1))

with y and W z scaled to length 1. −κd/2 · ‖y2 − W z1‖² is log vMF(y2; W z1, κd) but for a constant; the mean of both
directions stands for the predictive term, as in superinfo.py: κd 4 is BYOL's own loss. C-BYOL's is twice L at
λa = λb = β/2 (google-research/compressive-visual-representations objective.py, add_byol_ceb_loss, whose
byol_loss_weight is κd/2; model_util.py, StochasticProjectionHead; model.py, target_projector).
Run: ``python -m pretrain demo-byol-superinfo --data FOLDER``.
"""

from __future__ import annotations

import dataclasses
from typing import Annotated

import torch
from torch import Tensor, nn

from pretrain.common.ranges import at_least
from pretrain.information.objectives import embedding_std
from pretrain.methods.base import Batch, Method, Sizes
from pretrain.methods.byol import BYOLConfig, regression_loss, target_momentum
from pretrain.methods.distributions import Embedding, logged
from pretrain.methods.heads import l2_normalize, mlp_bn
from pretrain.methods.memory import momentum_copy, update_momentum
from pretrain.methods.superinfo import KAPPA, StochasticHead, SuperInfoConfig
from pretrain.runtime.distributed import gather_no_grad

FIT = 0.5  # weight of the fit of q: C-BYOL's, where λa = λb = 0.5. Its own, so that q is fitted for every sign of λ


@dataclasses.dataclass(frozen=True, kw_only=True)
class BYOLSuperInfoConfig(SuperInfoConfig, BYOLConfig):
    """C-BYOL's settings (scripts/cbyol.sh), but for the warm-up of λ: it has none."""

    hidden_dim: Annotated[int, at_least(2)] = 4096  # of the projector, of the predictor and of q's head
    output_norm: bool = False  # BatchNorm at the end of the predictor and of q's head; BYOL has none
    kappa_e: Annotated[float, KAPPA] = 16384.0
    kappa_b: Annotated[float, KAPPA] = 10.0  # of q; without effect in the bounded form, where nothing is contrasted
    kappa_d: Annotated[float, KAPPA] = 4.0  # of p(y|z): C-BYOL's 4 for 1,000 epochs and 10 for 300; BYOL is 4
    deterministic: bool = False  # the prediction is μ itself and both weights are off: BYOL at kappa-d 4

    def conflict(self) -> str | None:
        """As SuperInfo's."""
        if self.bound != "cross_view":
            return f"bound {self.bound}: without candidates it must be cross_view"
        return super().conflict()


class OnlineHead(nn.Module):
    """BYOL's projector and predictor in turn: from pooled features (N, feature_dim) to p(z|v) of each row."""

    def __init__(self, config: BYOLSuperInfoConfig, feature_dim: int) -> None:
        super().__init__()
        self.projector = mlp_bn(feature_dim, config.hidden_dim, config.dim)
        self.predictor = StochasticHead(config, config.dim)

    def forward(self, h: Tensor) -> Embedding:
        """The distributions."""
        found: Embedding = self.predictor(self.projector(h))
        return found


class BYOLSuperInfo(Method):
    """Online backbone and head; target backbone and projector that follow them; W and q's head."""

    Config = BYOLSuperInfoConfig
    config: BYOLSuperInfoConfig

    def __init__(self, config: BYOLSuperInfoConfig, backbone: nn.Module, sizes: Sizes) -> None:
        super().__init__(config, backbone, sizes)
        self.head = OnlineHead(config, sizes.feature_dim)
        self.target_backbone, self.target_projector = momentum_copy(backbone), momentum_copy(self.head.projector)
        self.prediction = nn.Linear(config.dim, config.dim, bias=False)
        self.posterior = StochasticHead(config, config.dim)
        if config.deterministic:  # nothing reads them, and DistributedDataParallel would wait for their gradients
            self.prediction.requires_grad_(False)
            self.posterior.requires_grad_(False)

    def forward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Terms: loss; regression, both directions summed, in [0, 8]; target_momentum; those of ``logged``; stds, snr.

        embedding_std is the smaller one of the targets' and of μ's: each can collapse without the other.
        """
        config, momentum = self.config, target_momentum(self.config.target_momentum, progress)
        t1, t2 = self.targets(batch, momentum)
        h1, h2 = (self.backbone(view) for view in batch.views)
        p1, p2 = self.head(h1).gather(), self.head(h2).gather()
        z1, z2 = (p.mu if config.deterministic else p.sample() for p in (p1, p2))
        y1, y2 = (z1, z2) if config.deterministic else (self.prediction(z1), self.prediction(z2))
        regression = regression_loss(y1, gather_no_grad(t2)) + regression_loss(y2, gather_no_grad(t1))
        stds = [embedding_std(one) for one in (p1.directions(p1.mu), gather_no_grad(t1))]
        terms = {
            "regression": regression.detach(),
            "target_momentum": regression.new_tensor(momentum),
            "embedding_std": torch.stack(stds).min(),
            "h_std": embedding_std(l2_normalize(h1)),
        }
        loss = config.kappa_d / 4 * regression
        if config.deterministic:
            return {"loss": loss, **terms}
        q1, q2 = self.posterior(t2).gather(), self.posterior(t1).gather()  # of z1 and of z2
        s12, s21 = (p.cross_view(q.apply(torch.Tensor.detach), z) for p, q, z in ((p1, q1, z1), (p2, q2, z2)))
        fits = [p.apply(torch.Tensor.detach).cross_view(q, z.detach()) for p, q, z in ((p1, q1, z1), (p2, q2, z2))]
        fit = FIT * (fits[0] + fits[1])
        ramp, (weight_a, weight_b) = config.ramp(progress), config.weights
        # q learns from the fit alone, and the fit adds nothing to the value.
        loss = loss + ramp * (weight_a * s12 + weight_b * s21) + (fit - fit.detach())
        terms |= {**logged(config.bound, p1, s12, s21), "z_std": embedding_std(p1.directions(z1))}
        return {"loss": loss, **terms, **p1.noise(), "lambda_ramp": loss.new_tensor(ramp)}

    @torch.no_grad()
    def targets(self, batch: Batch, momentum: float) -> list[Tensor]:
        """This process's unit projections (n, d) of both views; in training the target network first moves."""
        if self.training:
            update_momentum(self.target_backbone, self.backbone, momentum)
            update_momentum(self.target_projector, self.head.projector, momentum)
        return [l2_normalize(self.target_projector(self.target_backbone(view))) for view in batch.views]

    def embedding(self, h: Tensor) -> Tensor:
        """(N, d): directions of the means μ."""
        found = self.head(h)
        return found.directions(found.mu)
