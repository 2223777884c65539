"""Linear classification of frozen features: multinomial logistic regression, L-BFGS, on standardised features.

The weight decay is chosen on a held-out fifth of the training split, never on the test images; the classifier is then
fitted on all of the training split and tested once (Kornblith et al., arXiv 1805.08974, A.1). The problem is convex,
and every fit runs to a gradient tolerance, so the numbers are the optimum's and do not depend on a solver's budget.
This is not the SGD protocol with random crops behind most published ImageNet numbers: the two must not share a table
cell.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.predictions import Predictions
from benchmarks.tasks.compute.features import Features
from benchmarks.tasks.compute.scoring import best_first, confidence, top1_top5
from benchmarks.tasks.linear import LinearConfig
from pretrain.common.device import best_device
from pretrain.common.errors import InputError

CHUNK = 8192  # rows whose logits exist at once
DOUBLE_BYTES = 2**30  # features up to this size are kept in float64; larger ones in float32, and cast chunk by chunk
HISTORY = 20  # pairs of L-BFGS: 0.7 GB for ImageNet's 1,000 × 2,048 weights


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fit:
    """A classifier, ``weight`` C×D and ``bias`` (C,) in float64, and how its fit ended."""

    weight: Tensor
    bias: Tensor
    objective: float  # mean cross-entropy + decay·½‖W‖², nats
    gradient: float  # largest absolute entry
    iterations: int
    evaluations: int
    converged: bool

    def summary(self) -> dict[str, Any]:
        """The numbers of the fit, for the record."""
        return {
            name: getattr(self, name) for name in ("objective", "gradient", "iterations", "evaluations", "converged")
        }


def fit(x: Tensor, y: Tensor, classes: int, decay: float, config: LinearConfig, start: Fit | None = None) -> Fit:
    """The classifier minimising mean cross-entropy + decay·½‖W‖² over ``x`` N×D, ``y`` (N,), in float64.

    Full batch, CHUNK rows at a time, so that nothing as large as ``x`` is ever copied. ``start`` (default 0) changes
    the time it takes, not the result.
    """
    tolerance = min(config.tolerance, config.tolerance_per_decay * decay)
    zeros = torch.zeros(classes, x.shape[1] + 1, dtype=torch.float64, device=x.device)
    weight = (start.weight if start else zeros[:, 1:]).clone().requires_grad_()
    bias = (start.bias if start else zeros[:, 0]).clone().requires_grad_()
    solver = torch.optim.LBFGS(
        [weight, bias],
        max_iter=config.max_iterations,
        max_eval=2 * config.max_iterations,
        history_size=HISTORY,
        line_search_fn="strong_wolfe",
        tolerance_grad=tolerance,
        tolerance_change=0.0,  # the default would end a fit with small steps at any gradient
    )

    def objective() -> Tensor:
        solver.zero_grad()
        total = 0.5 * decay * weight.square().sum()
        total.backward()
        total = total.detach()
        for rows, targets in zip(x.split(CHUNK), y.split(CHUNK), strict=True):
            scores = (weight @ rows.double().T).T + bias  # twice as fast as F.linear where there are few classes
            loss = F.cross_entropy(scores, targets, reduction="sum") / len(x)
            loss.backward()
            total = total + loss.detach()
        return total

    solver.step(objective)
    value = objective().item()
    gradient = max(part.grad.abs().max().item() for part in (weight, bias) if part.grad is not None)
    state = solver.state_dict()["state"][0]
    return Fit(
        weight=weight.detach(),
        bias=bias.detach(),
        objective=value,
        gradient=gradient,
        iterations=state["n_iter"],
        evaluations=state["func_evals"],
        converged=gradient <= tolerance,
    )


def logits(fitted: Fit, rows: Tensor) -> Iterator[Tensor]:
    """Class scores of standardised ``rows`` M×D, CHUNK at a time."""
    for chunk in rows.split(CHUNK):
        yield F.linear(chunk.double(), fitted.weight, fitted.bias)


def top1(fitted: Fit, rows: Tensor, y: Tensor) -> float:
    """Accuracy in percent."""
    predicted = torch.cat([scores.argmax(1) for scores in logits(fitted, rows)])
    return 100 * (predicted == y).double().mean().item()


def held_out(y: np.ndarray, seed: int) -> np.ndarray:
    """Mask (N,) of the held-out fifth of the rows, stratified by class, drawn by ``seed``."""
    mask = np.zeros(len(y), dtype=bool)
    generator = np.random.default_rng(seed)
    for label in np.unique(y):
        rows = generator.permutation(np.flatnonzero(y == label))
        mask[rows] = (np.arange(len(rows)) + label) % 5 == 0
    return mask


@dataclasses.dataclass(frozen=True, kw_only=True)
class Choice:
    """The chosen decay, its grid, its fit on the training part, and the result of every decay tried."""

    decay: float
    grid: tuple[float, ...]
    start: Fit | None
    tried: list[dict[str, Any]]

    def notes(self) -> list[str]:
        """Warnings about the choice, for the table's caption."""
        short = sum(not one["converged"] for one in self.tried)
        found = [f"{short} of the {len(self.tried)} fits used to choose the decay did not converge"] if short else []
        if self.tried and self.decay in (self.grid[0], self.grid[-1]):
            end = "largest" if self.decay == self.grid[0] else "smallest"
            found.append(f"decay {self.decay:g} is the {end} of its grid")
        return found


def choose_decay(x: Tensor, y: Tensor, kept: int, classes: int, config: LinearConfig) -> Choice:
    """The decay with the best accuracy on rows ``kept:``, fitted on rows ``:kept``; the larger one on a tie.

    From the largest decay on, the easiest problem, each fit starts where the last one ended.
    """
    if len(config.decays) == 1:
        return Choice(decay=config.decays[0], grid=config.decays, start=None, tried=[])
    tried, best, start, fitted = [], 0, None, None
    for place, decay in enumerate(config.decays):
        fitted = fit(x[:kept], y[:kept], classes, decay, config, fitted)
        tried.append({"decay": decay, "held_out_top1": top1(fitted, x[kept:], y[kept:]), **fitted.summary()})
        if start is None or tried[place]["held_out_top1"] > tried[best]["held_out_top1"]:
            best, start = place, fitted
        if place - best == config.patience:
            break
    return Choice(decay=config.decays[best], grid=config.decays, start=start, tried=tried)


def subset(y: np.ndarray, per_class: int, seed: int) -> np.ndarray:
    """Row numbers of ``per_class`` rows of each class, drawn by ``seed``. InputError if a class has fewer."""
    generator = np.random.default_rng([seed, per_class])
    chosen = []
    for label in np.unique(y):
        rows = np.flatnonzero(y == label)
        if len(rows) < per_class:
            raise InputError(f"class number {label} has {len(rows)} training images, low-shot takes {per_class}")
        chosen.append(generator.choice(rows, per_class, replace=False))
    return np.sort(np.concatenate(chosen))


def standardise(x: Tensor) -> tuple[Tensor, Tensor]:
    """Bring every column of ``x`` N×D to mean 0 and standard deviation 1, in place; (mean, std), (D,) in float64."""
    total = torch.zeros(x.shape[1], dtype=torch.float64, device=x.device)
    mean = sum((chunk.double().sum(0) for chunk in x.split(CHUNK)), total) / len(x)
    squares = sum(((chunk.double() - mean).square().sum(0) for chunk in x.split(CHUNK)), total)
    std = (squares / max(1, len(x) - 1)).sqrt().clamp(min=1e-6)
    for chunk in x.split(CHUNK):
        chunk.copy_((chunk.double() - mean) / std)
    return mean, std


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evaluated:
    """Top-1 and top-5 in percent, the fit and its choice of decay for the record, and notes for the table.

    ``predictions`` of the test rows, with the probability of the predicted class.
    """

    metrics: dict[str, float | None]
    settings: dict[str, Any]
    notes: tuple[str, ...]
    predictions: Predictions = dataclasses.field(compare=False)  # arrays have no single equality


def evaluate(train: Features, test: Features, config: LinearConfig, seed: int) -> Evaluated:
    """Choose, fit and test. The device holds one copy of the training features, chunks and the solver's state.

    Mean and deviation are those of all training rows used, held out or not: no label and no test image enters them.
    """
    rows = subset(train.y, config.labels_per_class, seed) if config.labels_per_class else np.arange(len(train.y))
    out = held_out(train.y[rows], 0) if len(config.decays) > 1 else np.zeros(len(rows), dtype=bool)
    order = np.concatenate([rows[~out], rows[out]])
    device = best_device()
    double = len(order) * train.x.shape[1] * 8 <= DOUBLE_BYTES
    x = train.tensor(order, device, torch.float64 if double else torch.float32)
    y = torch.tensor(train.y[order], device=device)
    mean, std = standardise(x)
    choice = choose_decay(x, y, len(rows) - int(out.sum()), train.classes, config)
    fitted = fit(x, y, train.classes, choice.decay, config, choice.start)
    best, sure = [], []
    for some in np.array_split(np.arange(len(test.y)), -(-len(test.y) // CHUNK)):
        tested = (test.tensor(some, device, torch.float64) - mean) / std
        (scores,) = logits(fitted, tested)
        top = best_first(scores)
        best.append(top.cpu())
        sure.append(confidence(scores, top[:, 0]).cpu())
    found = torch.cat(best)
    metrics = dict(zip(("top1", "top5"), top1_top5(found, torch.tensor(test.y), train.classes), strict=True))
    ended = f"not converged: gradient {fitted.gradient:.1e} after {fitted.iterations} iterations"
    notes = (*choice.notes(), *([] if fitted.converged else [ended]))
    settings = {"decay": choice.decay, "fit": fitted.summary(), "tried": choice.tried, "training_rows": len(y)}
    predictions = Predictions(target=test.y, predicted=found[:, 0].numpy(), confidence=torch.cat(sure).numpy())
    return Evaluated(metrics=metrics, settings=settings, notes=notes, predictions=predictions)
