"""The detectors' charts: their numbers against those of ``Matches``, their means over runs by hand."""

import dataclasses

import numpy as np
import pytest

from benchmarks.records import ResultsStore
from benchmarks.report.web import chart_detectors
from benchmarks.report.web.board import board_of
from benchmarks.report.web.gallery import charts_of
from tests.benchmarks.doubles import make_record, make_spec
from transfer.detection.evaluation.matches import FALSE, TRUE, UNCOUNTED, Matches, load_matches

IMAGES, CLASSES, DETECTIONS, OBJECTS = 12, 5, 150, 60
AREAS = ("all", "small", "medium", "large")
STUDENT = 12.7062  # 97.5 % quantile with one degree of freedom, of a printed table


def matches(seed, rule="coco", classes=CLASSES):
    """Outcomes by chance; no object is large, and none is of the last class."""
    rng = np.random.default_rng(seed)
    areas = AREAS if rule == "coco" else AREAS[:1]
    of = np.arange(OBJECTS) % (classes - 1)
    small = np.random.default_rng(classes).random(OBJECTS) < 0.5
    counts = np.stack([np.ones(OBJECTS, bool), small, ~small, np.zeros(OBJECTS, bool)], axis=1)[:, : len(areas)]
    thresholds = np.linspace(0.5, 0.95, 10)
    found = Matches(
        ids=np.arange(IMAGES),
        image=rng.integers(IMAGES, size=DETECTIONS),
        category=rng.integers(classes, size=DETECTIONS),
        score=rng.random(DETECTIONS),
        outcome=rng.choice([UNCOUNTED, TRUE, FALSE, FALSE], (len(areas), DETECTIONS, len(thresholds))),
        object_image=rng.integers(IMAGES, size=OBJECTS),
        object_category=of,
        object_counts=counts,
        thresholds=thresholds,
        areas=areas,
        classes=tuple(f"class {number}" for number in range(classes)),
        rule=rule,
    )
    few = np.zeros_like(found.outcome)  # no more true detections than objects
    few[...] = np.where(found.outcome == TRUE, FALSE, found.outcome)
    for area, threshold, number in np.ndindex(len(areas), len(thresholds), classes):
        objects = int(found.objects(number, area))
        own = np.flatnonzero((found.category == number) & (found.outcome[area, :, threshold] == TRUE))[:objects]
        few[area, own, threshold] = TRUE
    return dataclasses.replace(found, outcome=few)


def kept(label, sha, seed, **changes):
    spec = make_spec(task="coco-fpn-1x", checkpoint_sha256=sha * 64, seed=seed)
    found = matches(100 * ord(sha) + seed, **changes)
    folder = ResultsStore().working_folder(spec)
    found.save(folder / "matches-bbox.npz")
    record = make_record(spec, {"bbox/AP": 100 * found.mean_ap()}, label=label)
    ResultsStore().save(record)  # which names no files: draws of the test images take seconds
    return (label, spec), found


def sections(pairs):
    return {section.title: section.charts for section in charts_of(board_of(pairs, ResultsStore().all_newest()))}


@pytest.mark.parametrize("rule", ["coco", "voc2007", "voc2012"])
def test_a_run_is_measured_as_its_matches_are(rule):
    found = matches(3, rule)
    made = chart_detectors.measured(found)
    expected = [100 * found.ap(number).mean() for number in range(CLASSES)]
    assert made.classes == pytest.approx(expected, nan_ok=True) and np.isnan(made.classes[-1])
    sizes = {size: 100 * found.mean_ap(found.areas.index(size)) for size in AREAS[1:] if size in found.areas}
    assert made.sizes == pytest.approx(sizes, nan_ok=True)
    curves = np.mean([found.interpolated(number)[0] for number in range(CLASSES - 1)], axis=0)
    assert made.curve == pytest.approx(100 * (curves[::5] if rule == "coco" else curves))


def test_charts_are_means_over_the_runs_with_students_intervals(results):
    made = [kept(label, sha, seed) for label, sha in (("alpha", "a"), ("beta", "b")) for seed in (0, 1)]
    found = sections([pair for pair, _ in made])
    (squares,) = found["AP of each class"]
    for value in squares.spec["data"]["values"]:
        number = int(value["class"].removeprefix("class "))
        own = [100 * one.ap(number).mean() for (label, _), one in made if label == value["row"]]
        assert value["value"] == pytest.approx(np.mean(own), abs=1e-4)
    assert len(squares.spec["data"]["values"]) == 2 * (CLASSES - 1)  # the last has no object
    (sizes,) = found["AP by object size"]
    assert {value["size"] for value in sizes.spec["data"]["values"]} == {"small", "medium"}
    assert "No test object is large" in sizes.caption and "not over test images" in sizes.caption
    for value in sizes.spec["data"]["values"]:
        area = AREAS.index(value["size"])
        own = [100 * one.mean_ap(area) for (label, _), one in made if label == value["row"]]
        width = STUDENT * np.std(own, ddof=1) / np.sqrt(2)
        expected = [np.mean(own), np.mean(own) - width, np.mean(own) + width]
        assert [value[key] for key in ("value", "low", "high")] == pytest.approx(expected, rel=1e-4, abs=1e-3)
    (curve,) = found["Precision over recall"]
    assert [value["recall"] for value in curve.spec["data"]["values"]] == 2 * list(range(0, 101, 5))


def test_of_many_classes_those_that_differ_most_are_shown(results):
    count = chart_detectors.CLASSES + 5
    made = [kept(label, sha, 0, classes=count) for label, sha in (("alpha", "a"), ("beta", "b"))]
    (squares,) = sections([pair for pair, _ in made])["AP of each class"]
    aps = [[one.ap(number).mean() for number in range(count)] for _, one in made]
    gaps = np.abs(np.subtract(*aps))[:-1]
    expected = np.sort(gaps)[-chart_detectors.CLASSES :]
    shown = {int(value["class"].removeprefix("class ")) for value in squares.spec["data"]["values"]}
    assert np.sort(gaps[sorted(shown)]) == pytest.approx(expected)
    assert f"{chart_detectors.CLASSES} of " in squares.caption


def test_damaged_matches_leave_their_row_out(results):
    made = [kept(label, sha, 0) for label, sha in (("alpha", "a"), ("beta", "b"))]
    (path,) = [
        path for path in results.rglob("matches-bbox.npz") if (load_matches(path).score == made[0][1].score).all()
    ]
    path.write_bytes(b"no archive")
    (squares,) = sections([pair for pair, _ in made])["AP of each class"]
    assert {value["row"] for value in squares.spec["data"]["values"]} == {"beta"}
