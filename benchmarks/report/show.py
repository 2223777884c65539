"""Pictures of a run's test images, most of all of its mistakes.

    python -m benchmarks show results/runs/<spec>/<attempt>.json [--output PLACE] [--count 6] [--class NAME]

Of a detector a folder of pictures beside the record (show_detection.py), of a classifier one picture of confused
classes, worst images and nearest neighbours (show_classification.py), from the predictions that the run has left there;
of probes of factors their scores (show_factors.py).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from PIL import Image

from benchmarks.data.pictures import heading, save, stack
from benchmarks.records import ResultsStore, RunRecord, files_of
from benchmarks.report import show_classification, show_detection, show_factors
from benchmarks.report.tested_on import root_of
from benchmarks.tasks import TASKS
from pretrain.common.errors import InputError


def show(record_path: Path, output: Path | None, count: int, class_name: str | None = None) -> list[str]:
    """Draw the record's test images; lines to print, the paths of the PNGs last. InputError if it cannot.

    ``output``: a PNG, of a detector a folder; by default beside the record.
    """
    record = ResultsStore().load(record_path)
    if record.spec.task not in TASKS:
        raise InputError(f"{record_path} is a run of the unknown task {record.spec.task}: give --plugin if it is yours")
    if record.status != "ok":
        raise InputError(f"{record_path} is of a run that failed ({record.error}): show one that finished")
    root, folder = root_of(record), files_of(record_path)
    if TASKS[record.spec.task].detects:
        place = output or folder / show_detection.PICTURES
        return show_detection.write(record, root, folder, place, title(record), words(record), count, class_name)
    if class_name is not None:
        raise InputError(f"--class is for detectors, and {record.spec.task} is none: leave it out")
    output = output or record_path.with_suffix(".png")
    drawer: Any = show_factors if "factors" in record.config else show_classification
    save(stack([*title(record), *drawer.bands(record, root, folder, count)]), output)
    return [str(output)]


def words(record: RunRecord) -> tuple[str, str]:
    """The checkpoint's label, and the run with its primary number."""
    spec, metric = record.spec, TASKS[record.spec.task].primary(record.metrics)
    value = record.metrics.get(metric.key)
    result = f"{metric.label} " + ("undefined" if value is None else f"{value:.{metric.decimals}f}")
    return record.label, f"{spec.task} on {spec.data_name}, {spec.profile}, seed {spec.seed}: {result}"


def title(record: RunRecord) -> list[Image.Image]:
    """``words`` as the first two bands of a picture."""
    return [heading(text, size) for text, size in zip(words(record), (26, 18), strict=True)]
