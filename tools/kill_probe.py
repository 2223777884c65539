"""Random SIGKILLs over a small suite: its tables must be those of an undisturbed run, byte for byte.

    python tools/kill_probe.py FOLDER --kills 50 [--seed 0] [--detector] [--slurm "time=10 …"]

The suite (two checkpoints, frozen tasks, with ``--detector`` a detector) runs once undisturbed. Then the same command
is given again and again on another results folder, and one of its processes, drawn at random, is killed at a random
time: the command itself, a worker, the server that forks them, a loader. A suite that ends before all kills are spent
loses its records and begins anew. Status 0 if the tables are equal, and FOLDER is left for a look.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from pretrain.common.errors import RunError, run_cli

CHECKOUT = Path(__file__).resolve().parents[1]
TASKS = ("linear", "low-shot", "knn")
DETECTOR = ("voc-probe", "--opts", "SOLVER.MAX_ITER", "4")
OTHERS = 0.7  # share of kills that hit another process than the command
MOST_RUNS = 20  # undisturbed ones until all is done: one is enough, a failed run needs a second
SUFFIXES = (".md", ".csv", ".tex")


def prepare(folder: Path) -> None:
    """A tiny data root and two checkpoints in ``folder``."""
    import torch
    import torchvision

    from benchmarks.data.emoji.generate import generate
    from benchmarks.data.emoji.scenes import EmojiConfig

    os.environ["DATA_DIR"] = str(folder / "data")
    config = EmojiConfig(train_images=200, val_images=40, train_scenes=40, val_scenes=20, image_size=32, scene_size=64)
    generate(config, "tiny", 1)
    for seed, name in enumerate(("a", "b")):
        torch.manual_seed(seed)
        torch.save(torchvision.models.resnet18(weights=None).state_dict(), folder / f"{name}.pth")


def command(folder: Path, detector: bool, slurm: str) -> list[str]:
    """The suite's command line."""
    checkpoints = [f"{name}={folder / name}.pth" for name in ("a", "b")]
    more = ["--executor", "slurm", "--slurm", *slurm.split()] if slurm else ["--workers", "2"]
    return [
        *(sys.executable, "-m", "benchmarks", "run", "--profile", "smoke", "--data", str(folder / "data" / "tiny")),
        *("--checkpoint", *checkpoints, "--seed", "0", "1", *more, "--task", *TASKS, *(DETECTOR if detector else ())),
    ]


def start(words: Sequence[str], results: Path) -> subprocess.Popen[bytes]:
    """The command in a session of its own, its output in log.txt of ``results``."""
    results.mkdir(exist_ok=True)
    with (results / "log.txt").open("ab") as log:
        return subprocess.Popen(
            words,
            cwd=CHECKOUT,
            env=os.environ | {"RESULTS_DIR": str(results), "OMP_NUM_THREADS": "1"},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def to_the_end(words: Sequence[str], results: Path) -> None:
    """Give the command until it ends with status 0. RunError after MOST_RUNS."""
    for _ in range(MOST_RUNS):
        status = start(words, results).wait()
        if status == 0:
            return
        if status == 2:
            break
    raise RunError(f"the suite does not end well: {results / 'log.txt'} says why")


def session_of(leader: int) -> list[int]:
    """The live processes of the session that ``leader`` leads."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError, IndexError, ValueError):
                state, _, _, session = (entry / "stat").read_text().rpartition(")")[2].split()[:4]
                if int(session) == leader and state != "Z":
                    found.append(int(entry.name))
    return found


def disturb(words: Sequence[str], results: Path, kills: int, seed: int, longest: float) -> dict[str, int]:
    """Kill at random until ``kills`` are spent, up to ``longest`` seconds after a start or the last kill.

    How many hit the command itself and how many another process.
    """
    draw, hits = random.Random(seed), {"command": 0, "other": 0, "suites begun anew": 0}
    process = start(words, results)
    while hits["command"] + hits["other"] < kills:
        time.sleep(draw.uniform(0.1, longest))
        if process.poll() is None:
            others = sorted(set(session_of(process.pid)) - {process.pid})
            victim = draw.choice(others) if others and draw.random() < OTHERS else process.pid
            with suppress(ProcessLookupError):
                os.kill(victim, signal.SIGKILL)
                hits["command" if victim == process.pid else "other"] += 1
            continue
        if process.returncode == 0:
            hits["suites begun anew"] += 1
            for name in ("runs", "features", "backbones"):
                shutil.rmtree(results / name, ignore_errors=True)
        process = start(words, results)
    process.wait()
    return hits


def tables(results: Path) -> dict[str, bytes]:
    """The bytes of the tables by name."""
    return {path.name: path.read_bytes() for path in (results / "tables").iterdir() if path.suffix in SUFFIXES}


def probe(folder: Path, kills: int, seed: int, detector: bool = False, slurm: str = "") -> str:
    """Run the probe in ``folder``; what was killed, in a line. RunError if the tables differ."""
    folder.mkdir(parents=True, exist_ok=True)
    folder = folder.resolve()
    prepare(folder)
    words, calm, killed = command(folder, detector, slurm), folder / "calm", folder / "killed"
    begun = time.monotonic()
    to_the_end(words, calm)
    longest = time.monotonic() - begun
    hits = disturb(words, killed, kills, seed, longest)
    to_the_end(words, killed)
    ours, theirs = tables(killed), tables(calm)
    if not theirs or ours != theirs:
        differ = sorted(name for name in ours | theirs if ours.get(name) != theirs.get(name))
        raise RunError(f"tables differ: {', '.join(differ) or 'there are none'} of {killed} and {calm}")
    count = {name: number for name, number in hits.items() if number}
    said = ", ".join(f"{name} {number}" for name, number in count.items())
    took = f"{time.monotonic() - begun:.0f} s, of which one undisturbed run {longest:.0f} s"
    return f"{kills} kills ({said}) in {took}: {len(ours)} tables equal byte for byte"


def main(argv: list[str]) -> int:
    """See the head of this file."""
    parser = argparse.ArgumentParser(prog="tools/kill_probe.py", description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--detector", action="store_true")
    parser.add_argument("--slurm", default="")
    arguments = parser.parse_args(argv)
    print(probe(arguments.folder, arguments.kills, arguments.seed, arguments.detector, arguments.slurm))
    return 0


if __name__ == "__main__":
    run_cli(main)
