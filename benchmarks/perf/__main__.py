"""Speed of the data and the training step, each beside its reference, both sides measured in one run.

    python -m benchmarks.perf data      # our reader : PIL and torchvision-v1 transforms, images/s per core
    python -m benchmarks.perf step      # our step : a bare one on resident tensors
    python -m benchmarks.perf step --image-size 224 --batch-size 256 --workers 16         # as on a GPU with 16 cores

    python -m benchmarks.perf extract   # extraction of features : the bare forward of the same network
    python -m benchmarks.perf extract --size 224 --images 8192 --workers 16               # as on a GPU with 16 cores
    python -m benchmarks.perf linear    # published linear styles: alone, in one pass, cached; time and accuracy
    python -m benchmarks.perf logistic  # L-BFGS on 200,000 synthetic rows: peak memory and time
    python -m benchmarks.perf svm       # the support vector machines of voc07-svm : scikit-learn's
    python -m benchmarks.perf tables    # the tables of 1,000 and 10,000 synthetic records: time and peak memory
    python -m benchmarks.perf status    # `status` over as many records, and the engine's milliseconds a run
    python -m benchmarks.perf convert   # a conversion: start-up, read, map, forward, write
    python -m benchmarks.perf bootstrap  # intervals from two detectors' matches : AP by Matches.ap, at COCO val's size
    python -m benchmarks.perf evaluators  # the evaluators of COCO and VOC : detectron2's, at the real test sets' size

Prints a table, one line per side. Every round times all sides one after the other and the median counts, so that
other load on the machine affects all sides alike.
"""

from __future__ import annotations

import importlib

import tyro

from pretrain.common.errors import InputError, run_cli

MEASUREMENTS = (
    "data",
    "step",
    "extract",
    "linear",
    "logistic",
    "svm",
    "tables",
    "status",
    "convert",
    "evaluators",
    "detector",
    "bootstrap",
)


def main(argv: list[str]) -> int:
    """One of MEASUREMENTS."""
    if not argv or argv[0] in ("-h", "--help"):
        print(__doc__)
        return 0 if argv else 2
    if argv[0] not in MEASUREMENTS:
        raise InputError(f"unknown measurement {argv[0]}: choose {', '.join(MEASUREMENTS[:-1])} or {MEASUREMENTS[-1]}")
    module = importlib.import_module(f"benchmarks.perf.{argv[0]}")  # after the help: torchvision takes seconds
    print(module.measure(tyro.cli(module.Arguments, prog=f"python -m benchmarks.perf {argv[0]}", args=argv[1:])))
    return 0


if __name__ == "__main__":
    run_cli(main)
