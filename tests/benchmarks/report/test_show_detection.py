"""Predictions beside the truth."""

import json

import numpy as np
import pytest
import torch
from detectron2.structures import Boxes, Instances
from PIL import Image
from pycocotools import mask as rle

from benchmarks.__main__ import main
from benchmarks.data.pictures import Marked
from benchmarks.data.prepare import main as prepare
from benchmarks.data.root import DataRoot
from benchmarks.records import ResultsStore
from benchmarks.report import show, show_detection
from benchmarks.report.show_detection import tally
from pretrain.common.errors import InputError
from tests.benchmarks.doubles import make_record, make_spec
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
    counted = tally(truth, found)
    assert counted == counts and counted.f1 == pytest.approx(f1)


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
    for module in (show, show_detection):
        monkeypatch.setattr(module, "heading", lambda text, size: texts.append(text) or heading(text, size))
    return texts


def found(image, score=0.9, **changes):
    mask = np.zeros((30, 40), dtype=np.uint8, order="F")
    mask[6:16, 5:15] = 1
    code = rle.encode(mask)
    one = {"class": image["id"] % 2, "score": score, "box": [5.0, 6.0, 15.0, 16.0]}
    return one | {"mask": {"size": code["size"], "counts": code["counts"].decode()}} | changes


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
    assert capsys.readouterr() == (f"{path.with_suffix('.png')}\n", "")
    assert drawn[1].endswith("box AP undefined")
    assert drawn[-2:] == ["The 2 best of 10 test images", "The 2 worst, the worst last"]
    with Image.open(path.with_suffix(".png")) as picture:
        assert picture.width == show_detection.WIDTH and picture.height > 800


@pytest.mark.parametrize("highest", [0.0, 0.06, 0.49])
def test_nothing_that_reaches_the_threshold_is_said(coco, drawn, capsys, highest):
    path = record_of(coco, lambda image: [found(image, score=highest)] if highest else [])
    main(["show", str(path)])
    said = f"o prediction reaches the score 0.5: the highest is {highest:.2f}"
    assert capsys.readouterr().err == f"warning: n{said}\n" and drawn[-1] == f"N{said}"


def test_few_images_are_shown_once(coco, drawn):
    main(["show", str(record_of(coco, lambda image: [found(image)])), "--count", "5"])
    assert drawn[-1] == "All test images, the best first"


def test_every_attempt_shows_its_own_predictions(coco, monkeypatch):
    """Also an old one, when a newer attempt at the same spec has predicted something else."""
    drawn, paths = [], []
    monkeypatch.setattr(show_detection, "draw", lambda record, scenes, *_: drawn.append((record.label, scenes)) or [])
    for score, label in ((0.8, "old"), (0.6, "new")):
        paths.append(record_of(coco, lambda image, score=score: [found(image, score=score)], label=label))
    for path in paths:
        main(["show", str(path)])
    assert [(label, {one.highest for one in scenes}) for label, scenes in drawn] == [("old", {0.8}), ("new", {0.6})]
    assert all(one.tally == (1, 0, 0) for _, scenes in drawn for one in scenes)


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
    assert "\n" not in str(error.value) and not path.with_suffix(".png").exists()


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
    assert drawn[-2] == "The 1 best of the first 10 of 4,952 images"
