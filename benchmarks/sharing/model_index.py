"""A checkpoint's numbers as a Hugging Face model card's metadata: the block ``model-index`` of its README's YAML.

The format is huggingface/hub-docs:modelcard.md: of each result task.type, dataset.type and dataset.name are required,
of each metric type and value, and ``source`` has an url. huggingface_hub merges results of one task type and data set
when it writes a card again, so that a metric's name and ``args`` say alone what the number is. Imports no torch.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from benchmarks.data.layouts import LAYOUTS
from benchmarks.records import RunRecord, RunSpec
from benchmarks.report.cells import Cell, collect, recorded
from benchmarks.sharing.exporting import Wanted, finished
from benchmarks.tasks import TASKS
from pretrain.common.errors import InputError, printable
from pretrain.common.files import replacing
from pretrain.common.provenance import short_commit

SOURCE = "does my checkpoint transfer?"
_OF_PREFIX = {"segm": "image-segmentation", "keypoints": "keypoint-detection"}  # of a detector's metrics
_FEATURES = ("factors", "information", "view-information")


def write_model_index(target: Path, wanted: Wanted, url: str | None = None, datasets: Sequence[str] = ()) -> None:
    """Write the numbers of the wanted label to ``target``, atomically. InputError for bad flags or without a number."""
    if len(wanted.labels) != 1:
        raise InputError(f"--model-index is of one checkpoint, and --label names {len(wanted.labels)}: give one")
    if url is not None and not re.fullmatch(r"https?://[^\s/]+\S*", url):
        raise InputError(f"--source-url {printable(url)[:80]}: give an address that begins with https://")
    value = {"model-index": model_index(wanted, url, _ids(datasets))}
    text = yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=120)
    with replacing(target) as partial:
        partial.write_text(text, encoding="utf-8")


def _ids(datasets: Sequence[str]) -> dict[str, str]:
    pairs = [one.partition("=") for one in datasets]
    if bad := [one for one, (name, _, there) in zip(datasets, pairs, strict=True) if not name or not there]:
        raise InputError(f"--hub-dataset {printable(bad[0])[:80]}: give NAME=ID")
    return {name: there for name, _, there in pairs}


def model_index(wanted: Wanted, url: str | None, ids: Mapping[str, str]) -> list[dict[str, Any]]:
    """The value of ``model-index``: one model, a result per column. InputError where no run has a number."""
    newest = {record.spec: record for record, _ in finished(wanted)}
    (label,) = wanted.labels
    results = []
    for profile in dict.fromkeys(spec.profile for spec in newest):
        for column in _columns(label, profile, newest):
            results.append(_result(column, ids) | ({"source": {"name": SOURCE, "url": url}} if url else {}))
    if not results:
        raise InputError(f"{label} has no number of a current task's version: run it again")
    used = {record.spec.data_name for record in newest.values()}
    if idle := [name for name in ids if name not in used]:
        raise InputError(f"--hub-dataset {idle[0]}: {label} was run on {', '.join(sorted(used))}")
    return [{"name": printable(label), "results": results}]


def _columns(label: str, profile: str, newest: Mapping[RunSpec, RunRecord]) -> list[list[Cell]]:
    """The cells with a number by column and type of task, as in the tables of this profile."""
    pairs = recorded(profile, newest=newest)
    # The pretraining runs of a suite's row, NAME #SEED, share one.
    groups = {each: label for each, _ in pairs if each != label}
    found: dict[tuple[str, str], list[Cell]] = {}
    for cell in collect(pairs, newest, groups):
        if cell.mean is not None:
            found.setdefault((cell.label + cell.column, _task_type(cell)), []).append(cell)
    return list(found.values())


def _task_type(cell: Cell) -> str:
    """An id of the hub's tasks (hf.co/tasks)."""
    task = TASKS[cell.records[0].spec.task]
    if task.detects:
        return _OF_PREFIX.get(cell.metric.key.partition("/")[0], "object-detection")
    return "image-feature-extraction" if task.name.startswith(_FEATURES) else "image-classification"


def _metric_type(key: str) -> str:
    """An id of the hub's metrics where it has one."""
    last = key.rpartition("/")[2].lower()
    if re.match(r"top\d|shot\d|score$", last):
        return "accuracy"
    return "mean_average_precision" if re.match(r"m?ap(\d+|[sml])?$", last) else re.sub(r"\W+", "_", key.lower())


def _result(cells: Sequence[Cell], ids: Mapping[str, str]) -> dict[str, Any]:
    """One result of the index: the cells of a column."""
    first = cells[0].records[0]
    spec, task = first.spec, TASKS[first.spec.task]
    return {
        "task": {"type": _task_type(cells[0]), "name": f"{cells[0].column} ({task.name}, profile {spec.profile})"},
        "dataset": {
            "type": ids.get(spec.data_name, printable(spec.data_name)),
            "name": printable(f"{spec.data_name} ({first.data['description']})"),
            "split": LAYOUTS[task.layout].test,
        },
        "metrics": [_metric(cell) for cell in cells],
    }


def _metric(cell: Cell) -> dict[str, Any]:
    records, decimals = cell.records, cell.metric.decimals
    spec, unit = records[0].spec, "" if cell.metric.unit == "%" else f" ({cell.metric.unit})"
    args: dict[str, Any] = {
        "n": cell.count,
        "std": None if cell.std is None else round(cell.std, decimals),
        "std_within": round(cell.within, decimals) if cell.pooled and cell.within is not None else None,
        "unit": cell.metric.unit,
        "seeds": sorted({record.spec.seed for record in records}),
        "profile": spec.profile,
        "task": f"{spec.task} v{spec.task_version}",
        "protocol_digest": spec.protocol_digest[:12],
        "overrides": " ".join(spec.overrides) or None,
        "precision": spec.precision,
        "test_images": records[0].test_images,
        "data_fingerprint": spec.data_fingerprint[:12],
        "checkpoint_sha256": list(dict.fromkeys(record.spec.checkpoint_sha256[:12] for record in records)),
        "commit": list(dict.fromkeys(short_commit(record.git) for record in records)),
        "runs": [record.spec.spec_id for record in records],
    }
    return {
        "type": _metric_type(cell.metric.key),
        "value": round(cell.mean or 0.0, decimals),
        "name": f"{cell.column} {cell.metric.label}{unit} ({spec.task}, profile {spec.profile})",
        "args": {key: value for key, value in args.items() if value is not None},
    }
