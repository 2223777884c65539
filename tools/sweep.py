"""SuperInfo's λ, swept: pretrain, evaluate linear and kNN, and put the accuracies beside the nats of the training log.

    python -m tools.sweep results/data/emoji-demo                     # both forms and C-SimCLR: 14 runs
    python -m tools.sweep ROOT --form bounded --seed 1 --steps 1000  # further flags go to every pretraining run
    python -m tools.sweep ROOT --profile smoke --form vmf             # does it run?

ROOT is a data root of `python -m benchmarks prepare` with images in class folders. Each run is one of the presets
PROFILE-superinfo, PROFILE-superinfo-bounded and PROFILE-csimclr with λa = λb = λ; finished runs and records are not
made again, so the same command continues an interrupted sweep. A run that stops, as a collapse does, is a row that
says so. The table goes to stderr and to results/tables/sweep-NAME-PROFILE-seedN[-FORM].md, whose path goes to stdout.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import subprocess
import sys
from pathlib import Path

from safetensors.torch import load_file

from benchmarks.data.root import DataRoot
from benchmarks.records import ResultsStore
from pretrain.common.errors import InputError, RunError, run_cli
from pretrain.common.files import replacing, results_dir
from pretrain.common.provenance import short_commit
from pretrain.runtime.metrics import read_metrics
from transfer.checkpoints.families import weights_digest

DETERMINISTIC = "deterministic"
GRID: dict[str, tuple[str, tuple[str, ...]]] = {
    "vmf": ("superinfo", (DETERMINISTIC, "0", "0.01", "0.1", "0.3", "1")),
    "bounded": ("superinfo-bounded", (DETERMINISTIC, "0", "1e-4", "3e-4", "1e-3", "3e-3", "1e-2")),
    "csimclr": ("csimclr", ("0.5",)),  # their β = 1: superinfo.py
}
TASKS = {"linear": "top1", "knn": "top1"}
TERMS = ("predictive", "superfluous12", "superfluous21", "excess12", "excess21", "embedding_std", "snr")
LAST = 0.1  # share of the logged steps whose mean is shown
SHOWN = {
    "predictive": "predictive, nats",
    "superfluous": "superfluous, nats",
    "excess": "excess, nats",  # over the least that vmf's fixed noise allows
    "embedding_std": "std of μ",
    "snr": "snr",
}
COLUMNS = ("form", "λ", "linear top-1", "kNN top-1", *SHOWN.values())


@dataclasses.dataclass(frozen=True, kw_only=True)
class Point:
    """One run of the sweep, and what came of it: a run folder, or why there is none."""

    form: str
    weight: str  # λ, or DETERMINISTIC
    folder: Path | None = None
    failure: str = ""

    @property
    def label(self) -> str:
        """The checkpoint's name in records."""
        return f"{self.form} {self.weight if self.weight == DETERMINISTIC else f'λ {self.weight}'}"

    def command(self, profile: str, data: Path, seed: int, more: list[str]) -> list[str]:
        """The pretraining command."""
        preset = f"{profile}-{GRID[self.form][0]}"
        weights = ["--method.lambda-a", self.weight, "--method.lambda-b", self.weight]
        how = ["--method.deterministic"] if self.weight == DETERMINISTIC else weights
        return ["-m", "pretrain", preset, "--data", str(data), "--seed", str(seed), *how, *more]


def points(forms: list[str]) -> list[Point]:
    """The sweep's runs, in the order of GRID."""
    return [Point(form=form, weight=weight) for form in GRID if form in forms for weight in GRID[form][1]]


def pretrain(point: Point, arguments: list[str], name: str) -> Point:
    """Run or finish one point; its log is under results/logs. InputError for flags that no run would take."""
    log = results_dir() / "logs" / f"{name}-{point.form}-{point.weight}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w", encoding="utf-8") as stream:
        done = subprocess.run([sys.executable, *arguments], stdout=subprocess.PIPE, stderr=stream, text=True)
    reason = _reason(log)
    if done.returncode == 2:
        raise InputError(reason)
    if done.returncode < 0:
        raise RunError(f"{point.label} was killed by signal {-done.returncode}; the same command continues")
    if done.returncode:
        return dataclasses.replace(point, failure=reason)
    return dataclasses.replace(point, folder=Path(done.stdout.strip().splitlines()[-1]).parent)


def _reason(log: Path) -> str:
    """The error that a run ended with, else where its log is."""
    errors = [line for line in log.read_text(encoding="utf-8").splitlines() if line.startswith("error: ")]
    return errors[-1].removeprefix("error: ") if errors else f"see {log}"


def evaluate(done: list[Point], root: Path, profile: str) -> int:
    """Linear and kNN of every checkpoint that has no record yet; 1 if one failed."""
    checkpoints = [f"{point.label}={point.folder}/backbone.safetensors" for point in done]
    command = [sys.executable, "-m", "benchmarks", "run", "--task", *TASKS, "--checkpoint", *checkpoints]
    status = subprocess.run([*command, "--data", str(root), "--profile", profile], stdout=subprocess.DEVNULL).returncode
    if status == 2:
        raise InputError("the evaluation could not start, see above")
    return status


def accuracies(root: DataRoot, profile: str) -> dict[tuple[str, str], float]:
    """(tensors' sha256, task) to percent, from the newest records on this data."""
    frame = ResultsStore().frame()
    if frame.empty:
        return {}
    data = root.section("imagenet")["fingerprint"]
    chosen = frame[(frame["profile"] == profile) & (frame["data_fingerprint"] == data)]
    rows = zip(chosen["checkpoint_sha256"], chosen["task"], chosen["metric"], chosen["value"], strict=True)
    return {(sha, task): value for sha, task, metric, value in rows if TASKS.get(task) == metric}


def nats(folder: Path) -> dict[str, float]:
    """Means over the last tenth of the logged steps; superfluous and excess are means of both directions."""
    rows = [row for row in read_metrics(folder / "metrics.jsonl") if "predictive" in row]  # not the probe's
    last = rows[-max(1, round(LAST * len(rows))) :]
    means = {name: sum(row[name] for row in last) / len(last) for name in TERMS if name in last[0]}
    for name in ("superfluous", "excess"):
        if f"{name}12" in means:
            means[name] = (means[f"{name}12"] + means[f"{name}21"]) / 2
    return means


def table(done: list[Point], root: DataRoot, profile: str, seed: int, more: list[str]) -> str:
    """The sweep as Markdown; ``more`` are the further flags of pretraining."""
    found = accuracies(root, profile)
    how = f"{profile}, pretraining seed {seed}{''.join(f' {flag}' for flag in more)}"
    lines = [f"## λ on {root.name}", "", f"{how}; one run a row; commit {', '.join(_commits(done)) or 'none'}.", ""]
    lines += ["| " + " | ".join(COLUMNS) + " |", "|---" * len(COLUMNS) + "|"]
    for point in done:
        if point.folder is None:
            cells = [point.failure, *[""] * (len(COLUMNS) - 3)]
        else:
            sha = weights_digest(load_file(point.folder / "backbone.safetensors"))
            terms = nats(point.folder)
            cells = [_cell(found.get((sha, task)), 1) for task in TASKS]
            cells += [_cell(terms.get(name), 2) for name in SHOWN]
        lines.append("| " + " | ".join([point.form, point.weight, *cells]) + " |")
    return "\n".join([*lines, ""])


def _commits(done: list[Point]) -> list[str]:
    """Of the pretraining runs, in their order."""
    metas = [json.loads((point.folder / "meta.json").read_text(encoding="utf-8")) for point in done if point.folder]
    return list(dict.fromkeys(short_commit(meta["git"]) for meta in metas))


def _cell(value: float | None, decimals: int) -> str:
    return "–" if value is None else f"{value:.{decimals}f}"


def main(argv: list[str]) -> int:
    """Sweep. 1 when a run stopped."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path, metavar="ROOT", help="a prepared data root")
    parser.add_argument("--profile", choices=("smoke", "demo"), default="demo")
    parser.add_argument("--form", nargs="+", choices=tuple(GRID), default=list(GRID), help="default: all")
    parser.add_argument("--seed", type=int, default=0, help="of pretraining")
    options, more = parser.parse_known_args(argv)
    root = DataRoot.load(options.root)
    root.section("imagenet")
    data, done, status = options.root / "imagenet" / "train", [], 0
    todo = points(options.form)
    forms = "" if len({point.form for point in todo}) == len(GRID) else "-" + "-".join(options.form)
    name = f"sweep-{root.name}-{options.profile}-seed{options.seed}{forms}"
    for number, point in enumerate(todo, 1):
        print(f"{number}/{len(todo)} {point.label}", file=sys.stderr, flush=True)
        done.append(pretrain(point, point.command(options.profile, data, options.seed, more), name))
    finished = [point for point in done if point.folder]
    if finished:
        status = evaluate(finished, options.root, options.profile)
    text = table(done, root, options.profile, options.seed, more)
    path = results_dir() / "tables" / f"{name}.md"
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    print(text, file=sys.stderr)
    print(path)
    return status if len(finished) == len(done) else 1


if __name__ == "__main__":
    run_cli(main)
