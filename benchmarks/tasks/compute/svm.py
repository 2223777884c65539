"""Linear support vector machines with squared hinge loss, solved to their optimum by Newton's method.

The problem is liblinear's primal, as scikit-learn's LinearSVC(loss="squared_hinge", penalty="l2") has it:

    ½‖w‖² + Σ c·max(0, 1 − y·w·x)²,   y = ±1, c = cost × class weight,

where x ends in a 1 for the intercept, which is regularised too. It is strictly convex, so the solution is unique and
does not depend on the solver: this one is compared with scikit-learn's, run to its optimum, by the tests and by
``python -m benchmarks.perf svm``. Newton's method with the rows of positive loss held fixed is finite (Mangasarian,
A finite Newton method for classification, 2002; Keerthi and DeCoste, JMLR 6, 2005; in kernel form Chapelle, Neural
Computation 19, 2007): a step solves one linear system, whose Gram matrix all classes, folds and costs share.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from sklearn.metrics import average_precision_score
from sklearn.model_selection import StratifiedKFold
from torch import Tensor

from benchmarks.tasks.voc07_svm import SvmConfig

CHUNK = 4096  # rows that are normalised at once
GRAM = 2  # a Gram matrix is kept for at most this many rows per column: above, D×D systems are smaller
SUFFICIENT = 1e-4  # of the promised decrease, for a step to be taken (Armijo)
ROUNDING = 1e-13  # of the objective


@dataclasses.dataclass(frozen=True)
class Rows:
    """``x`` N×(D+1) in float64, unit rows and a column of ones; ``gram`` = x·xᵀ, or None where N is large."""

    x: Tensor
    gram: Tensor | None

    @classmethod
    def of(cls, x: Tensor) -> Rows:
        """With a Gram matrix where that makes the smaller linear systems."""
        return cls(x, x @ x.T if len(x) <= GRAM * x.shape[1] else None)


def normalised(x: np.ndarray, epsilon: float, device: torch.device) -> Tensor:
    """``x`` N×D divided by its rows' norms + ``epsilon``, and a column of ones: N×(D+1) in float64."""
    found = torch.ones(len(x), x.shape[1] + 1, dtype=torch.float64, device=device)
    for begun in range(0, len(x), CHUNK):
        part = torch.from_numpy(np.asarray(x[begun : begun + CHUNK], dtype=np.float64)).to(device)
        found[begun : begun + len(part), :-1] = part / (part.norm(dim=1, keepdim=True) + epsilon)
    return found


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fit:
    """A classifier ``weight`` (D+1,) in float64, the intercept last, and how its fit ended.

    ``gradient``: its norm as a part of that at weight 0.
    """

    weight: Tensor
    gradient: float
    iterations: int
    converged: bool


def fit(rows: Rows, y: Tensor, c: Tensor, config: SvmConfig, start: Tensor | None = None) -> Fit:
    """The classifier of ``rows`` with ``y`` (N,) ±1 and ``c`` (N,); rows of c = 0 take no part.

    Ends when the gradient's norm is ``config.gradient_tolerance`` of that at weight 0 or less, or unconverged after
    ``config.max_iterations``. ``start`` (default 0) changes the time it takes, not the result.
    """
    weight = torch.zeros(rows.x.shape[1], dtype=torch.float64, device=rows.x.device) if start is None else start
    pull = 2 * c * y
    whole = (rows.x.T @ pull).norm().item()
    scores, iterations = rows.x @ weight, 0
    while True:
        slack = (1 - y * scores).clamp(min=0)
        gradient = weight - rows.x.T @ (pull * slack)
        size = gradient.norm().item()
        if size <= config.gradient_tolerance * whole or iterations == config.max_iterations:
            break
        direction = _minimiser(rows, y, c, (slack > 0) & (c > 0)) - weight
        change = rows.x @ direction
        step = _step(weight, direction, gradient, y, c, scores, change)
        weight, scores, iterations = weight + step * direction, scores + step * change, iterations + 1
    return Fit(
        weight=weight,
        gradient=size / whole if whole else 0.0,
        iterations=iterations,
        converged=size <= config.gradient_tolerance * whole,
    )


def _minimiser(rows: Rows, y: Tensor, c: Tensor, active: Tensor) -> Tensor:
    """The weight (D+1,) minimising ½‖w‖² + Σ c·(1 − y·w·x)² over the rows of ``active``."""
    chosen = active.nonzero()[:, 0]
    if rows.gram is None:
        x = rows.x[chosen]
        system = x.T @ (2 * c[chosen, None] * x)
        system.diagonal().add_(1)
        return _solved(system, x.T @ (2 * c * y)[chosen])
    system = rows.gram.clone() if len(chosen) == len(y) else rows.gram[chosen][:, chosen]
    system.diagonal().add_(0.5 / c[chosen])
    part = torch.zeros_like(y)
    part[chosen] = _solved(system, y[chosen])
    return rows.x.T @ part


def _solved(system: Tensor, right: Tensor) -> Tensor:
    """``system``⁻¹·``right`` of a positive definite matrix."""
    return torch.cholesky_solve(right[:, None], torch.linalg.cholesky(system))[:, 0]


def _step(
    weight: Tensor, direction: Tensor, gradient: Tensor, y: Tensor, c: Tensor, scores: Tensor, change: Tensor
) -> float:
    """The largest of 1, ½, ¼, … with a sufficient decrease of the objective along ``direction``."""
    square, cross, far = (float(a @ b) for a, b in ((weight, weight), (weight, direction), (direction, direction)))
    slope = float(gradient @ direction)

    def value(step: float) -> float:
        slack = (1 - y * (scores + step * change)).clamp(min=0)
        return 0.5 * (square + 2 * step * cross + step**2 * far) + float(c @ slack.square())

    here, step = value(0.0), 1.0
    while value(step) > here * (1 + ROUNDING) + SUFFICIENT * step * slope and step > 1e-9:
        step /= 2
    return step


def signs(present: np.ndarray, cost: float, config: SvmConfig, device: torch.device) -> tuple[Tensor, Tensor]:
    """y (N,) of ±1 and c (N,) of a fit on ``present`` (N,) booleans at ``cost``."""
    positive = torch.from_numpy(np.asarray(present, dtype=bool)).to(device)
    y = torch.where(positive, 1.0, -1.0).double()
    return y, cost * torch.where(positive, config.class_weight_positive, config.class_weight_negative).double()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Chosen:
    """The cost of the best mean average precision over the folds, the classifier fitted with it on all rows.

    ``tried`` costs × folds: average precisions, 0 to 1. ``unconverged`` fits of all, ``gradient`` the largest.
    """

    cost: float
    weight: Tensor
    tried: np.ndarray
    iterations: int
    unconverged: int
    gradient: float


def choose_and_fit(rows: Rows, present: np.ndarray, config: SvmConfig) -> Chosen:
    """One class: ``present`` (N,) booleans, at least as many of each kind as folds.

    As scikit-learn's cross_val_score(LinearSVC(…), cv=folds, scoring="average_precision") at every cost and then
    numpy.argmax: stratified folds without shuffling, the first of equal costs
    (facebookresearch/vissl:vissl/utils/svm_utils/svm_trainer.py). Each fit starts where that of the cost before ended.
    """
    device, tried = rows.x.device, np.zeros((len(config.costs), config.folds))
    weights: list[Tensor] = [torch.empty(0)] * len(config.costs)
    ended: list[Fit] = []
    splits = StratifiedKFold(config.folds).split(np.zeros(len(present)), present)
    for fold, (_, held_out) in enumerate(splits):
        start = None
        for place, cost in enumerate(config.costs):
            y, c = signs(present, cost, config, device)
            c[torch.from_numpy(held_out).to(device)] = 0
            ended.append(fit(rows, y, c, config, start))
            weights[place] = start = ended[-1].weight
            tried[place, fold] = average_precision_score(present[held_out], (rows.x @ start).cpu().numpy()[held_out])
    best = int(np.argmax(tried.mean(1)))
    y, c = signs(present, config.costs[best], config, device)
    ended.append(fit(rows, y, c, config, weights[best]))
    return Chosen(
        cost=config.costs[best],
        weight=ended[-1].weight,
        tried=tried,
        iterations=sum(one.iterations for one in ended),
        unconverged=sum(not one.converged for one in ended),
        gradient=max(one.gradient for one in ended),
    )
