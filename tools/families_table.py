"""What the converter makes of every family's checkpoint, as a markdown table, and what a conversion costs.

    python -m tools.families_table                                      # every file with a ResNet-50: some minutes
    python -m tools.families_table moco-v1 byol --architecture resnet18 # some of them, smaller
    python -m tools.families_table --cost                               # time and memory beside the plain rename loop's
    python -m tools.families_table --cost --copies 21                   # the same of a file of 2 GB

The files are those of tests/transfer/layouts, built from the published code of each project. Each is written to a
temporary folder, converted, and read back from the .pkl. Exit status 1 if one of them is not what it should be.
"""

from __future__ import annotations

import argparse
import importlib
import pickle
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pretrain.common.errors import InputError
from transfer.checkpoints.backbone import read_backbone
from transfer.checkpoints.convert import convert

layouts: Any = importlib.import_module("tests.transfer.layouts")  # the tests' code is not typed
COLUMNS = ("file", "family", "network", "mapped", "difference", "round trip", "seconds", "made")
BYOL = "byol"
_BYOL_MADE = "built from the published code, pickled as haiku pickles"


def main(argv: list[str]) -> int:
    """Print the table, or with --cost the costs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    every = [*layouts.SAMPLES, BYOL]
    parser.add_argument("files", nargs="*", metavar="FILE", help=f"of: {', '.join(every)} (default: all)")
    parser.add_argument("--architecture", default="resnet50", help="the backbone in each file")
    parser.add_argument("--cost", action="store_true", help="time and peak memory of one conversion instead")
    parser.add_argument("--copies", type=int, default=1, help="how often the file of --cost holds optimiser state")
    options = parser.parse_args(argv)
    unknown = set(options.files) - set(every)
    if unknown:
        parser.error(f"no file {', '.join(sorted(unknown))}; there are {', '.join(every)}")
    if options.cost:
        return _cost(options.architecture, options.copies)
    first, second = (layouts.parts.random_backbone(options.architecture, seed) for seed in (1, 2))
    whole = True
    _print_row(COLUMNS)
    _print_row(("---",) * len(COLUMNS))
    for name in options.files or every:
        row = _row(name, first, second)
        _print_row(row)
        whole = whole and row[5] == "bitwise"
    return 0 if whole else 1


def _row(name: str, first: dict[str, Tensor], second: dict[str, Tensor]) -> tuple[str, ...]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / ("x.pkl" if name == BYOL else "x.pth")
        made = _write(name, path, first, second)
        start = time.perf_counter()
        try:
            converted = convert(path, Path(folder) / "out.pkl")
        except InputError as error:
            return name, f"refused: {error}", "", "", "", "", "", made
        seconds = time.perf_counter() - start
        back = read_backbone(converted.path).state
        same = all(torch.equal(back[key], first[key]) for key in back)
        difference = f"{converted.max_difference:.2g}"
        mapped = f"{converted.mapped}/{converted.expected}"
        arrived = "bitwise" if same and len(back) == converted.expected else "no"
        return name, converted.family, converted.network, mapped, difference, arrived, f"{seconds:.1f}", made


def _write(name: str, path: Path, first: dict[str, Tensor], second: dict[str, Tensor]) -> str:
    if name == BYOL:
        layouts.haiku.write(path, first, second)
        return _BYOL_MADE
    sample = layouts.SAMPLES[name](first, second)
    torch.save(sample.content, path)
    return str(sample.made)


def _cost(architecture: str, copies: int) -> int:
    """Convert a checkpoint with optimiser state in a process of its own, and run the plain loop in another."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.pth"
        state = layouts.parts.random_backbone(architecture, 1)
        momentum = {
            n: {f"moment_{copy}": torch.rand(v.shape) for copy in range(copies)} for n, v in enumerate(state.values())
        }
        torch.save({"model": state, "optimizer": {"state": momentum, "param_groups": []}, "epoch": 99}, path)
        size = path.stat().st_size
        rows = [_in_its_own_process(what, path, Path(folder) / f"{what[:4]}.pkl", size) for what in WAYS]
    print(f"A {architecture} with optimiser state, {size / 2**20:.0f} MiB; imports apart:\n")
    for row in (("what", "seconds", "peak MiB", "peak / size"), ("---",) * 4, *rows):
        _print_row(row)
    return 0


def _in_its_own_process(what: str, path: Path, target: Path, size: int) -> tuple[str, ...]:
    code = "import sys; from tools.families_table import measure; measure(*sys.argv[1:])"
    arguments = [sys.executable, "-c", code, what, str(path), str(target)]
    found = subprocess.run(arguments, capture_output=True, text=True, check=True).stdout.split()
    seconds, kilobytes = float(found[0]), int(found[1])
    return what, f"{seconds:.2f}", f"{kilobytes / 1024:.0f}", f"{kilobytes * 1024 / size:.2f}"


def measure(what: str, family: str, target: str) -> None:
    """Print the seconds that one of WAYS takes, and by how many KiB it raises the process's peak memory."""
    before, start = _peak_kib(), time.perf_counter()
    WAYS[what](Path(family), Path(target))
    print(time.perf_counter() - start, _peak_kib() - before)


def _peak_kib() -> int:
    """Linux's VmHWM, not getrusage's ru_maxrss: that one starts at what the parent process had."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition("VmHWM:")[2].split()[0])


def plain_loop(family: Path, target: Path) -> None:
    """The rename loop of detectron2's tools/convert-torchvision-to-d2.py and its copies: no check, nothing counted."""
    arrays = {}
    for name, value in torch.load(family, map_location="cpu")["model"].items():
        name = name if "layer" in name else f"stem.{name}"
        for n in (1, 2, 3, 4):
            name = name.replace(f"layer{n}", f"res{n + 1}").replace(f"bn{n}", f"conv{n}.norm")
        arrays[name.replace("downsample.0", "shortcut").replace("downsample.1", "shortcut.norm")] = value.numpy()
    with target.open("wb") as stream:
        pickle.dump({"model": arrays, "__author__": "third_party", "matching_heuristics": True}, stream)


WAYS: dict[str, Callable[[Path, Path], object]] = {"convert": convert, "plain loop": plain_loop}


def _print_row(cells: tuple[str, ...]) -> None:
    print("| " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
