"""Linear classification of frozen features: multinomial logistic regression, L-BFGS, on standardised features.

The weight decay is chosen on a held-out fifth of the training split, never on the test images; the classifier is then
fitted on all of the training split and tested once (Kornblith et al., arXiv 1805.08974, A.1). The problem is convex,
and every fit runs to a gradient tolerance, so the numbers are the optimum's and do not depend on a solver's budget.
This is not the SGD protocol with random crops behind most published ImageNet numbers: the two must not share a table
cell.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
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
ROUND = 100  # iterations after which a fit takes the curvature where it is: one that starts far off needs it
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


def loss_and_gradient(
    x: Tensor, y: Tensor, weight: Tensor, bias: Tensor, decay: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Mean cross-entropy + decay·½‖W‖² over ``x`` N×D, ``y`` (N,), and its gradients C×D and (C,).

    CHUNK rows at a time, so that nothing as large as ``x`` is ever copied.
    """
    loss, by_weight, by_bias = 0.5 * decay * weight.square().sum(), decay * weight, torch.zeros_like(bias)
    for rows, targets in zip(x.split(CHUNK), y.split(CHUNK), strict=True):
        rows = rows.double()
        logs = ((weight @ rows.T).T + bias).log_softmax(1)  # twice as fast as F.linear where there are few classes
        loss = loss - logs.gather(1, targets[:, None]).sum() / len(x)
        errors = logs.exp_().scatter_add_(1, targets[:, None], -torch.ones_like(logs[:, :1])) / len(x)
        by_weight, by_bias = by_weight + errors.T @ rows, by_bias + errors.sum(0)
    return loss, by_weight, by_bias


def _curvature(x: Tensor, weight: Tensor, bias: Tensor, decay: float) -> tuple[Tensor, float]:
    """(Σ wᵢ xᵢxᵢᵀ / N + decay, D×D, and the mean w) with wᵢ the mean over classes of p (1 − p) at ``weight``.

    The Hessian's block of an average class; the mean w is that of an average bias.
    """
    found = torch.zeros(x.shape[1], x.shape[1], dtype=torch.float64, device=x.device)
    total = 0.0
    for rows in x.split(CHUNK):
        rows = rows.double()
        p = ((weight @ rows.T).T + bias).softmax(1)
        w = (p * (1 - p)).mean(1) / len(x)
        found += (w[:, None] * rows).T @ rows
        total += w.sum().item()
    found.diagonal().add_(decay)
    return found, total


class _Reached(Exception):
    """The gradient is within the tolerance: raised out of the solver, whose own test sees other coordinates."""


class _Descent:
    """L-BFGS on V = W L, with L Lᵀ the curvature at its start, in which the Hessian of W is near 1."""

    def __init__(self, x: Tensor, y: Tensor, weight: Tensor, bias: Tensor, decay: float, tolerance: float) -> None:
        self.x, self.y, self.decay, self.tolerance = x, y, decay, tolerance
        curvature, of_bias = _curvature(x, weight, bias, decay)
        factor = torch.linalg.cholesky(curvature)
        eye = torch.eye(len(factor), dtype=factor.dtype, device=x.device)
        self.inverse, self.scale = torch.linalg.solve_triangular(factor, eye, upper=False), max(of_bias, 1e-12) ** -0.5
        self.inner = [(weight @ factor).requires_grad_(), (bias / self.scale).requires_grad_()]
        self.evaluations, self.value, self.gradient = 0, math.nan, math.inf

    @torch.no_grad()
    def objective(self) -> Tensor:
        """Loss at V, whose gradient it sets; _Reached where no entry of W's exceeds the tolerance."""
        self.weight, self.bias = self.inner[0] @ self.inverse, self.inner[1] * self.scale
        loss, by_weight, by_bias = loss_and_gradient(self.x, self.y, self.weight, self.bias, self.decay)
        self.evaluations, self.value = self.evaluations + 1, loss.item()
        self.gradient = max(by_weight.abs().max().item(), by_bias.abs().max().item())
        if self.gradient <= self.tolerance:
            raise _Reached
        self.inner[0].grad, self.inner[1].grad = by_weight @ self.inverse.T, by_bias * self.scale
        return loss

    def run(self, iterations: int, evaluations: int) -> int:
        """Iterations made, at most as many; fewer at the tolerance, after ``evaluations``, or at float64's end."""
        solver = torch.optim.LBFGS(
            self.inner,
            max_iter=iterations,
            max_eval=evaluations,
            history_size=HISTORY,
            line_search_fn="strong_wolfe",
            tolerance_grad=0.0,
            tolerance_change=0.0,  # the default would end a fit with small steps at any gradient
        )
        with contextlib.suppress(_Reached):
            solver.step(self.objective)
            self.objective()  # a line search need not end where it looked last
        made: int = solver.state_dict()["state"][0]["n_iter"]
        return made


def fit(x: Tensor, y: Tensor, classes: int, decay: float, config: LinearConfig, start: Fit | None = None) -> Fit:
    """The classifier minimising mean cross-entropy + decay·½‖W‖² over ``x`` N×D, ``y`` (N,), in float64.

    ``start`` (default 0) changes the time it takes, not the result. A network's features say nearly the same, and plain
    L-BFGS takes several times the evaluations: here it is preconditioned by the curvature, anew every ROUND iterations.
    """
    tolerance = config.gradient_at(decay)
    zeros = torch.zeros(classes, x.shape[1] + 1, dtype=torch.float64, device=x.device)
    weight, bias = (start.weight, start.bias) if start else (zeros[:, 1:], zeros[:, 0])
    iterations, evaluations = 0, 0
    while True:
        descent = _Descent(x, y, weight, bias, decay, tolerance)
        asked = min(ROUND, config.max_iterations - iterations)
        made = descent.run(asked, 2 * config.max_iterations - evaluations)
        weight, bias = descent.weight, descent.bias
        iterations, evaluations = iterations + made, evaluations + descent.evaluations
        converged = descent.gradient <= tolerance
        if converged or made < asked or iterations >= config.max_iterations:
            break
    return Fit(
        weight=weight,
        bias=bias,
        objective=descent.value,
        gradient=descent.gradient,
        iterations=iterations,
        evaluations=evaluations,
        converged=converged,
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
