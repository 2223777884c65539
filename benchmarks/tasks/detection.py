"""Detection tasks: each is a protocol's YAML, whose TRANSFER block holds title, layout, metrics, cost, published rows.

A user's protocol is registered by path: ``register(detection_task(Path("my_protocol.yaml")))``.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.data.layouts import LAYOUTS
from benchmarks.tasks.base import Cost, Metric, Published, Result, Settings, Setup, Task
from pretrain.common.errors import InputError
from transfer.detection.protocol_files import BLOCK, protocol_block, protocol_subset

if TYPE_CHECKING:
    from benchmarks.run import Context

REQUIRED = {"TITLE": str, "LAYOUT": str, "VERSION": int, "REFERENCE": str, "METRICS": dict}
OPTIONAL = {"MORE_METRICS": dict, "PUBLISHED": dict, "DATA": str, "COST": dict, "SUBSET": dict}


def detection_task(path: Path) -> Task:
    """The task of the protocol at ``path``, named as its file, with dashes. InputError for an unusable block."""
    block = protocol_block(path)
    _check(path, block)
    shown = [Metric(key=key, label=label) for key, label in block["METRICS"].items()]
    more = [Metric(key=key, label=label, shown=False) for key, label in block.get("MORE_METRICS", {}).items()]

    def settings(setup: Setup) -> Settings:
        """The config as it will run, without the keys that checkpoint, data and seed set."""
        from benchmarks.tasks.compute import detector

        return detector.settings(path, block["LAYOUT"], setup)

    return Task(
        name=path.stem.replace("_", "-"),
        title=block["TITLE"],
        kind="detection",
        layout=block["LAYOUT"],
        version=block["VERSION"],
        metrics=(*shown, *more),
        deterministic=False,
        reference=block["REFERENCE"],
        settings=settings,
        run=run,
        published=_published(path, block["PUBLISHED"]) if "PUBLISHED" in block else None,
        protocol=path,
        every_gpu=True,
        data=block.get("DATA", ""),
        cost=_cost(path, block["COST"]) if "COST" in block else None,
    )


def run(context: Context) -> Result:
    """Train the protocol's detector from the converted weights and test it once on the root's test split."""
    from benchmarks.tasks.compute import detector

    return detector.run(context)


def _check(path: Path, block: dict[str, Any]) -> None:
    """InputError that names the first key of the block that is missing, unknown or of another type."""
    for key, kind in (REQUIRED | OPTIONAL).items():
        if key in block and not isinstance(block[key], kind):
            raise InputError(f"{path}: {BLOCK}.{key} is {block[key]!r:.60}, not of type {kind.__name__}")
        if key in REQUIRED and key not in block:
            raise InputError(f"{path}: {BLOCK}.{key} is missing")
    if unknown := [key for key in block if key not in REQUIRED | OPTIONAL]:
        raise InputError(f"{path}: {BLOCK}.{unknown[0]} is unknown: use {', '.join(REQUIRED | OPTIONAL)}")
    if block["LAYOUT"] not in LAYOUTS or not block["METRICS"]:
        raise InputError(f"{path}: {BLOCK} needs a LAYOUT of {', '.join(LAYOUTS)} and one of METRICS")
    protocol_subset(path)


def _published(path: Path, block: dict[str, Any]) -> Published:
    try:
        headings = {heading: tuple(pair.split(" ")) for heading, pair in block["HEADINGS"].items()}
        if any(len(pair) != 2 for pair in headings.values()):
            raise ValueError("HEADINGS are COLUMN: TASK METRIC")
        return Published(detector=block["DETECTOR"], schedule=block["SCHEDULE"], headings=headings)
    except (KeyError, AttributeError, ValueError) as error:
        raise InputError(f"{path}: {BLOCK}.PUBLISHED needs DETECTOR, SCHEDULE and HEADINGS ({error})") from None


def _cost(path: Path, block: dict[str, Any]) -> Cost:
    numbers = [block.get(key) for key in ("GPU_HOURS", "DISK_GB")]
    usable = all(
        isinstance(number, int | float) and not isinstance(number, bool) and 0 <= number < math.inf
        for number in numbers
    )
    if set(block) != {"GPU_HOURS", "DISK_GB", "HOW"} or not usable or not isinstance(block["HOW"], str):
        raise InputError(f"{path}: {BLOCK}.COST needs GPU_HOURS and DISK_GB, numbers, and HOW, a text")
    return Cost(gpu_hours=float(block["GPU_HOURS"]), disk_gb=float(block["DISK_GB"]), how=block["HOW"])
