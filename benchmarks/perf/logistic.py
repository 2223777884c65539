"""Linear evaluation: memory and time on synthetic features of any size, or beside scikit-learn on a run's features.

Run: ``python -m benchmarks.perf logistic --rows 200000 --classes 1000 --iterations 3``, which extrapolates to ImageNet;
or ``--features results/features/KEY/train.npy --data results/data/NAME``: the grid's fits, each from the last one's
end, by ours and by scikit-learn's L-BFGS to the same gradient, both sides in one run.
"""

from __future__ import annotations

import dataclasses
import gc
import tempfile
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from benchmarks.data.root import DataRoot
from benchmarks.perf.timing import processor
from benchmarks.tasks.compute import logistic as evaluation
from benchmarks.tasks.compute.features import Features, labelled_images
from benchmarks.tasks.linear import LinearConfig, linear_config
from pretrain.common.device import best_device
from pretrain.common.errors import InputError

IMAGENET_ROWS = 1_281_167


@dataclasses.dataclass(frozen=True, kw_only=True)
class Arguments:
    """Linear evaluation on synthetic features, with the extrapolation to ImageNet's rows, or on real ones."""

    rows: int = 200_000  # of training features; a twentieth more are tested
    dim: int = 2048
    classes: int = 1000
    decays: int | None = 2  # only the first few of the grid; None: all
    iterations: int | None = 3  # at most, of each fit; None: to its tolerance
    features: Path | None = None  # train.npy of a run: instead of synthetic ones, beside scikit-learn, to the tolerance
    data: Path | None = None  # its prepared data root


def synthetic(folder: Path, rows: int, dim: int, classes: int, seed: int) -> Features:
    """Non-negative features about a centre per class, of unlike scales, in a memory-mapped file as real ones are."""
    centres = np.random.default_rng(0).normal(size=(classes, dim)).astype(np.float32)
    scale = np.random.default_rng(1).lognormal(size=dim).astype(np.float32)
    generator = np.random.default_rng([2, seed])
    y = generator.integers(0, classes, rows)
    path = folder / f"{seed}.npy"
    x = np.lib.format.open_memmap(path, "w+", np.float32, (rows, dim))
    for begun in range(0, rows, 10_000):
        labels = y[begun : begun + 10_000]
        noise = generator.standard_normal((len(labels), dim), dtype=np.float32)
        x[begun : begun + len(labels)] = np.maximum(0.2 * centres[labels] + noise, 0) * scale
    x.flush()
    return Features(np.load(path, mmap_mode="r"), y, classes)


@contextmanager
def peak_memory(found: list[int]) -> Iterator[None]:
    """Append the block's peak of additional bytes: of the GPU, else of this process.

    The pages of memory-mapped files do not count: the system takes them back when it needs them.
    """
    if torch.cuda.is_available():
        there = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        yield
        found.append(torch.cuda.max_memory_allocated() - there)
        return
    gc.collect()  # else garbage freed inside the block would be subtracted
    before, highest, stop = _anonymous(), 0, threading.Event()

    def watch() -> None:
        nonlocal highest
        while not stop.wait(0.01):
            highest = max(highest, _anonymous())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield
    finally:
        stop.set()
        watcher.join()
        found.append(highest - before)


def _anonymous() -> int:
    """Bytes of this process that no file backs (Linux)."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    line = next(line for line in status.splitlines() if line.startswith("RssAnon"))
    return 1024 * int(line.split()[1])


def inputs(features: Path, data: Path, decays: int | None) -> tuple[torch.Tensor, torch.Tensor, int, LinearConfig]:
    """Standardised features N×D and labels of the training rows, classes, settings. InputError if they do not fit."""
    root = DataRoot.load(data)
    _, labels = labelled_images(root, "train")
    try:
        x = torch.from_numpy(np.load(features)).double()
    except (OSError, ValueError) as error:
        raise InputError(f"{features} cannot be read ({error}): give a train.npy of results/features") from None
    if len(x) != len(labels):
        raise InputError(f"{features} has {len(x)} rows, {data} {len(labels)} images")
    evaluation.standardise(x)
    config = linear_config("paper")
    return (
        x,
        torch.tensor(labels),
        len(root.section("imagenet")["classes"]),
        dataclasses.replace(config, decays=config.decays[:decays]),
    )


def beside_scikit_learn(features: Path, data: Path, decays: int | None) -> str:
    """Processor seconds and iterations of both sides over the grid, their ratio, how far their objectives are apart."""
    x, y, classes, config = inputs(features, data, decays)
    theirs = LogisticRegression(max_iter=config.max_iterations, warm_start=True)
    seconds, iterations, apart, short, start = [0.0, 0.0], [0, 0], 0.0, [0, 0], None
    for decay in config.decays:
        begun = time.process_time()
        start = evaluation.fit(x, y, classes, decay, config, start)
        between = time.process_time()
        tolerance = config.gradient_at(decay)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            theirs.set_params(C=1 / (decay * len(x)), tol=tolerance).fit(x.numpy(), y.numpy())
        seconds[0], seconds[1] = seconds[0] + between - begun, seconds[1] + time.process_time() - between
        weight, bias = torch.from_numpy(theirs.coef_), torch.from_numpy(theirs.intercept_)
        loss, by_weight, by_bias = evaluation.loss_and_gradient(x, y, weight, bias, decay)
        apart = max(apart, abs(loss.item() - start.objective) / start.objective)
        iterations = [iterations[0] + start.iterations, iterations[1] + int(theirs.n_iter_[0])]
        reached = max(by_weight.abs().max().item(), by_bias.abs().max().item()) <= 2 * tolerance
        short = [short[0] + (not start.converged), short[1] + (not reached)]
    lines = [
        f"{len(x):,} × {x.shape[1]} features, {classes} classes, {len(config.decays)} fits; cpu, {processor()}, "
        f"{torch.get_num_threads()} threads, processor's seconds"
    ]
    names = ("preconditioned L-BFGS", "scikit-learn's L-BFGS")
    for side in (1, 0):
        ratio = seconds[1] / seconds[side]
        lines.append(
            f"{names[side]:24}{seconds[side]:9.1f} s {ratio:6.1f}× {iterations[side]:8,} iterations, "
            f"{short[side]} fits unconverged"
        )
    return "\n".join([*lines, f"objectives at most {apart:.1e} of their value apart"])


def measure(arguments: Arguments) -> str:
    """The measured numbers and their extrapolation: the features grow with the rows, the rest does not."""
    if arguments.features or arguments.data:
        if not (arguments.features and arguments.data):
            raise InputError("--features and --data go together")
        return beside_scikit_learn(arguments.features, arguments.data, arguments.decays)
    config = linear_config("paper")
    config = dataclasses.replace(
        config,
        decays=config.decays[: arguments.decays],
        max_iterations=arguments.iterations or config.max_iterations,
    )
    peak: list[int] = []
    with tempfile.TemporaryDirectory() as folder:
        sizes = dict(enumerate((arguments.rows, arguments.rows // 20)))
        train, test = (
            synthetic(Path(folder), rows, arguments.dim, arguments.classes, seed) for seed, rows in sizes.items()
        )
        begun = time.perf_counter()
        with peak_memory(peak):
            done = evaluation.evaluate(train, test, config, 0)
        seconds = time.perf_counter() - begun
    fits = [*done.settings["tried"], done.settings["fit"]]
    evaluations = sum(one["evaluations"] for one in fits)
    double = arguments.rows * arguments.dim * 8 <= evaluation.DOUBLE_BYTES
    copy = arguments.rows * arguments.dim * (8 if double else 4)
    imagenet = IMAGENET_ROWS * arguments.dim * 4
    larger = IMAGENET_ROWS / arguments.rows
    lines = [
        f"{arguments.rows:,} × {arguments.dim} features, {arguments.classes} classes; {best_device()}, {processor()}, "
        f"{torch.get_num_threads()} threads",
        f"{len(fits)} fits, {sum(one['converged'] for one in fits)} converged; {evaluations} evaluations, "
        f"{seconds / evaluations:.2f} s each with all else, {seconds:.0f} s in all; top-1 {done.metrics['top1']:.1f}",
        f"peak memory {peak[0] / 1e9:.2f} GB: the features {copy / 1e9:.2f}, the rest {(peak[0] - copy) / 1e9:.2f}",
        f"for {IMAGENET_ROWS:,} rows: {(peak[0] - copy + imagenet) / 1e9:.1f} GB, {larger:.1f} × the seconds for each "
        "evaluation; how many a fit takes to its tolerance depends on the features",
    ]
    return "\n".join(lines)
