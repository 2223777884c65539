"""LVIS' AP against a plain second implementation, and to the bit against the lvis package where that is installed."""

import copy
import dataclasses
import json
import logging

import numpy as np
import pytest
from detectron2.data import MetadataCatalog
from pycocotools import mask as rle

from pretrain.common.errors import InputError
from tests.transfer.detection.evaluation.lvis_scenes import CATEGORIES, FREQUENCIES, detections, truth
from tests.transfer.detection.evaluation.scenes import SIDE
from transfer.detection.evaluation import lvis
from transfer.detection.evaluation.coco import results
from transfer.detection.evaluation.lvis import METRICS, LVISEvaluator
from transfer.detection.evaluation.store import joined
from transfer.detection.trainer import flat_metrics

CASES = {  # of truth(), of detections()
    "random": ({}, {}),
    "all verified": ({"negatives": 1.0, "unfinished": 0.0}, {}),
    "nothing verified": ({"negatives": 0.0}, {}),
    "nothing annotated throughout": ({"unfinished": 1.0}, {}),
    "most images empty": ({"empty": 0.85}, {}),
    "more than 300 on an image": ({"images": 3, "empty": 0.0}, {"invented": 700}),
    "scores of three decimals": ({}, {"decimals": 3}),
}
AREAS = {"": (0, 1e10), "s": (0, 32**2), "m": (32**2, 96**2), "l": (96**2, 1e10)}
THRESHOLDS = np.linspace(0.5, 0.95, 10)


def listed(content, found, task):
    """COCO's list of results, and of each its area and shape."""
    rows = results(found, task, sorted(CATEGORIES))
    for one in rows:
        shape = one["segmentation"] if task == "segm" else one["bbox"]
        one |= {"shape": shape, "area": int(rle.area(shape)) if task == "segm" else shape[2] * shape[3]}
    return rows


def shape_of(one, task):
    if task == "bbox":
        return one["bbox"]
    segmentation = one["segmentation"]
    return segmentation if isinstance(segmentation, dict) else rle.merge(rle.frPyObjects(segmentation, SIDE, SIDE))


def plain(content, found, task):
    """LVIS' metrics, category by category and image by image, as its paper describes them."""
    rows = listed(content, found, task)
    kept = []
    for image in content["images"]:
        own = [one for one in rows if one["image_id"] == image["id"]]
        kept += sorted(own, key=lambda one: -one["score"])[:300]
    ap = {}
    for category in CATEGORIES:
        for area, limits in AREAS.items():
            outcomes, count = [], 0
            for image in content["images"]:
                objects = [one for one in content["annotations"] if one["image_id"] == image["id"]]
                objects = [one for one in objects if one["category_id"] == category]
                if not objects and category not in image["neg_category_ids"]:
                    continue
                own = [one for one in kept if (one["image_id"], one["category_id"]) == (image["id"], category)]
                own.sort(key=lambda one: -one["score"])
                outside = [not limits[0] <= one["area"] <= limits[1] for one in objects]
                count += outside.count(False)
                free = category in image["not_exhaustive_category_ids"]
                outcomes += matched(own, objects, outside, limits, free, task)
            if count:
                ap[category, area] = [precision(outcomes, count, number) for number in range(10)]
    return summary(ap)


def matched(own, objects, outside, limits, free, task):
    """(score, outcome at each threshold) of each detection: True, False, or None where it does not count."""
    overlaps = np.zeros((len(own), 0))
    if own and objects:
        overlaps = rle.iou([one["shape"] for one in own], [shape_of(one, task) for one in objects], [0] * len(objects))
    taken = np.zeros((10, len(objects)), bool)
    found = []
    for place, one in enumerate(own):
        outcome = []
        for number, threshold in enumerate(THRESHOLDS):
            free_objects = [n for n in range(len(objects)) if not taken[number, n] and overlaps[place, n] >= threshold]
            # Objects that count come first, then the one that overlaps most, of equal ones the last.
            free_objects.sort(key=lambda other: (not outside[other], overlaps[place, other], other))
            best = free_objects[-1] if free_objects else None
            if best is not None:
                taken[number, best] = True
                outcome.append(None if outside[best] else True)
            else:
                counts = limits[0] <= one["area"] <= limits[1] and not free
                outcome.append(False if counts else None)
        found.append((one["score"], outcome))
    return found


def precision(outcomes, count, number):
    """Mean over 101 recalls of the highest precision at that recall or beyond."""
    ranked = [one[number] for _, one in sorted(outcomes, key=lambda one: -one[0]) if one[number] is not None]
    true = np.cumsum(ranked) if ranked else np.zeros(0)
    recall, exact = true / count, true / np.arange(1, len(ranked) + 1)
    return np.mean([max(exact[recall >= level], default=0) for level in np.linspace(0, 1, 101)])


def summary(ap):
    def mean(values):
        return np.mean(values) if len(values) else -1.0

    whole = {category: ap[category, ""] for category in CATEGORIES if (category, "") in ap}
    found = {"AP": mean(list(whole.values()))}
    found |= {f"AP{50 + 5 * at}": mean([one[at] for one in whole.values()]) for at in (0, 5)}
    found |= {f"AP{area}": mean([ap[key] for key in ap if key[1] == area]) for area in "sml"}
    for letter in "rcf":
        group = [kind for kind, frequency in zip(CATEGORIES, FREQUENCIES, strict=True) if frequency == letter]
        found[f"AP{letter}"] = mean([whole[kind] for kind in group if kind in whole])
    return found


@pytest.mark.parametrize("task", ["bbox", "segm"])
@pytest.mark.parametrize("case", CASES)
def test_the_metrics_are_those_of_a_plain_implementation(case, task, monkeypatch):
    monkeypatch.setattr(lvis, "IMAGES", 7)  # several chunks
    about, given = CASES[case]
    content = truth(3, **about)
    found = detections(3, content, **given)
    ours = lvis.evaluate(content, found, task).get_results()
    assert {name: ours[name] for name in METRICS} == pytest.approx(plain(content, found, task), abs=1e-12)
    assert 0.001 < ours["AP"] < 0.99 and len({ours[name] for name in METRICS}) > 6
    if "300" in case:
        assert np.bincount(found.image).max() > 300


@pytest.mark.parametrize("task", ["bbox", "segm"])
@pytest.mark.parametrize("case", CASES)
def test_the_metrics_are_the_lvis_packages_to_the_bit(case, task, tmp_path, monkeypatch):
    monkeypatch.setattr(np, "float", float, raising=False)  # the package is of 2020
    package = pytest.importorskip("lvis")
    logging.getLogger("lvis").setLevel(logging.ERROR)
    about, given = CASES[case]
    for seed in range(3):
        content = truth(seed, **about)
        found = detections(seed, content, **given)
        (tmp_path / "truth.json").write_text(json.dumps(content))
        whole = package.LVIS(str(tmp_path / "truth.json"))
        theirs = package.LVISEval(
            whole, package.LVISResults(whole, copy.deepcopy(results(found, task, sorted(CATEGORIES)))), task
        )
        theirs.run()
        ours = lvis.evaluate(content, found, task)
        assert {name: ours.get_results()[name] for name in theirs.results} == theirs.results
        for name in ("precision", "recall"):
            assert np.array_equal(np.array(ours.eval[name])[..., 0], theirs.eval[name])


@pytest.fixture
def registered(tmp_path):
    def add(content):
        (tmp_path / "truth.json").write_text(json.dumps(content))
        MetadataCatalog.get("lvis scenes").set(json_file=str(tmp_path / "truth.json"), evaluator_type="lvis")
        return "lvis scenes"

    yield add
    MetadataCatalog.remove("lvis scenes")


def result(name, found, tasks=("bbox", "segm")):
    evaluator = LVISEvaluator(name, tasks)
    evaluator.reset()
    evaluator.recorder.keep(found)
    return evaluator.evaluate()


def test_the_evaluator_gives_percent_and_nan_for_what_is_undefined(registered):
    content = truth(5)
    for one in content["annotations"]:
        one["category_id"] = 5  # a common one
    for image in content["images"]:
        image |= {"neg_category_ids": [], "not_exhaustive_category_ids": []}
    found = detections(5, content)
    values = result(registered(content), found)
    assert list(values) == ["bbox", "segm"] and list(values["segm"]) == list(METRICS)
    assert (
        values["bbox"]["AP"] == values["bbox"]["APc"] == 100 * lvis.evaluate(content, found, "bbox").get_results()["AP"]
    )
    assert np.isnan([values["segm"][name] for name in ("APr", "APf")]).all()


def test_without_a_detection_ap_is_0(registered):
    content = truth(5)
    none = dataclasses.replace(joined([]), ids=np.array([one["id"] for one in content["images"]]))
    metrics = flat_metrics(result(registered(content), none))
    assert metrics["bbox/AP"] == metrics["segm/AP50"] == 0.0 and metrics["segm/APr"] is None


def test_without_hotcoco_the_task_is_refused_beforehand(monkeypatch):
    assert lvis.engine_and_version().startswith("hotcoco ")
    monkeypatch.setattr(lvis.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match="pip install hotcoco"):
        lvis.engine_and_version()
