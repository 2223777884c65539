"""How fast the data and the training step are, beside what they are measured against, both sides in one run.

    python -m benchmarks.perf data      # our reader : PIL and torchvision-v1 transforms, images/s a core
    python -m benchmarks.perf step      # our step : a bare one on resident tensors
    python -m benchmarks.perf step --image-size 224 --batch-size 256 --workers 16         # as on a GPU with 16 cores

A table on stdout, one line a side. Every round times all sides one after the other and the median round counts, so that
other work on the machine meets all sides alike.
"""

from __future__ import annotations

import tyro

from pretrain.errors import InputError, run_cli


def main(argv: list[str]) -> int:
    """``data`` or ``step``."""
    if not argv or argv[0] in ("-h", "--help"):
        print(__doc__)
        return 0 if argv else 2
    if argv[0] not in ("data", "step"):
        raise InputError(f"unknown measurement {argv[0]}: choose data or step")
    from benchmarks.perf import data, step  # after the help: torchvision takes seconds to import

    if argv[0] == "data":
        print(data.measure(tyro.cli(data.Arguments, prog="python -m benchmarks.perf data", args=argv[1:])))
    else:
        print(step.measure(tyro.cli(step.Arguments, prog="python -m benchmarks.perf step", args=argv[1:])))
    return 0


if __name__ == "__main__":
    run_cli(main)
