"""Predictions beside the truth: python -m pytest tests/benchmarks/test_show.py"""

import json

import numpy as np
import pytest
import torch
from detectron2.structures import Boxes, Instances
from PIL import Image

from benchmarks import show
from benchmarks.__main__ import main
from benchmarks.datasets.sheet import Marked
from benchmarks.records import ResultsStore
from benchmarks.show import f1, overlap
from pretrain.errors import InputError
from tests.benchmarks.doubles import make_record, make_spec
from transfer.predictions import KeepPredictions


def box(*corners, name="cat"):
    return Marked(name=name, box=corners)


def test_overlap_against_counted_pixels():
    generator = np.random.default_rng(0)
    for _ in range(50):
        canvas = np.zeros((2, 30, 30), dtype=bool)
        boxes = []
        for layer in canvas:
            left, top = generator.integers(0, 20, 2)
            right, bottom = left + generator.integers(1, 10), top + generator.integers(1, 10)
            layer[top:bottom, left:right] = True
            boxes.append((left, top, right, bottom))
        assert overlap(*boxes) == pytest.approx((canvas[0] & canvas[1]).sum() / (canvas[0] | canvas[1]).sum())


@pytest.mark.parametrize(
    ("truth", "found", "expected"),
    [
        ([], [], 1.0),
        ([box(0, 0, 10, 10)], [], 0.0),
        ([], [box(0, 0, 10, 10)], 0.0),
        ([box(0, 0, 10, 10)], [box(0, 0, 10, 10)], 1.0),
        ([box(0, 0, 10, 10)], [box(0, 0, 10, 10, name="dog")], 0.0),
        ([box(0, 0, 10, 10)], [box(0, 0, 10, 10), box(1, 0, 10, 10)], 2 / 3),  # the second finds nothing left
        ([box(0, 0, 10, 10), box(20, 0, 30, 10)], [box(0, 0, 10, 10)], 2 / 3),
        ([box(0, 0, 10, 10)], [box(0, 0, 4, 10)], 0.0),  # IoU 0.4
    ],
)
def test_f1(truth, found, expected):
    assert f1(truth, found) == pytest.approx(expected)


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
    from pycocotools import mask

    assert (mask.decode(one["mask"]) == instances.pred_masks[0].numpy()).all()


def test_every_attempt_shows_its_own_predictions(tmp_path, monkeypatch):
    """Also an old one, when a newer attempt at the same spec has predicted something else."""
    monkeypatch.setenv("RESULTS_DIR", str(tmp_path))
    store, spec, drawn = ResultsStore(), make_spec(task="voc-det", protocol="voc_c4_24k"), []
    paths = []
    for name in ("old", "new"):
        store.working_folder(spec).mkdir(parents=True)
        predictions = [{"file_name": name, "image_id": name, "instances": []}]
        (store.working_folder(spec) / "predictions.json").write_text(json.dumps(predictions))
        paths.append(store.save(make_record(spec, {"bbox/AP": 1.0}, label=name)))
    (tmp_path / "data" / "toy").mkdir(parents=True)
    (tmp_path / "data" / "toy" / "data.json").write_text(
        json.dumps({"name": "toy", "synthetic": True, "description": "", "config": {}})
    )
    monkeypatch.setattr(show, "_truth", lambda root, kind: ({"old": {}, "new": {}}, []))
    monkeypatch.setattr(show, "_scene", lambda image, truth, classes: {"file": image["file_name"], "f1": 1.0})
    monkeypatch.setattr(
        show, "_draw", lambda record, scenes: drawn.append((record.label, scenes)) or Image.new("L", (1, 1))
    )
    for path in paths:
        main(["show", str(path)])
    assert [(label, [scene["file"] for scene in scenes]) for label, scenes in drawn] == [
        ("old", ["old"]),
        ("new", ["new"]),
    ]


def test_a_record_without_predictions_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setenv("RESULTS_DIR", str(tmp_path))
    path = ResultsStore().save(make_record(make_spec(), {"top1": 1.0}))
    with pytest.raises(InputError, match=r"no predictions\.json"):
        main(["show", str(path)])
    with pytest.raises(InputError, match="is not a file"):
        main(["show", str(tmp_path / "x.json")])
