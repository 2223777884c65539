"""Linear classification of frozen features: multinomial logistic regression, L-BFGS, on standardised features.

The weight decay is chosen on held-out folds of the training split, never on the test images; the classifier is then
fitted on all of the training split and tested once (Kornblith et al., arXiv 1805.08974, A.1). This is not the SGD
protocol with random crops behind most published ImageNet numbers: the two must not share a table cell.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.features import VIEWS, Features, eval_precision, features
from benchmarks.run import Context, Result
from pretrain.config import best_device
from pretrain.errors import InputError


@dataclasses.dataclass(frozen=True, kw_only=True)
class LinearConfig:
    """``decays`` are L2 weights on ½‖W‖² beside the mean cross-entropy; ``folds`` of five are used to choose one."""

    decays: tuple[float, ...] = (1e-1, 1e-2, 1e-3, 1e-4)
    folds: int = 1
    iterations: int = 100
    labels_per_class: int | None = None


LINEAR = {
    "smoke": LinearConfig(decays=(1e-1, 1e-3), iterations=30),
    "demo": LinearConfig(),
    "paper": LinearConfig(decays=(1e-2, 1e-3, 1e-4, 1e-5)),
}
FEW_LABEL = {
    profile: dataclasses.replace(config, folds=5, labels_per_class=10, decays=(1.0, 1e-1, 1e-2, 1e-3))
    for profile, config in LINEAR.items()
}


Weights = tuple[Tensor, Tensor]


def fit(
    x: Tensor, y: Tensor, classes: int, decay: float, iterations: int, start: Weights | None = None
) -> tuple[Tensor, Tensor]:
    """Weights C×D and bias (C,) minimising mean cross-entropy + decay·½‖W‖² over ``x`` N×D, ``y`` (N,).

    Full batch, in chunks of 65,536 rows so that ImageNet's features fit beside their logits. The problem is convex:
    ``start`` (default 0) changes the time it takes, not the result.
    """
    weight, bias = start or (torch.zeros(classes, x.shape[1], device=x.device), torch.zeros(classes, device=x.device))
    weight, bias = weight.clone().requires_grad_(), bias.clone().requires_grad_()
    solver = torch.optim.LBFGS(
        [weight, bias], max_iter=iterations, history_size=10, line_search_fn="strong_wolfe", tolerance_grad=1e-6
    )

    def objective() -> Tensor:
        solver.zero_grad()
        total = 0.5 * decay * weight.square().sum()
        total.backward()
        total = total.detach()
        for rows, targets in zip(x.split(65536), y.split(65536), strict=True):
            loss = F.cross_entropy(F.linear(rows, weight, bias), targets, reduction="sum") / len(x)
            loss.backward()
            total = total + loss.detach()
        return total

    solver.step(objective)
    return weight.detach(), bias.detach()


def folds_of(y: np.ndarray, seed: int) -> np.ndarray:
    """Fold 0-4 of each row, (N,): every class is spread evenly over the folds, in an order drawn by ``seed``."""
    fold = np.empty(len(y), dtype=np.int64)
    generator = np.random.default_rng(seed)
    for label in np.unique(y):
        rows = generator.permutation(np.flatnonzero(y == label))
        fold[rows] = (np.arange(len(rows)) + label) % 5
    return fold


def _standardise(train: Tensor, *others: Tensor) -> list[Tensor]:
    mean, std = train.mean(0), train.std(0).clamp(min=1e-6)
    return [(part - mean) / std for part in (train, *others)]


def choose_decay(x: Tensor, y: Tensor, classes: int, config: LinearConfig) -> tuple[float, dict[str, float]]:
    """The decay with the best held-out accuracy (the larger one on a tie) and the accuracies in percent."""
    fold = torch.from_numpy(folds_of(y.cpu().numpy(), 0)).to(x.device)
    right = dict.fromkeys(config.decays, 0.0)
    seen = 0
    for held in range(config.folds):
        kept, out = fold != held, fold == held
        inside, outside = _standardise(x[kept], x[out])
        seen += int(out.sum())
        weights = None
        for decay in sorted(config.decays, reverse=True):  # from the easiest problem on, each starting at the last
            weights = fit(inside, y[kept], classes, decay, config.iterations, weights)
            right[decay] += (F.linear(outside, *weights).argmax(1) == y[out]).sum().item()
    accuracy = {f"{decay:g}": 100 * count / seen for decay, count in right.items()}
    return max(config.decays, key=lambda decay: (right[decay], decay)), accuracy


def subset(y: np.ndarray, per_class: int, seed: int) -> np.ndarray:
    """Row numbers of ``per_class`` rows of each class, drawn by ``seed``. InputError if a class has fewer."""
    generator = np.random.default_rng([seed, per_class])
    chosen = []
    for label in np.unique(y):
        rows = np.flatnonzero(y == label)
        if len(rows) < per_class:
            raise InputError(
                f"class number {label} has {len(rows)} training images, the few-label task takes {per_class}"
            )
        chosen.append(generator.choice(rows, per_class, replace=False))
    return np.sort(np.concatenate(chosen))


def evaluate(train: Features, test: Features, config: LinearConfig, seed: int) -> tuple[dict[str, float | None], dict]:
    """Top-1 and top-5 in percent on ``test``, and the choice of decay as it was made."""
    rows = subset(train.y, config.labels_per_class, seed) if config.labels_per_class else slice(None)
    device = best_device()
    x, y = torch.tensor(train.x[rows], device=device), torch.tensor(train.y[rows], device=device)
    tested, truth = torch.tensor(test.x, device=device), torch.tensor(test.y, device=device)
    decay, held_out = choose_decay(x, y, train.classes, config)
    x, tested = _standardise(x, tested)
    weights = fit(x, y, train.classes, decay, config.iterations)
    order = F.linear(tested, *weights).topk(min(5, train.classes)).indices
    hits = order == truth[:, None]
    top5 = 100 * hits.any(1).double().mean().item() if train.classes > 5 else None
    metrics = {"top1": 100 * hits[:, 0].double().mean().item(), "top5": top5}
    return metrics, {"decay": decay, "held_out_top1": held_out, "training_rows": len(y)}


def _run(context: Context, config: LinearConfig) -> Result:
    found = features(context.backbone(), context.root, context.spec.profile, context.loader_workers)
    metrics, choice = evaluate(found["train"], found["val"], config, context.spec.seed)
    settings = {**dataclasses.asdict(config), **dataclasses.asdict(VIEWS[context.spec.profile]), **choice}
    return Result(metrics=metrics, test_images=len(found["val"].y), config=settings, precision=eval_precision())


def run_linear(context: Context) -> Result:
    """Linear evaluation on all training labels."""
    return _run(context, LINEAR[context.spec.profile])


def run_few_label(context: Context) -> Result:
    """Linear evaluation on ten labels a class, drawn by the run's seed."""
    return _run(context, FEW_LABEL[context.spec.profile])
