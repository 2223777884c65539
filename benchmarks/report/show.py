"""A picture of a run's test images, most of all of its mistakes.

    python -m benchmarks show results/runs/<spec>/<attempt>.json [-o PNG] [--count 6]

Of a detector predictions beside the truth (show_detection.py), of a classifier confused classes, worst images and
nearest neighbours (show_classification.py), from the predictions that the run has left beside its record; of probes of
factors their scores (show_factors.py).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from PIL import Image

from benchmarks.data.pictures import heading, save, stack
from benchmarks.data.root import DataRoot
from benchmarks.records import ResultsStore, RunRecord, files_of
from benchmarks.report import show_classification, show_detection, show_factors
from benchmarks.tasks import TASKS
from pretrain.common.errors import InputError
from pretrain.common.files import data_dir


def show(record_path: Path, output: Path | None, count: int) -> Path:
    """Draw the record's test images; the PNG's path, by default beside the record. InputError if it cannot."""
    record = ResultsStore().load(record_path)
    if record.spec.task not in TASKS:
        raise InputError(f"{record_path} is a run of the unknown task {record.spec.task}: give --plugin if it is yours")
    if record.status != "ok":
        raise InputError(f"{record_path} is of a run that failed ({record.error}): show one that finished")
    root, output = root_of(record), output or record_path.with_suffix(".png")
    task = TASKS[record.spec.task]
    drawer: Any = (
        show_detection if task.detects else show_factors if "factors" in record.config else show_classification
    )
    save(stack([*title(record), *drawer.bands(record, root, files_of(record_path), count)]), output)
    return output


def root_of(record: RunRecord) -> DataRoot:
    """The data that the record was tested on. InputError if they were prepared anew since, or are gone."""
    task, place = TASKS[record.spec.task], data_dir() / record.spec.data_name
    if not place.is_dir():
        raise InputError(f"{place} is not there, the data of this run: prepare them again, or link their root there")
    root = DataRoot.load(place)
    there, wanted = task.data_fingerprint(root), record.spec.data_fingerprint
    if there != wanted:
        raise InputError(
            f"{root.path} was prepared again since this run: it holds data {there[:8]}, the run was tested on "
            f"{wanted[:8]}: prepare those again, or show a run on the present data"
        )
    return root


def title(record: RunRecord) -> list[Image.Image]:
    """The checkpoint's label, and the run with its primary number."""
    spec, metric = record.spec, TASKS[record.spec.task].metrics[0]
    value = record.metrics.get(metric.key)
    result = f"{metric.label} " + ("undefined" if value is None else f"{value:.{metric.decimals}f}")
    about = f"{spec.task} on {spec.data_name}, {spec.profile}, seed {spec.seed}: {result}"
    return [heading(record.label, 26), heading(about, 18)]
