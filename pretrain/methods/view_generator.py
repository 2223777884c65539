"""InfoMin's learned views (Tian et al., arXiv 2005.10243, section 4): a game about the information that views share.

    min over g, c1, c2, max over f1, f2 of   I_nce(f1(g(X)_1); f2(g(X)_2:3)) + w · Σ cross-entropy(c_i(g(X)_i), y)

The encoders f raise the InfoNCE bound, the generator g (colour_flow.py) lowers it; with ``labels`` the classifiers c
and g together keep the class in each view (semi-supervised). The game is played by simultaneous steps: the gradient of
the bound is reversed on its way into g. Run: ``python -m pretrain demo-view-generator --data FOLDER``; then
``demo-split-views --method.generator RUN`` pretrains encoders on the frozen views.
"""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pretrain.common.errors import InputError
from pretrain.common.ranges import Fraction, NonNegative, Positive, at_least
from pretrain.information.objectives import embedding_std, info_nce
from pretrain.methods.base import Batch, Method, MethodConfig, Sizes
from pretrain.methods.cmc_encoders import TwoEncoders, split
from pretrain.methods.heads import l2_normalize, mlp
from pretrain.runtime.distributed import gather, gather_no_grad

HASH = 2654435761  # Knuth's multiplicative hash: which images have labels depends on their number alone


@dataclasses.dataclass(frozen=True, kw_only=True)
class ViewGeneratorConfig(MethodConfig):
    """The published losses; sizes and weights are ours."""

    dim: Annotated[int, at_least(2)] = 128
    hidden_dim: Annotated[int, at_least(2)] = 512
    temperature: Annotated[float, Positive] = 0.1
    strength: Annotated[float, Positive] = 1.0  # of the reversed gradient
    labels: Annotated[float, Fraction] = 0.0  # share of the images whose class the classifiers see; 0: unsupervised
    label_weight: Annotated[float, NonNegative] = 1.0  # w


class ViewGenerator(Method):
    """``backbone``: the generator and the two half-width encoders that play against it."""

    Config = ViewGeneratorConfig
    views = 1
    config: ViewGeneratorConfig

    def __init__(self, config: ViewGeneratorConfig, backbone: nn.Module, sizes: Sizes) -> None:
        if config.labels and sizes.num_classes < 2:
            raise InputError(f"--method.labels {config.labels}: the images have no classes; give a folder per class")
        super().__init__(config, TwoEncoders(backbone, "learned"), sizes)
        widths = (sizes.feature_dim // 2, config.hidden_dim, config.dim)
        self.head1, self.head2 = mlp(*widths), mlp(*widths)
        self.classifiers = nn.ModuleList()
        if config.labels:
            self.classifiers.extend(_classifier(channels, sizes.num_classes) for channels in (1, 2))

    def forward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Terms in nats: loss, nce, predictive (log N − nce, which g lowers); of the labelled images their number,
        class_loss (the sum of both views' means) and accuracy (of both, in [0, 1]); embedding_std."""
        config, encoders = self.config, self.backbone
        assert isinstance(encoders, TwoEncoders)
        views = split(encoders.channels(batch.views[0]))
        h1, h2 = encoders.encode(*(reverse(view, config.strength) for view in views))
        z1, z2 = gather(l2_normalize(self.head1(h1))), gather(l2_normalize(self.head2(h2)))
        with torch.autocast(z1.device.type, enabled=False):
            logits = z1 @ z2.T / config.temperature
        nce, predictive = info_nce(logits, logits.T)
        terms = {"nce": nce.detach(), "predictive": predictive.detach(), "embedding_std": embedding_std(z1)}
        if not config.labels:
            return {"loss": nce, **terms}
        assert batch.label is not None
        known = gather_no_grad(labelled(batch.index, config.labels))
        label, count = gather_no_grad(batch.label), known.sum()
        losses, right = [], []
        for classifier, view in zip(self.classifiers, views, strict=True):
            scores = gather(classifier(view).float())
            losses.append((F.cross_entropy(scores, label, reduction="none") * known).sum() / count.clamp(min=1))
            right.append(((scores.detach().argmax(1) == label) * known).sum() / count.clamp(min=1))
        class_loss = torch.stack(losses).sum()
        terms |= {"class_loss": class_loss.detach(), "accuracy": torch.stack(right).mean(), "labelled": count.float()}
        return {"loss": nce + config.label_weight * class_loss, **terms}


def labelled(index: Tensor, share: float) -> Tensor:
    """(N,) booleans: whether the image of each number has a label, true of ``share`` of all."""
    return (index * HASH) % 2**32 < round(share * 2**32)


def reverse(x: Tensor, strength: float) -> Tensor:
    """``x``, whose gradient is multiplied by −``strength`` (Ganin and Lempitsky, arXiv 1409.7495)."""
    found: Tensor = _Reverse.apply(x, strength)
    return found


class _Reverse(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, strength: float) -> Tensor:
        ctx.strength = strength
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return -ctx.strength * gradients[0], None


def _classifier(channels: int, classes: int) -> nn.Module:
    """A small convolutional network on a view."""
    layers: list[nn.Module] = []
    for before, after in ((channels, 32), (32, 64), (64, 128)):
        layers += [nn.Conv2d(before, after, 3, 2, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(128, classes))
