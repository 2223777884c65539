"""Miniatures go through `prepare`, and have the layouts, classes and annotations of the real sets."""

import json

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from benchmarks.data.prepare import main
from benchmarks.data.root import DataRoot
from benchmarks.rehearsal import miniatures
from benchmarks.rehearsal.command import place_of
from benchmarks.rehearsal.miniatures import COCO_IDS, MINIATURES, run_lengths
from benchmarks.tasks import TASKS
from pretrain.common.errors import InputError


@pytest.fixture(scope="module")
def roots(tmp_path_factory):
    folder = tmp_path_factory.mktemp("miniatures")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DATA_DIR", str(folder / "data"))
        patch.setenv("RESULTS_DIR", str(folder / "results"))
        for name, one in MINIATURES.items():
            one.write(folder / "raw" / name)
            assert main(one.words(folder / "raw" / name)) == 0
        yield {name: DataRoot.load(folder / "data" / name) for name in MINIATURES}


def test_each_has_the_layouts_that_it_names(roots):
    assert all(set(one.layouts) == set(roots[name].sections) for name, one in MINIATURES.items())


def test_voc_has_both_years_and_every_class_in_every_list(roots):
    section = roots["voc"].section("voc")
    assert section["train"] == [["VOC2007", "trainval"], ["VOC2012", "trainval"]]
    assert section["test"] == [["VOC2007", "test"]] and len(section["classes"]) == 20
    assert section["validation"]["classes absent"] == {"train": [], "test": []}
    assert section["counts"]["test"]["difficult"] > 0


def test_coco_has_the_real_ids_and_crowds_as_rle(roots):
    section = roots["coco"].section("coco")
    assert len(COCO_IDS) == len(section["classes"]) == 80 and (COCO_IDS[0], COCO_IDS[-1], COCO_IDS[11]) == (1, 90, 13)
    assert section["masks"] == "polygon" and section["counts"]["train"]["crowds"] == 10
    file = roots["coco"].folder("coco") / "annotations" / "instances_val2017.json"
    content = json.loads(file.read_text(encoding="utf-8"))
    crowd = next(one for one in content["annotations"] if one["iscrowd"])
    rle = crowd["segmentation"]
    pixels = coco_mask.decode(coco_mask.frPyObjects(rle, *rle["size"]))
    assert pixels.sum() == crowd["area"]


def test_imagenet_has_a_thousand_folders(roots):
    section = roots["imagenet"].section("imagenet")
    assert len(section["classes"]) == 1000 and section["counts"] == {"train": 2000, "val": 1000}


@pytest.mark.parametrize("first", [0, 1])
def test_run_lengths_are_pycocotools(first):
    rng = np.random.default_rng(first)
    pixels = rng.random((7, 5)) < 0.5
    pixels[0, 0], pixels[-1, -1] = first, first
    rle = {"size": list(pixels.shape), "counts": run_lengths(pixels)}
    assert (coco_mask.decode(coco_mask.frPyObjects(rle, *pixels.shape)) == pixels).all()
    assert sum(run_lengths(pixels)) == pixels.size


def test_every_task_of_the_registry_has_a_miniature(roots):
    places = {name: place_of(task, list(roots.values())).name for name, task in TASKS.items()}
    assert places["linear"] == places["linear-sgd-grid"] == places["semi-1-swav"] == "imagenet"
    assert places["low-shot"] == places["semi-10-vicreg"] == places["many-shot"] == "folders"
    assert all(places[name] == task.layout for name, task in TASKS.items() if task.detects)


def test_a_layout_without_one_is_named(roots):
    with pytest.raises(InputError, match=r"no miniature has the layout coco: add one to benchmarks/rehearsal"):
        place_of(TASKS["coco-fpn-1x"], [roots["voc"]])
    with pytest.raises(InputError, match="two miniatures are named voc"):
        miniatures.add(miniatures.Miniature(name="voc", title="", layouts=(), prepare=(), write=print))
