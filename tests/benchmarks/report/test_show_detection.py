"""Pictures of detection runs: of earlier versions their images alone, of others all that matches tell."""

import json

import numpy as np
import pytest
import torch
from detectron2.structures import Boxes, Instances
from PIL import Image
from pycocotools import mask as rle
from sklearn.metrics import precision_recall_curve

from benchmarks.__main__ import main
from benchmarks.data.pictures import Marked
from benchmarks.data.prepare import main as prepare
from benchmarks.data.registration import register
from benchmarks.data.root import DataRoot
from benchmarks.records import ResultsStore
from benchmarks.report import detection_charts, detection_images, show
from benchmarks.report.detected import load_tested, shares
from benchmarks.report.detection_images import IGNORED, RIGHT, WRONG
from benchmarks.report.detection_kept import matched
from pretrain.common.errors import InputError
from tests.benchmarks.doubles import make_record, make_spec
from tests.benchmarks.tasks.voc_roots import colours, voc_root
from transfer.detection.evaluation.coco import COCOEvaluator
from transfer.detection.evaluation.matches import TRUE, UNCOUNTED
from transfer.detection.evaluation.voc import VOCEvaluator
from transfer.detection.predictions import KeepPredictions


def box(*corners, name="cat", ignored=False):
    return Marked(name=name, box=corners, ignored=ignored)


@pytest.mark.parametrize(
    ("truth", "found", "counts", "f1"),
    [
        ([], [], (0, 0, 0), 1.0),
        ([box(0, 0, 10, 10)], [], (0, 1, 0), 0.0),
        ([], [box(0, 0, 10, 10)], (0, 0, 1), 0.0),
        ([box(0, 0, 10, 10)], [box(0, 0, 10, 10)], (1, 0, 0), 1.0),
        ([box(0, 0, 10, 10)], [box(0, 0, 10, 10, name="dog")], (0, 1, 1), 0.0),
        ([box(0, 0, 10, 10)], [box(0, 0, 10, 10), box(1, 0, 10, 10)], (1, 0, 1), 2 / 3),  # the second finds none left
        ([box(0, 0, 10, 10), box(20, 0, 30, 10)], [box(0, 0, 10, 10)], (1, 1, 0), 2 / 3),
        ([box(0, 0, 10, 10)], [box(0, 0, 4, 10)], (0, 1, 1), 0.0),  # IoU 0.4
        ([box(0, 0, 10, 10)], [box(0, 0, 5, 10)], (1, 0, 0), 1.0),  # IoU 0.5
        ([box(0, 0, 99, 99, ignored=True)], [], (0, 0, 0), 1.0),
        ([box(0, 0, 99, 99, ignored=True)], [box(3, 3, 9, 9), box(50, 50, 60, 60)], (0, 0, 0), 1.0),
        ([box(0, 0, 99, 99, ignored=True)], [box(3, 3, 9, 9, name="dog")], (0, 0, 1), 0.0),
        ([box(0, 0, 99, 99, ignored=True), box(0, 0, 10, 10)], [box(0, 0, 10, 10)], (1, 0, 0), 1.0),
    ],
)
def test_tally(truth, found, counts, f1):
    scene = matched({}, truth, found)
    assert scene.tally == counts and scene.tally.f1 == pytest.approx(f1)
    assert (
        [one.colour for one in scene.found].count(RIGHT)
        == counts[0]
        == [one.colour for one in scene.truth].count(RIGHT)
    )
    assert [one.colour for one in scene.truth].count(WRONG) == counts[1]
    assert [one.colour for one in scene.found].count(WRONG) == counts[2]
    assert [one.colour == IGNORED for one in scene.truth] == [one.ignored for one in truth]


def test_predictions_are_kept_as_they_came_but_for_the_weak(tmp_path):
    instances = Instances((8, 8))
    instances.pred_boxes = Boxes(torch.tensor([[0.0, 1, 4, 5], [2, 2, 8, 8]]))
    instances.scores, instances.pred_classes = torch.tensor([0.9, 0.01]), torch.tensor([3, 1])
    instances.pred_masks = torch.zeros(2, 8, 8, dtype=torch.bool)
    instances.pred_masks[0, 1:5, 0:4] = True
    keeper = KeepPredictions(tmp_path / "p.json")
    keeper.process([{"file_name": "a.jpg", "image_id": 7}], [{"instances": instances}])
    assert keeper.evaluate() == {}
    (image,) = json.loads((tmp_path / "p.json").read_text())
    (one,) = image["instances"]
    assert (image["image_id"], one["class"], one["box"]) == (7, 3, [0, 1, 4, 5]) and one["score"] == pytest.approx(0.9)
    assert (rle.decode(one["mask"]) == instances.pred_masks[0].numpy()).all()


@pytest.fixture
def coco(tmp_path, monkeypatch, capsys):
    """A prepared root of 20 images, 10 of them to test on, one object each, of two classes."""
    monkeypatch.setenv("RESULTS_DIR", str(tmp_path / "results"))
    source = tmp_path / "source"
    source.mkdir()
    images, entries = [], []
    for number in range(1, 21):
        pixels = np.random.default_rng(number).integers(0, 255, (30, 40, 3), np.uint8)
        Image.fromarray(pixels).save(source / f"{number}.png")
        images.append({"id": number, "file_name": f"{number}.png", "width": 40, "height": 30})
        about = {"id": number, "image_id": number, "category_id": number % 2 + 1, "area": 100, "iscrowd": 0}
        entries.append(about | {"bbox": [5, 6, 10, 10], "segmentation": [[5, 6, 15, 6, 15, 16, 5, 16]]})
    names = [r"m$\input$ <b>", "two\nlines " * 100]
    categories = [{"id": number, "name": name} for number, name in enumerate(names, 1)]
    stored = {"images": images, "annotations": entries, "categories": categories}
    (source / "all.json").write_text(json.dumps(stored))
    prepare(["coco", str(source), "--name", "toy", "--val-fraction", "0.5"])
    return DataRoot.load(capsys.readouterr().out.strip())


@pytest.fixture
def drawn(monkeypatch):
    """Every line of text drawn in headings."""
    texts, heading = [], show.heading
    for module in (show, detection_images):
        monkeypatch.setattr(
            module, "heading", lambda text, size, *width: texts.append(text) or heading(text, size, *width)
        )
    return texts


def found(image, score=0.9, **changes):
    mask = np.zeros((30, 40), dtype=np.uint8, order="F")
    mask[6:16, 5:15] = 1
    code = rle.encode(mask)
    one = {"class": image["id"] % 2, "score": score, "box": [5.0, 6.0, 15.0, 16.0]}
    return one | {"mask": {"size": code["size"], "counts": code["counts"].decode()}} | changes


def picture_of(path):
    return path.with_suffix("") / "pictures" / "images.png"


def record_of(root, instances, label="mine", **changes):
    """Path of a record whose run predicted ``instances(image)`` on each test image; ``changes`` of the spec."""
    store, data = ResultsStore(), root.section("coco")["fingerprint"]
    spec = make_spec(task="coco-fpn-1x", data_fingerprint=data, **changes)
    store.working_folder(spec).mkdir(parents=True)
    stored = json.loads((root.folder("coco") / "annotations" / "instances_val2017.json").read_text())
    kept = [
        {"file_name": f"/elsewhere/{image['file_name']}", "image_id": image["id"], "instances": instances(image)}
        for image in stored["images"]
    ]
    (store.working_folder(spec) / "predictions.json").write_text(json.dumps(kept))
    return store.save(make_record(spec, {"bbox/AP": None}, label=label))


def test_best_and_worst_images_under_headings(coco, drawn, capsys):
    path = record_of(coco, lambda image: [found(image)] if image["id"] % 3 else [], label="$x$\n<script>" + "y" * 5000)
    main(["show", str(path), "--count", "2"])
    said = capsys.readouterr()
    assert said.out == f"{picture_of(path)}\n" and said.err.startswith("note: ") and said.err.count("\n") == 1
    assert "has no detections with matches (a run of an earlier version, or an evaluator that" in said.err
    assert said.err.endswith("only its images are drawn, no curves, mistakes or classes\n")
    assert drawn[1].endswith("box AP undefined")
    assert drawn[-2:] == ["The 2 best of 10 test images", "The 2 worst, the worst first"]
    with Image.open(picture_of(path)) as picture:
        assert picture.width == detection_images.WIDTH and picture.height > 800


@pytest.mark.parametrize("highest", [0.0, 0.06, 0.49])
def test_nothing_that_reaches_the_threshold_is_said(coco, drawn, capsys, highest):
    path = record_of(coco, lambda image: [found(image, score=highest)] if highest else [])
    main(["show", str(path)])
    said = f"warning: no prediction reaches the score 0.5: the highest is {highest:.2f}\n"
    assert capsys.readouterr().err.endswith(said) and drawn[-1] == "All 10 test images, the best first"


def test_few_images_are_shown_once(coco, drawn):
    main(["show", str(record_of(coco, lambda image: [found(image)])), "--count", "5"])
    assert drawn[-1] == "All 10 test images, the best first"


def test_every_attempt_shows_its_own_predictions(coco, monkeypatch):
    """Also an old one, when a newer attempt at the same spec has predicted something else."""
    shown, paths = [], []
    monkeypatch.setattr(detection_images, "pair", lambda one: shown.append(one) or Image.new("RGB", (9, 9)))
    for score, label in ((0.8, "old"), (0.6, "new")):
        paths.append(record_of(coco, lambda image, score=score: [found(image, score=score)], label=label))
    for path, note in zip(paths, (" 0.80", " 0.60"), strict=True):
        main(["show", str(path)])
        assert {one.found[0].note for one in shown} == {note} and all(one.tally == (1, 0, 0) for one in shown)
        shown.clear()


def test_a_root_that_was_laid_again_is_refused(coco):
    path = record_of(coco, lambda image: [found(image)])
    prepare(["coco", coco.config["source"], "--name", "toy", "--val-fraction", "0.5", "--seed", "1"])
    with pytest.raises(InputError, match=r"toy was prepared again since this run: it holds data \w{8}, the run was"):
        main(["show", str(path)])


def test_pictures_that_were_changed_are_refused(coco, tmp_path):
    path = record_of(coco, lambda image: [found(image)])
    (tmp_path / "source" / "1.png").unlink()
    with pytest.raises(InputError, match="has changed since toy was prepared"):
        main(["show", str(path)])


def edited(path, change):
    stored = json.loads(path.read_text())
    change(stored)
    path.write_text(json.dumps(stored))


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(path.read_bytes()[:-40]),
        lambda path: path.write_bytes(b"\xff\xfe"),
        lambda path: path.write_text("[" * 100_000),
        lambda path: path.write_text('{"a": 1}'),
        lambda path: path.write_text("7"),
        lambda path: edited(path, lambda kept: kept[0].update(image_id=999)),
        lambda path: edited(path, lambda kept: kept[0].update(file_name="/elsewhere/other.png")),
        lambda path: edited(path, lambda kept: kept[0].pop("instances")),
        lambda path: edited(path, lambda kept: kept[0].update(instances=[[]])),
        lambda path: edited(path, lambda kept: kept[0].update(instances={"score": 1})),
        *(
            lambda path, change=change: edited(path, lambda kept: kept[3]["instances"][0].update(change))
            for change in (
                {"class": 2},
                {"class": -1},
                {"class": "0"},
                {"class": 0.5},
                {"score": float("nan")},
                {"score": "high"},
                {"score": 7},
                {"box": [5, 6, 15]},
                {"box": [5, 6, 4, 16]},
                {"box": [5, 6, 400, 16]},
                {"box": [float("nan")] * 4},
                {"box": None},
                {"mask": {"size": [40, 30], "counts": "1"}},
                {"mask": {"counts": "1"}},
                {"mask": []},
            )
        ),
    ],
)
def test_predictions_that_are_damaged_or_of_other_data_are_one_line(coco, damage):
    path = record_of(coco, lambda image: [found(image)])
    damage(path.with_suffix("") / "predictions.json")
    with pytest.raises(InputError, match=r"predictions\.json is damaged or of another run .*: run again") as error:
        main(["show", str(path)])
    assert "\n" not in str(error.value) and not picture_of(path).exists()


def test_a_record_without_predictions_is_one_line(coco, tmp_path):
    path = record_of(coco, lambda image: [found(image)])
    (path.with_suffix("") / "predictions.json").unlink()
    with pytest.raises(InputError, match=r"no predictions\.json"):
        main(["show", str(path)])
    with pytest.raises(InputError, match="is not a file"):
        main(["show", str(tmp_path / "x.json")])


def test_predictions_of_no_image_are_one_line(coco):
    path = record_of(coco, lambda image: [])
    (path.with_suffix("") / "predictions.json").write_text("[]")
    with pytest.raises(InputError, match="holds no image: run again"):
        main(["show", str(path)])


def test_the_picture_says_where_only_the_first_images_were_kept(coco, drawn):
    path = record_of(coco, lambda image: [found(image)])
    edited(path, lambda record: record.update(test_images=4952))
    main(["show", str(path), "--count", "1"])
    assert drawn[-2] == "The 1 best of the first 10 of 4,952 test images"


def detected(image, rng, masks, classes):
    """Objects some pixels off, twice, or of another class, and one box anywhere."""
    rows = []
    for left, top, right, bottom, kind in image["objects"]:
        for _ in range(rng.integers(0, 4)):
            box = np.array([left, top, right, bottom]) + rng.normal(0, 1.2, 4)
            rows.append((box, kind if rng.random() < 0.7 else rng.integers(classes)))
    rows.append((np.array([20.0, 2, 28, 9]), rng.integers(classes)))
    size = (image["height"], image["width"])
    boxes = np.clip(np.array([box for box, _ in rows]), 0, [size[1], size[0]] * 2)
    instances = Instances(size)
    instances.pred_boxes = Boxes(torch.tensor(boxes, dtype=torch.float))
    instances.scores = torch.tensor(rng.permutation(len(rows)) / len(rows) * 0.9 + rng.random() * 0.1)
    instances.pred_classes = torch.tensor([int(kind) for _, kind in rows])
    if masks:
        whole = np.zeros((len(rows), *size), dtype=bool)
        for one, (left, top, right, bottom) in zip(whole, boxes.round().astype(int).tolist(), strict=True):
            one[top:bottom, left:right] = True
        instances.pred_masks = torch.tensor(whole)
    return instances


def judged_coco(root, label="mine", nothing=False):
    """Path of a record whose run kept detections and matches of boxes and masks."""
    rng = np.random.default_rng(0)
    data, store = register(root, "coco"), ResultsStore()
    stored = json.loads((root.folder("coco") / "annotations" / "instances_val2017.json").read_text())
    spec = make_spec(task="coco-fpn-1x", data_fingerprint=root.section("coco")["fingerprint"])
    evaluator = COCOEvaluator(data.test[0], ["bbox", "segm"], store.working_folder(spec))
    evaluator.reset()
    for image in stored["images"]:
        boxes = [one for one in stored["annotations"] if one["image_id"] == image["id"]]
        image["objects"] = [
            (x, y, x + w, y + h, one["category_id"] - 1) for one in boxes for x, y, w, h in [one["bbox"]]
        ]
        instances = detected(image, rng, True, 2)
        evaluator.process([{"image_id": image["id"]}], [{"instances": instances[[]] if nothing else instances}])
    evaluator.evaluate()
    return store.save(make_record(spec, {"bbox/AP": None}, label=label))


def names_of(path):
    return sorted(one.name for one in (path.with_suffix("") / "pictures").iterdir())


ALL = [
    *("classes.png", "curves-boxes.png", "curves-masks.png", "errors-boxes.csv", "errors-boxes.png"),
    *("errors-masks.csv", "errors-masks.png", "images.png"),
]


def test_everything_is_drawn_of_a_run_with_matches(coco, capsys):
    path = judged_coco(coco, label="$x$ " + "y" * 500)
    main(["show", str(path), "--count", "2"])
    lines = capsys.readouterr().out.splitlines()
    assert names_of(path) == ALL and sum(line.endswith(".png") for line in lines) == 6
    assert lines[0].startswith("boxes, as many detections per class as it has objects (10): ") and len(lines) == 10
    for one in ALL:
        if one.endswith(".png"):
            with Image.open(path.with_suffix("") / "pictures" / one) as picture:
                assert picture.width >= 1000 and picture.convert("L").getextrema() != (255, 255)


def test_counts_follow_from_the_matches(coco):
    path = judged_coco(coco)
    main(["show", str(path)])
    tested = load_tested(path.with_suffix(""), coco, "coco")
    rows = (path.with_suffix("") / "pictures" / "errors-boxes.csv").read_text().splitlines()[1:]
    measured = tested.measures["bbox"]
    matches, checked = measured.matches, 0
    for number, row in enumerate(rows):
        values = [int(value) for value in row.rsplit(",", 10)[1:]]
        own = [one for one in np.argsort(-matches.score, kind="stable") if matches.category[one] == number]
        own = [one for one in own if matches.outcome[0, one, 0] != UNCOUNTED]
        best = own[: values[0]]
        right = [one for one in best if matches.outcome[0, one, 0] == TRUE]
        assert values[0] == sum(matches.object_category == number) and values[1] == len(right)
        assert values[2:7] == [sum(measured.kind[one] == kind for one in best) for kind in range(5)]
        ever = sum(matches.outcome[0, one, 0] == TRUE for one in own)
        assert values[7:] == [len(right), ever - len(right), values[0] - ever]
        assert values[1:7] == shares(measured, number)["best"].tolist()
        checked += len(right)
    assert checked > 2


def test_the_score_shown_has_the_highest_f1(coco):
    measured = load_tested(judged_coco(coco).with_suffix(""), coco, "coco").measures["bbox"]
    outcome, scores = measured.matches.outcome[0, :, 0], measured.matches.score

    def f1(score):
        shown = outcome[scores >= score]
        return 2 * (shown == TRUE).sum() / ((shown != UNCOUNTED).sum() + measured.matches.object_counts[:, 0].sum())

    assert f1(measured.score) == pytest.approx(max(f1(score) for score in scores)) and f1(measured.score) > 0.3


def test_curves_are_scikit_learns(coco, monkeypatch):
    path, figures = judged_coco(coco), []
    monkeypatch.setattr(detection_charts, "_save", lambda figure, titles, path: figures.append(figure))
    tested = load_tested(path.with_suffix(""), coco, "coco")
    measured = tested.measures["segm"]
    detection_charts.curves(measured, tested.classes, ["x"], path)
    axes = [axis for axis in figures[0].axes if axis.lines]
    ((_, order),) = detection_charts.chosen(measured.aps.mean(1))
    assert len(axes) == len(order) == 2
    for axis, number in zip(axes, order, strict=True):
        assert axis.get_title().splitlines()[1].startswith(f"AP {measured.aps[number].mean():.1f} / ")
        solid = next(line for line in axis.lines if line.get_linestyle() == "-" and len(line.get_xdata()) > 1)
        own = measured.ranked(number)
        right, objects = measured.matches.outcome[0, own, 0] == TRUE, len(measured.objects(number))
        precision, recall, _ = precision_recall_curve(right, measured.matches.score[own], drop_intermediate=False)
        assert np.allclose(solid.get_ydata(), precision[-2::-1]) and len(precision) > 5
        assert np.allclose(solid.get_xdata(), recall[-2::-1] * right.sum() / objects)


@pytest.mark.parametrize(("count", "groups"), [(1, [1]), (24, [24]), (25, [8, 8, 8]), (80, [8, 8, 8])])
def test_of_many_classes_the_best_the_middle_and_the_worst_are_drawn(count, groups):
    aps = np.random.default_rng(0).permutation(count).astype(float)
    found = detection_charts.chosen(np.append(aps, np.nan))
    assert [len(some) for _, some in found] == groups and count not in [one for _, some in found for one in some]
    values = [float(aps[one]) for _, some in found for one in some]
    assert values == sorted(values, reverse=True) and values[0] == count - 1 and values[-1] == 0
    if len(groups) == 3:
        assert abs(np.mean(values[8:16]) - (count - 1) / 2) <= 0.5


def test_a_run_without_any_detection_is_drawn(coco, capsys):
    path = judged_coco(coco, nothing=True)
    main(["show", str(path)])
    assert names_of(path) == ALL and "boxes, objects: 0 found by these, 0 by lower-scored" in capsys.readouterr().out


def test_one_class_has_its_own_sheet(coco, capsys):
    path = judged_coco(coco)
    main(["show", str(path), "--class", coco.section("coco")["classes"][0], "-o", str(path.parent / "here")])
    (line,) = capsys.readouterr().out.splitlines()
    assert [one.name for one in (path.parent / "here").iterdir()] == ["class-m-input-b.png"] and line.endswith("b.png")
    with pytest.raises(InputError, match=r"--class dog: the data have no such class; they have m"):
        main(["show", str(path), "--class", "dog"])
    with pytest.raises(InputError, match="is a file: name the folder"):
        main(["show", str(path), "-o", str(path)])


def test_voc_with_difficult_objects_and_a_class_without_any(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("RESULTS_DIR", str(tmp_path / "results"))
    classes = ("blue", "green", "red", "violet")
    lists = {("train", "VOC2007", "trainval"): colours(4, 1), ("test", "VOC2007", "test"): colours(12, 2, 0.3)}
    root = voc_root(tmp_path / "results" / "data" / "colours", lists, classes)
    for split, images in (("train", 4), ("test", 12)):
        root.section("voc")["counts"][split] = {"images": images}
    spec = make_spec(task="voc-fpn-24k", data_name="colours", data_fingerprint="f" * 64)
    store, rng = ResultsStore(), np.random.default_rng(0)
    evaluator = VOCEvaluator(register(root, "voc").test[0], store.working_folder(spec))
    evaluator.reset()
    for name, objects in lists["test", "VOC2007", "test"].items():
        boxes = [(4 + 20 * (place % 3), 4 + 22 * (place // 3), kind) for place, (kind, _) in enumerate(objects)]
        image = {
            "height": 48,
            "width": 64,
            "objects": [(x, y, x + 18, y + 18, classes.index(kind)) for x, y, kind in boxes],
        }
        evaluator.process([{"image_id": name}], [{"instances": detected(image, rng, False, 4)}])
    results = evaluator.evaluate()
    path = store.save(make_record(spec, {"bbox/AP": None, "bbox/AP50": None, "bbox/AP75": None}))
    main(["show", str(path)])
    assert names_of(path) == [one for one in ALL if "masks" not in one]
    measured = load_tested(path.with_suffix(""), root, "voc").measures["bbox"]
    assert np.nanmean(measured.aps) == pytest.approx(results["bbox"]["AP"]) and np.isnan(measured.aps[3]).all()
    assert (measured.finder >= 0).sum() == (measured.matches.outcome[0, :, 0] == TRUE).sum() > 3


@pytest.mark.parametrize("damage", ["matches", "detections", "objects"])
def test_matches_of_another_run_are_one_line(coco, damage):
    path = judged_coco(coco)
    file = path.with_suffix("") / "matches-bbox.npz"
    if damage == "detections":
        file = next((path.with_suffix("") / "detections").iterdir())
    arrays = dict(np.load(file))
    if damage == "objects":
        arrays["object_image"] = arrays["object_image"][::-1] * 0
    else:
        arrays["category"] = 1 - arrays["category"]
    np.savez(file, **arrays)
    with pytest.raises(
        InputError, match=r"matches-(bbox|segm)\.npz is (damaged or )?of (another run|other objects)"
    ) as error:
        main(["show", str(path)])
    assert "\n" not in str(error.value) and not picture_of(path).exists()
