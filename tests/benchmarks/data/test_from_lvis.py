"""LVIS v1 as it is published: linked as it is, read as detectron2 reads it, or refused in one line."""

import json
import sys
from types import ModuleType

import numpy as np
import pytest
from detectron2.data import MetadataCatalog
from detectron2.data.datasets.lvis import load_lvis_json
from detectron2.data.samplers import RepeatFactorTrainingSampler

from benchmarks.data.prepare import main
from benchmarks.data.registration import records_of, register
from benchmarks.data.root import DataRoot
from benchmarks.rehearsal.raw_sets import LVIS_CLASSES, lvis
from pretrain.common.errors import InputError
from pretrain.common.files import data_dir


@pytest.fixture(autouse=True)
def data(tmp_path, monkeypatch):
    monkeypatch.setenv("DATA_DIR", str(tmp_path / "data"))


@pytest.fixture
def source(tmp_path):
    return lvis(tmp_path / "datasets")


def prepare(source, *options, name="rare"):
    assert main(["lvis", str(source), "--name", name, *map(str, options)]) == 0
    return DataRoot.load(data_dir() / name)


def content(source, split="train"):
    return json.loads((source / "lvis" / f"lvis_v1_{split}.json").read_text())


def edit(source, change, split="train"):
    whole = content(source, split)
    change(whole)
    (source / "lvis" / f"lvis_v1_{split}.json").write_text(json.dumps(whole))


def test_files_are_linked_and_counted(source):
    root = prepare(source)
    section = root.section("lvis")
    assert section["classes"] == [name for name, _ in LVIS_CLASSES.values()] and section["masks"] == "polygon"
    assert section["counts"]["val"] == {"images": 4, "annotations": 12, "classes with an object": 4}
    assert all(path.is_symlink() for path in (root.path / "lvis").rglob("*.json"))
    root.check_unchanged()
    edit(source, lambda whole: whole["annotations"].pop())
    with pytest.raises(InputError, match="has changed since rare was prepared"):
        root.check_unchanged()


def test_records_are_detectron2s_own(source, monkeypatch):
    data = register(prepare(source), "lvis")
    assert (data.num_classes, data.mask_format, data.test_images) == (4, "polygon", 4)
    meta = MetadataCatalog.get(data.test[0])
    assert (meta.evaluator_type, tuple(meta.thing_classes)) == ("lvis", data.classes)

    class Package:
        """The two lists that detectron2 takes from the lvis package."""

        def __init__(self, file):
            whole = json.loads(open(file).read())  # noqa: PTH123, SIM115
            self.imgs = {one["id"]: one for one in whole["images"]}
            self.img_ann_map = {key: [a for a in whole["annotations"] if a["image_id"] == key] for key in self.imgs}
            self.load_imgs = lambda ids: [self.imgs[key] for key in ids]

    module = ModuleType("lvis")
    module.LVIS = Package
    monkeypatch.setitem(sys.modules, "lvis", module)
    number = {key: place for place, key in enumerate(LVIS_CLASSES)}
    for name, split in ((data.train, "train"), (data.test, "val")):
        theirs = load_lvis_json(str(source / "lvis" / f"lvis_v1_{split}.json"), f"{source}/coco/")
        ours = records_of(name)
        assert len(ours) == len(theirs) > 0
        for one, other in zip(ours, theirs, strict=True):
            assert one["file_name"].endswith(other["file_name"].removeprefix(f"{source}/coco"))
            assert all(one[key] == other[key] for key in ("image_id", "height", "width"))
            for mine, its in zip(one["annotations"], other["annotations"], strict=True):
                assert mine["category_id"] == number[its["category_id"] + 1]
                assert all(mine[key] == its[key] for key in ("bbox", "bbox_mode", "segmentation"))


def test_images_of_rare_classes_are_repeated(source):
    records = records_of(register(prepare(source), "lvis").train)
    factors = RepeatFactorTrainingSampler.repeat_factors_from_category_frequency(records, 0.5)
    shown = [{one["category_id"] for one in record["annotations"]} for record in records]
    rate = {kind: sum(kind in some for some in shown) / len(records) for some in shown for kind in some}
    wanted = [max(max(1.0, (0.5 / rate[kind]) ** 0.5) for kind in some) for some in shown]
    np.testing.assert_allclose(factors, wanted, rtol=1e-6)
    assert max(wanted) > 1


def test_images_are_found_in_each_usual_place_and_where_they_are_named(source, tmp_path):
    whole = prepare(source).section("lvis")
    assert prepare(source / "lvis", name="inside").section("lvis") == whole
    (source / "coco").rename(tmp_path / "elsewhere")
    with pytest.raises(InputError, match=r"no train2017 in .*: give the folder of COCO's images with --images"):
        prepare(source, name="named")
    assert prepare(source, "--images", tmp_path / "elsewhere", name="named").section("lvis") == whole


REFUSED = {
    "no frequency": (
        lambda w: w["categories"][2].pop("frequency"),
        r"frequency r, c or f .*: 4 \(its frequency is null",
    ),
    "COCO's file": (
        lambda w: [one.pop("neg_category_ids") for one in w["images"]],
        r"known .*: 9 \(its neg_category",
    ),
    "an unknown class": (
        lambda w: w["images"][0]["not_exhaustive_category_ids"].append(99),
        "than known categories",
    ),
    "test2017": (lambda w: w["images"][0].update(coco_url="http://x/test2017/1.jpg"), "neither train2017 nor val2017"),
    "an unknown image": (lambda w: w["annotations"][0].update(image_id=1), "of an unknown image"),
    "an unknown category": (lambda w: w["annotations"][0].update(category_id=2), "of an unknown category"),
    "no box": (lambda w: w["annotations"][5].pop("bbox"), r"without a box .*: 6 \(its bbox is null"),
    "a text in a box": (lambda w: w["annotations"][5]["bbox"].__setitem__(0, "1"), "without a box"),
    "an RLE": (lambda w: w["annotations"][0].update(segmentation={"size": [9, 9], "counts": "a"}), "without polygons"),
    "no area": (lambda w: w["annotations"][0].update(area=None), "without an area"),
    "an id twice": (lambda w: w["annotations"][1].update(id=1), "ids that occur twice"),
    "a list of ids": (lambda w: w["annotations"][1].update(id=[1]), "ids that occur twice or are no numbers"),
    "no annotation": (lambda w: w.update(annotations=[]), "no lists images, annotations, categories"),
    "a list": (lambda w: w.update(images=[1]), "no lists images, annotations, categories"),
    "another image": (lambda w: w["images"][0].update(coco_url="http://x/train2017/5.jpg"), "missing image"),
    "another size": (lambda w: w["images"][0].update(width=90), "another size than recorded"),
    "other categories": (lambda w: w["categories"][0].update(name="cup"), "different categories"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_other_files_are_refused_in_one_line_and_nothing_is_written(case, source, tmp_path):
    change, words = REFUSED[case]
    edit(source, change)
    with pytest.raises(InputError, match=words) as caught:
        prepare(source)
    assert "\n" not in str(caught.value) and not (tmp_path / "data" / "rare").exists()


@pytest.mark.parametrize("lost", ["train", "val"])
def test_a_missing_file_is_named(lost, source):
    (source / "lvis" / f"lvis_v1_{lost}.json").unlink()
    with pytest.raises(InputError, match=f"has no lvis_v1_{lost}.json: add it"):
        prepare(source)


def test_a_folder_without_lvis_and_a_broken_image_are_named(source, tmp_path):
    with pytest.raises(InputError, match=r"has no lvis_v1_train.json \(it has train2017/"):
        main(["lvis", str(source / "coco")])
    next((source / "coco" / "train2017").iterdir()).write_bytes(b"x")
    with pytest.raises(InputError, match="unreadable image"):
        prepare(source)
