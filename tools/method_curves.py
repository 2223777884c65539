"""Train every method for some steps and draw all their losses in one picture.

    python -m tools.method_curves --data FOLDER --steps 200                     # the demo preset of every method
    python -m tools.method_curves --data FOLDER --steps 20 --method moco byol -- --backbone resnet18 --image-size 32

Each method is one ``python -m pretrain demo-METHOD``; what stands after ``--`` is given to each. A second call
continues where the first one stopped. Prints the picture's path; exit status 1 if a method failed.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from pretrain.common.errors import InputError, RunError, run_cli
from pretrain.common.files import replacing, results_dir
from pretrain.methods import METHODS
from pretrain.runtime.metrics import read_metrics

CHECKOUT = Path(__file__).resolve().parent.parent
LEARNING = [name for name in METHODS if name != "random"]
COLUMNS = 5
Curve = tuple[list[float], list[float]]  # steps and losses


def main(argv: list[str]) -> int:
    """Train, then draw what was trained."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of images, one subfolder a class")
    parser.add_argument("--steps", type=int, default=200, help="of each method")
    parser.add_argument("--method", nargs="+", choices=LEARNING, default=LEARNING, help="default: all")
    parser.add_argument("--output", type=Path, help="the picture (default: method-curves.png under the results)")
    split = argv.index("--") if "--" in argv else len(argv)
    options = parser.parse_args(argv[:split])
    if not options.data.is_dir():
        raise InputError(f"{options.data} is not a folder: give a folder of images as --data")
    curves: dict[str, Curve] = {}
    for name in options.method:
        metrics = train(name, options.data, options.steps, argv[split + 1 :])
        if metrics is not None:
            rows = [row for row in read_metrics(metrics) if "loss" in row]
            curves[name] = [row["step"] for row in rows], [row["loss"] for row in rows]
    if not curves:
        raise RunError("no method was trained, see above")
    output = options.output or results_dir() / "method-curves.png"
    draw(curves, output, f"{options.steps} steps on {options.data}")
    print(output)
    return 0 if len(curves) == len(options.method) else 1


def train(name: str, data: Path, steps: int, more: list[str]) -> Path | None:
    """The metrics.jsonl of the method's finished run; None if it failed, which it has then said itself."""
    command = [sys.executable, "-m", "pretrain", f"demo-{name}", "--data", str(data), "--steps", str(steps), *more]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, cwd=CHECKOUT)
    return Path(done.stdout.strip()).parent / "metrics.jsonl" if done.returncode == 0 else None


def draw(curves: dict[str, Curve], output: Path, title: str) -> None:
    """One panel a method, each with its own scale: the losses are of different kinds."""
    from matplotlib.figure import Figure

    rows = max(1, -(-len(curves) // COLUMNS))
    figure = Figure(figsize=(2.6 * COLUMNS, 2.1 * rows), layout="constrained")
    axes = figure.subplots(rows, COLUMNS, squeeze=False).ravel().tolist()
    for axis, (name, (steps, losses)) in zip(axes, curves.items(), strict=False):
        axis.plot(steps, losses, linewidth=0.8)
        axis.set_title(name, fontsize=9)
        axis.tick_params(labelsize=7)
    for axis in axes[len(curves) :]:
        axis.set_visible(False)
    figure.suptitle(f"loss, {title}", fontsize=9)
    output.parent.mkdir(parents=True, exist_ok=True)
    with replacing(output) as temporary:
        figure.savefig(temporary, format="png", dpi=120)


if __name__ == "__main__":
    run_cli(main)
