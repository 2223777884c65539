"""Time per stage of a conversion: start-up, read, map, forward, write; and the start-up before a file is rejected.

Run: ``python -m benchmarks.perf convert``. Each round is a separate process, as a command is.
"""

from __future__ import annotations

import dataclasses
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.perf.timing import processor

CHECKOUT = Path(__file__).resolve().parents[2]
_CLOCKS = """
import json, resource, sys, time
from pathlib import Path
spent = {}
def lap(name, since=[time.perf_counter(), 0.0]):
    used = resource.getrusage(resource.RUSAGE_SELF)
    now = [time.perf_counter(), used.ru_utime + used.ru_stime]
    spent[name] = [now[0] - since[0], now[1] - since[1]]
    since[:] = now
"""
_CONVERT = f"""{_CLOCKS}
import torch
lap("start-up: Python and torch")
from transfer.checkpoints import convert
lap("start-up: what reads and refuses")
from transfer.checkpoints import converted as proofs, verify
lap("start-up: torchvision and detectron2")
from transfer.checkpoints.reading.read import load_checkpoint
from transfer.checkpoints.backbone import backbone_of
path = Path(sys.argv[1])
loaded = load_checkpoint(path)
lap("read")
backbone = backbone_of(loaded)
arrays = convert.renamed(backbone)
lap("map and check")
verify.forward_difference(backbone.state, arrays, backbone.architecture, backbone.input)
lap("forward")
proofs.write_pkl(path.with_suffix(".pkl"), proofs.pickled(arrays))
lap("write")
print(json.dumps(spent))
"""
_MAKE = """
import sys, torch, torchvision
torch.manual_seed(0)
torch.save(torchvision.models.get_model(sys.argv[2], weights=None).state_dict(), sys.argv[1])
"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Arguments:
    """The stages of a conversion, each the median over separate processes: seconds and CPU seconds."""

    architecture: str = "resnet50"
    rounds: int = 5


def measure(arguments: Arguments) -> str:
    """The table: one line per stage with its seconds, CPU seconds (user and system) and its share of those."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.pth"
        _python(_MAKE, CHECKOUT, path, arguments.architecture)
        rounds = [stages(path) for _ in range(arguments.rounds + 1)][1:]  # the first one fills the system's cache
        size = path.stat().st_size / 2**20
    middle = {name: [statistics.median(one[name][clock] for one in rounds) for clock in (0, 1)] for name in rounds[0]}
    whole = [sum(values[clock] for values in middle.values()) for clock in (0, 1)]
    lines = [
        f"{name:40}{wall:8.2f} s {cpu:8.2f} s of CPU {cpu / whole[1]:7.0%}"
        for name, (wall, cpu) in [*middle.items(), ("all", whole)]
    ]
    return "\n".join([f"{arguments.architecture}, {size:.0f} MiB, on {processor()}", *lines])


def stages(path: Path, checkout: Path = CHECKOUT) -> dict[str, tuple[float, float]]:
    """Stage → (seconds, seconds of CPU) of converting ``path`` with the code of ``checkout``."""
    found: dict[str, tuple[float, float]] = json.loads(_python(_CONVERT, checkout, path))
    return found


def _python(code: str, checkout: Path, *words: object) -> str:
    arguments = [sys.executable, "-c", code, *map(str, words)]
    return subprocess.run(arguments, cwd=checkout, capture_output=True, text=True, check=True).stdout
