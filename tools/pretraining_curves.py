"""The pretraining logs of a suite's rows: their losses as one picture, their terms as a table.

    python -m benchmarks suite coefficients && python -m tools.pretraining_curves coefficients
    python -m benchmarks suite method-curves && python -m tools.pretraining_curves method-curves -o curves.png

The table goes to stderr: per row the mean of each term over the last tenth of the logged steps. The picture's path goes
to stdout. Rows without a finished run are named.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import tyro

from benchmarks.records import ResultsStore
from benchmarks.suites import Suite, find_suite
from pretrain.common.errors import InputError, run_cli
from pretrain.common.files import replacing, results_dir
from pretrain.runtime.metrics import read_metrics

LAST = 0.1  # share of the logged steps whose mean is shown
COLUMNS = 5
Log = list[dict[str, float]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Arguments:
    """Draw the losses of a suite's pretraining runs and print their terms."""

    suite: tyro.conf.Positional[str]
    """Name of a suite, or the path of its .toml file; it has to have been run."""
    output: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None
    """PNG to write; default results/tables/SUITE-curves.png."""


def logs(suite: Suite) -> dict[str, Log]:
    """The logged steps of each row's pretraining run, by label, found through the newest record of that label."""
    folders: dict[str, tuple[str, Path]] = {}
    for record in ResultsStore().load_all():
        if record.spec.profile == suite.profile and record.checkpoint:
            folder = Path(record.checkpoint["path"]).parent
            if record.start >= folders.get(record.label, ("", folder))[0]:
                folders[record.label] = (record.start, folder)
    found = {}
    for row in suite.rows:
        for label, _ in row.members():
            path = folders[label][1] / "metrics.jsonl" if label in folders else None
            if path is None or not path.is_file():
                print(f"{label}: no finished run of it has been evaluated", file=sys.stderr)
                continue
            found[label] = [step for step in read_metrics(path) if "loss" in step]  # not the probe's
    return found


def terms(log: Log) -> dict[str, float]:
    """Means over the last tenth of the logged steps."""
    last = log[-max(1, round(LAST * len(log))) :]
    return {name: sum(step[name] for step in last) / len(last) for name in last[0] if name in last[-1]}


def table(found: Mapping[str, Log]) -> str:
    """Rows × terms as Markdown."""
    means = {label: terms(log) for label, log in found.items()}
    names = list(dict.fromkeys(name for row in means.values() for name in row if name != "step"))
    lines = ["| " + " | ".join(["row", *names]) + " |", "|---" * (1 + len(names)) + "|"]
    for label, row in means.items():
        cells = [f"{row[name]:.4g}" if name in row else "–" for name in names]
        lines.append("| " + " | ".join([label, *cells]) + " |")
    return "\n".join(lines)


def draw(found: Mapping[str, Log], output: Path, title: str) -> None:
    """One panel per row, each with its own scale: the losses of methods are of different kinds."""
    from matplotlib.figure import Figure

    across = min(COLUMNS, len(found))
    rows = -(-len(found) // across)
    figure = Figure(figsize=(2.6 * across, 2.1 * rows), layout="constrained")
    axes = figure.subplots(rows, across, squeeze=False).ravel().tolist()
    for axis, (label, log) in zip(axes, found.items(), strict=False):
        axis.plot([step["step"] for step in log], [step["loss"] for step in log], linewidth=0.8)
        axis.set_title(label, fontsize=9)
        axis.tick_params(labelsize=7)
    for axis in axes[len(found) :]:
        axis.set_visible(False)
    figure.suptitle(title, fontsize=9)
    with replacing(output) as temporary:
        figure.savefig(temporary, format="png", dpi=120)


def main(argv: list[str]) -> int:
    """Draw and print. InputError where no row has a finished run."""
    arguments = tyro.cli(Arguments, args=argv, prog="python -m tools.pretraining_curves")
    suite = find_suite(arguments.suite)
    found = logs(suite)
    if not found:
        raise InputError(f"no row of {suite.name} has a finished pretraining run: run the suite first")
    print(table(found), file=sys.stderr)
    output = arguments.output or results_dir() / "tables" / f"{suite.name}-curves.png"
    draw(found, output, f"loss, {suite.name}: {suite.title}")
    print(output)
    return 0


if __name__ == "__main__":
    run_cli(main)
