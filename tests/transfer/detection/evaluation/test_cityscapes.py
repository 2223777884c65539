"""Cityscapes' AP against a plain second implementation, and against cityscapesscripts where that is installed."""

import json

import numpy as np
import pytest
import torch
from detectron2.data import MetadataCatalog
from detectron2.evaluation import CityscapesInstanceEvaluator
from detectron2.structures import Boxes, Instances
from PIL import Image

from benchmarks.data.from_cityscapes import CLASSES, instances_file
from transfer.detection.evaluation.cityscapes import CityscapesEvaluator
from transfer.detection.trainer import flat_metrics

WIDTH, HEIGHT = 120, 80
LABELS = list(CLASSES)
KINDS = (24, 25, 26, 31, 33)  # that occur; no object is a truck, a bus or a motorcycle
VOID = {0, 1, 2, 3, 4, 5, 6, 9, 10, 14, 15, 16, 18, 29, 30}


def box_mask(rng, smallest=4):
    width, height = rng.integers(smallest, 60), rng.integers(smallest, 50)
    left, top = rng.integers(0, WIDTH - width), rng.integers(0, HEIGHT - height)
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[top : top + height, left : left + width] = True
    return mask


def truth(seed, images=8, *, groups=0.2, small=0.2, void=True, empty=0.15):
    """Instance ids of images: objects hide each other; groups, objects of fewer than 100 pixels, void, caravans."""
    rng, found = np.random.default_rng(seed), []
    for _ in range(images):
        ids = np.full((HEIGHT, WIDTH), 7, np.int32)
        if void:
            ids[-20:, :40], ids[:10, -50:] = 4, 29
        for number in range(0 if rng.random() < empty else rng.integers(1, 9)):
            kind, mask = int(rng.choice([*KINDS, 29])), box_mask(rng)
            if rng.random() < small:
                mask &= np.indices(mask.shape).sum(0) % 7 == 0
            ids[mask] = kind if rng.random() < groups else 1000 * kind + number
        found.append(ids)
    return found


def detected(seed, images, *, decimals=1):
    """(class number, score, mask) of each detection: objects some pixels off, several times; inventions; void."""
    rng, found = np.random.default_rng(seed + 1000), []
    for ids in images:
        rows = []
        for key in np.unique(ids):
            label = int(key // 1000 if key >= 1000 else key)
            if label not in LABELS:
                continue
            for _ in range(rng.integers(0, 4)):
                mask = np.roll(ids == key, rng.integers(-3, 4, 2), (0, 1)) & (
                    rng.random(ids.shape) > 0.1 * rng.random()
                )
                rows.append((LABELS.index(label if rng.random() < 0.8 else int(rng.choice(LABELS))), mask))
        rows += [(int(rng.integers(8)), box_mask(rng)) for _ in range(rng.integers(0, 8))]
        rows += [(int(rng.integers(8)), np.isin(ids, [4, 29])), (0, np.zeros_like(ids, bool))]
        rows = [rows[place] for place in rng.permutation(len(rows))]
        scores = np.round(rng.random(len(rows)), decimals).astype(np.float32)
        found.append([(kind, float(score), mask) for (kind, mask), score in zip(rows, scores, strict=True)])
    return found


def plain(images, found):
    """AP of each class and threshold, object by object and detection by detection."""
    return np.array([[plain_ap(images, found, place, 0.5 + 0.05 * n) for n in range(10)] for place in range(8)])


def plain_ap(images, found, place, threshold):
    scores, missed, objects_seen, label = [], 0, 0, LABELS[place]
    for ids, rows in zip(images, found, strict=True):
        own = [(score, mask) for kind, score, mask in rows if kind == place and mask.any()]
        masks = {int(key): ids == key for key in np.unique(ids) if (key // 1000 if key >= 1000 else key) == label}
        counted = [key for key, mask in masks.items() if key >= 1000 and mask.sum() >= 100]
        objects_seen += len(counted)
        for key in counted:
            hits = sorted(score for score, mask in own if iou(mask, masks[key]) > threshold)
            missed += not hits
            scores += [(score, place == len(hits) - 1) for place, score in enumerate(hits)]
        for score, mask in own:
            if not any(iou(mask, other) > threshold for other in masks.values()):
                ignored = np.isin(ids, list(VOID))[mask].sum()
                ignored += sum((mask & other).sum() for key, other in masks.items() if key < 1000)
                ignored += sum((mask & other).sum() for other in masks.values() if other.sum() < 100)
                if ignored / mask.sum() <= threshold:
                    scores.append((score, False))
    if not objects_seen:
        return np.nan
    area, before = 0.0, (0.0, 1.0)  # recall and precision, from no detection on
    curve = []
    for level in sorted({score for score, _ in scores}, reverse=True):
        kept = [true for score, true in scores if score >= level]
        curve.append((sum(kept) / objects_seen, sum(kept) / len(kept)))
    # Each precision counts for half of the way to the recalls on both sides of it; the last one for all before it.
    points = [before, *curve]
    for number, (recall, exact) in enumerate(points):
        left = points[number - 1][0] if number else 0.0
        right = points[number + 1][0] if number + 1 < len(points) else recall
        area += exact * (right - left) / 2
    return area


def iou(one, other):
    return (one & other).sum() / (one | other).sum()


@pytest.fixture
def registered(tmp_path):
    """Writes instance ids as Cityscapes has them, and registers them; (name of the data set, inputs)."""
    names = []

    def add(images):
        folder = tmp_path / str(len(names))
        files = [f"val/town/town_{number:06d}_000019_leftImg8bit.png" for number in range(len(images))]
        for name, ids in zip(files, images, strict=True):
            path = instances_file(folder / "gtFine", name)
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(ids.astype(np.uint16)).save(path)
        about = [{"id": number, "file_name": name} for number, name in enumerate(files, 1)]
        (folder / "truth.json").write_text(json.dumps({"images": about}))
        names.append(str(folder))
        MetadataCatalog.get(names[-1]).set(
            evaluator_type="cityscapes",
            json_file=str(folder / "truth.json"),
            gt_dir=str(folder / "gtFine" / "val"),
            thing_classes=list(CLASSES.values()),
            label_ids=tuple(CLASSES),
            instances_file=lambda name: instances_file(folder / "gtFine", name),
        )
        return names[-1], [{"image_id": one["id"], "file_name": one["file_name"]} for one in about]

    yield add
    for name in names:
        MetadataCatalog.remove(name)


def outputs(found):
    return [{"instances": instances(rows)} for rows in found]


def instances(rows):
    one = Instances((HEIGHT, WIDTH))
    one.pred_boxes = Boxes(torch.zeros(len(rows), 4))
    one.scores = torch.tensor([score for _, score, _ in rows])
    one.pred_classes = torch.tensor([kind for kind, *_ in rows], dtype=torch.long)
    one.pred_masks = torch.tensor(np.array([mask for *_, mask in rows]).reshape(-1, HEIGHT, WIDTH))
    return one


def result(name, inputs, found):
    evaluator = CityscapesEvaluator(name)
    evaluator.reset()
    evaluator.process(inputs, outputs(found))
    return evaluator.evaluate()["segm"]


CASES = {
    "random": {},
    "groups alone": {"groups": 1.0},
    "no group": {"groups": 0.0, "small": 0.0},
    "small objects": {"small": 1.0},
    "no void": {"void": False},
    "most images empty": {"empty": 0.85},
}


@pytest.mark.parametrize("case", CASES)
def test_the_ap_is_that_of_a_plain_implementation(case, registered):
    images = truth(1, **CASES[case])
    found = detected(1, images)
    ours, wanted = result(*registered(images), found), plain(images, found)
    with np.errstate(all="ignore"):
        means = {"AP": np.nanmean(wanted), "AP50": np.nanmean(wanted[:, 0])} if case != "groups alone" else {}
    each = {f"AP_{name}": row.mean() for name, row in zip(CLASSES.values(), wanted, strict=True)}
    assert {key: ours[key] for key in {**means, **each}} == pytest.approx(
        {key: 100 * value for key, value in {**means, **each}.items()}, abs=1e-9, nan_ok=True
    )
    assert np.isnan(ours["AP_truck"]) and (np.isnan(ours["AP"]) if case == "groups alone" else ours["AP"] > 0.1)


@pytest.mark.parametrize("case", CASES)
def test_the_ap_is_cityscapesscripts_to_the_bit(case, registered, monkeypatch):
    monkeypatch.setattr(np, "in1d", np.isin, raising=False)  # the package is of before NumPy 2
    package = pytest.importorskip("cityscapesscripts.evaluation.evalInstanceLevelSemanticLabeling")
    monkeypatch.setattr(package, "writeDict2JSON", lambda *_: None)  # to the working directory, and fails
    monkeypatch.setattr(package.args, "quiet", True)
    kept = {}
    average = package.computeAverages
    monkeypatch.setattr(package, "computeAverages", lambda ap, args: kept.update(ap=ap) or average(ap, args))
    for seed in range(2):
        images = truth(seed, **CASES[case])
        found = detected(seed, images, decimals=1 + 2 * seed)
        name, inputs = registered(images)
        theirs = CityscapesInstanceEvaluator(name)
        theirs.reset()
        theirs.process(inputs, outputs(found))
        with np.errstate(all="ignore"):
            expected, ours = theirs.evaluate()["segm"], result(name, inputs, found)
        assert np.array_equal([ours["AP"], ours["AP50"]], [expected["AP"], expected["AP50"]], equal_nan=True)
        each = [ours[f"AP_{name}"] for name in CLASSES.values()]
        np.testing.assert_array_equal(each, 100 * kept["ap"][0].mean(1))


def test_a_perfect_detector_has_100_and_one_without_detections_0(registered):
    images = truth(2)
    name, inputs = registered(images)
    perfect = [
        [(LABELS.index(key // 1000), 0.9, ids == key) for key in np.unique(ids) if key // 1000 in LABELS]
        for ids in images
    ]
    values = flat_metrics({"segm": result(name, inputs, perfect)})
    assert values["segm/AP"] == values["segm/AP50"] == values["segm/AP_car"] == 100.0
    assert values["segm/AP_truck"] is None
    nothing = flat_metrics({"segm": result(name, inputs, [[] for _ in images])})
    assert nothing["segm/AP"] == nothing["segm/AP_car"] == 0.0 and nothing["segm/AP_truck"] is None


def test_where_every_detection_is_ignored_and_every_object_missed_the_ap_is_0(registered):
    """cityscapesscripts ends with an IndexError there."""
    ids = np.full((HEIGHT, WIDTH), 4, np.int32)
    ids[:20, :20] = 26001
    elsewhere = np.zeros_like(ids, bool)
    elsewhere[60:, 60:] = True
    name, inputs = registered([ids])
    assert result(name, inputs, [[(LABELS.index(26), 0.9, elsewhere)]])["AP_car"] == 0.0
