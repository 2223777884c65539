"""Pictures of a detection run for show.py: images, mistakes by kind, curves and a contact sheet of the classes.

Drawn from the detections and matches beside the record, without the model. Runs of earlier versions kept predictions
of their first images alone: of these only the images are drawn.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.data.pictures import save, stack
from benchmarks.data.root import DataRoot
from benchmarks.records import RunRecord
from benchmarks.report import detection_charts, detection_classes, detection_images, detection_kept
from benchmarks.report.detected import AGAIN, MEASURES, load_tested, test_images
from benchmarks.tasks import TASKS
from pretrain.common.errors import InputError
from transfer.detection.evaluation.kinds import KINDS
from transfer.detection.evaluation.store import FOLDER

PICTURES = "pictures"  # folder beside the run's other files


def write(
    record: RunRecord, root: DataRoot, folder: Path, output: Path, titles: list[Image.Image], words: Sequence[str],
    count: int, class_name: str | None,
) -> list[str]:  # fmt: skip
    """Write the PNGs of the run in ``folder`` into ``output``; the lines to print. InputError if it cannot.

    ``titles`` are the bands on top of pictures, ``words`` the same for charts.
    """
    if output.exists() and not output.is_dir():
        raise InputError(f"{output} is a file: name the folder for a detector's pictures")
    layout = TASKS[record.spec.task].layout
    if not (folder / FOLDER).is_dir() or not list(folder.glob("matches-*.npz")):
        return _kept(record, root, folder, output, titles, count, class_name)
    tested = load_tested(folder, root, layout)
    if class_name is not None:
        path = output / f"class-{_slug(class_name)}.png"
        save(stack([*titles, *detection_classes.sheet(tested, _number(tested.classes, class_name))]), path)
        return [str(path)]
    save(stack([*titles, *detection_images.draw(tested, count)]), output / "images.png")
    lines, paths = [], [output / "images.png"]
    for name, measured in tested.measures.items():
        kind = MEASURES[name]
        paths += [output / f"errors-{kind}.png", output / f"curves-{kind}.png"]
        total = detection_charts.errors(measured, tested.classes, [*words, f"mistakes of {kind}"], paths[-2])
        detection_charts.curves(measured, tested.classes, [*words, f"curves of {kind}"], paths[-1])
        lines += summary(kind, total)
    sheets = detection_classes.sheets(tested)
    for number, bands in enumerate(sheets, 1):
        paths.append(output / (f"classes-{number}.png" if len(sheets) > 1 else "classes.png"))
        save(stack([*titles, *bands]), paths[-1])
    return [*lines, *map(str, paths)]


def summary(kind: str, total: dict[str, np.ndarray]) -> list[str]:
    """Lines with the shares of the best detections of all classes, and of the objects."""
    best, objects = total["best"], total["objects"]
    words = [f"{count / max(1, objects.sum()):.0%} {word}" for word, count in zip(("right", *KINDS), best, strict=True)]
    return [
        f"{kind}, as many detections per class as it has objects ({objects.sum():,}): {', '.join(words)}",
        f"{kind}, objects: {objects[0]:,} found by these, {objects[1]:,} by lower-scored ones only, "
        f"{objects[2]:,} by none (IoU 0.5)",
    ]


def _kept(
    record: RunRecord, root: DataRoot, folder: Path, output: Path, titles: list[Image.Image], count: int,
    class_name: str | None,
) -> list[str]:  # fmt: skip
    """The images alone, from predictions.json."""
    predictions, layout = folder / "predictions.json", TASKS[record.spec.task].layout
    missing = f"{folder} has no {FOLDER} with matches (a run of an earlier version, or an evaluator that keeps none)"
    if class_name is not None:
        raise InputError(f"{missing}, which --class needs: {AGAIN}")
    if not predictions.is_file():
        raise InputError(f"{folder} has no predictions.json: only detection runs that finished keep it")
    root.check_unchanged()
    classes = root.section(layout)["classes"]
    scenes, highest = detection_kept.read_scenes(predictions, test_images(root, layout), classes)
    shown, tests = detection_kept.SHOWN_SCORE, record.test_images or 0
    print(f"note: {missing}: only its images are drawn, no curves, mistakes or classes", file=sys.stderr)
    if highest < shown:
        print(f"warning: no prediction reaches the score {shown}: the highest is {highest:.2f}", file=sys.stderr)
    some = f"the first {len(scenes):,} of {tests:,}" if tests > len(scenes) else f"{len(scenes):,}"
    rule = f"predictions with a score of at least {shown} (of all the highest is {highest:.2f})"
    sections = {f"All {some} test images, the best first": scenes}
    if len(scenes) > 2 * count:
        best, worst = scenes[:count], scenes[: -count - 1 : -1]
        sections = {f"The {count} best of {some} test images": best, f"The {count} worst, the worst first": worst}
    save(stack([*titles, *detection_images.drawn(rule, sections)]), output / "images.png")
    return [str(output / "images.png")]


def _number(classes: Sequence[str], name: str) -> int:
    if name not in classes:
        near = [one for one in classes if name.lower() in one.lower()] or list(classes)
        raise InputError(f"--class {name}: the data have no such class; they have {', '.join(near[:8])}")
    return classes.index(name)


def _slug(name: str) -> str:
    return re.sub(r"[^\w-]+", "-", name)[:60].strip("-") or "unnamed"
