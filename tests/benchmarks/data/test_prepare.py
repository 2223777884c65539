"""The user's data: standard views of tiny made sets, and every wrong input as one line with nothing written."""

import itertools
import json
import shlex
import time
import xml.etree.ElementTree as ET

import numpy as np
import pytest
import torch
import torchvision
from detectron2.config import get_cfg
from detectron2.data import DatasetCatalog, DatasetMapper
from PIL import Image
from pycocotools import mask as rle

from benchmarks.data import sheet
from benchmarks.data.prepare import main
from benchmarks.data.registration import register
from benchmarks.data.root import DataRoot
from benchmarks.tasks.compute.features import features
from pretrain.common.errors import InputError
from pretrain.data import list_images
from transfer.checkpoints.backbone import backbone_of
from transfer.checkpoints.reading.read import load_checkpoint


@pytest.fixture(autouse=True)
def data(tmp_path, monkeypatch):
    monkeypatch.setenv("DATA_DIR", str(tmp_path / "data"))
    return tmp_path / "data"


@pytest.fixture
def prepare(capsys):
    def call(*arguments):
        assert main([str(one) for one in arguments]) == 0
        return DataRoot.load(capsys.readouterr().out.strip())

    return call


def picture(path, size=(40, 30)):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(len(path.name)).integers(0, 255, (size[1], size[0], 3), np.uint8)
    Image.fromarray(pixels).save(path)


def xml(path, *objects, filename="a.jpg", size="<size><width>40</width><height>30</height></size>", flags=""):
    """Objects are (name, xmin, ymin, xmax, ymax); no pose or truncated, and difficult only as ``flags`` has it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    nodes = "".join(
        f"<object><name>{name}</name>{flags}<bndbox><xmin>{a}</xmin><ymin>{b}</ymin><xmax>{c}</xmax><ymax>{d}</ymax></bndbox></object>"
        for name, a, b, c, d in objects
    )
    path.write_text(f"<annotation><filename>{filename}</filename>{size}{nodes}</annotation>")


@pytest.fixture
def voc(tmp_path):
    """Ten images in lower-case folders, no ImageSets."""
    source = tmp_path / "pets"
    for number in range(10):
        picture(source / "images" / f"im {number}.JPG", (40, 30))
        xml(source / "annotations" / f"im {number}.xml", ("pet", 5, 6, 20, 25), (f"kind{number % 2}", 1, 1, 40, 30))
    return source


@pytest.fixture
def coco(tmp_path):
    """Ten images and one JSON file; categories 7 and 3."""
    source = tmp_path / "things"
    entries = []
    for number in range(1, 11):
        picture(source / "images" / f"{number}.png", (40, 30))
        box = {"bbox": [4, 5, 10, 10], "area": 100, "iscrowd": 0, "segmentation": [[4, 5, 14, 5, 14, 15, 4, 15]]}
        entries.append({"id": number, "image_id": number, "category_id": 7 if number % 2 else 3, **box})
    images = [{"id": n, "file_name": f"{n}.png", "width": 40, "height": 30} for n in range(1, 11)]
    categories = [{"id": 7, "name": "cup"}, {"id": 3, "name": "fork"}]
    store(source, {"images": images, "annotations": entries, "categories": categories})
    return source


def store(source, content):
    (source / "all.json").write_text(json.dumps(content))


def stored(source):
    return json.loads((source / "all.json").read_text())


@pytest.fixture
def folders(tmp_path):
    source = tmp_path / "classes"
    for name in ("ant", "bee"):
        for number in range(10):
            picture(source / name / f"{number}.png")
    return source


def ids(root, name):
    return (root.path / "VOCdevkit" / "VOC2007" / "ImageSets" / "Main" / f"{name}.txt").read_text().split()


def test_voc_without_image_sets(voc, prepare):
    root = prepare("voc", voc)
    assert root.name == "voc-pets" and not root.synthetic
    section = root.section("voc")
    assert section["classes"] == ["kind0", "kind1", "pet"]
    assert (section["train"], section["test"]) == ([["VOC2007", "trainval"]], [["VOC2007", "test"]])
    train, test = ids(root, "trainval"), ids(root, "test")
    assert (len(train), len(test)) == (8, 2) and not set(train) & set(test)
    assert set(train + test) == {f"im_{number}" for number in range(10)}
    for image_set in ("trainval", "test"):
        for image, target in torchvision.datasets.VOCDetection(root.path, year="2007", image_set=image_set):
            assert image.size == (40, 30)
            one = target["annotation"]["object"][0]
            assert (one["pose"], one["difficult"], one["truncated"]) == ("Unspecified", "0", "0")
    assert all(path.is_symlink() for path in (root.path / "VOCdevkit/VOC2007/JPEGImages").iterdir())


def test_the_split_is_stable_and_follows_the_seed(voc, prepare):
    first = ids(prepare("voc", voc, "--name", "a"), "test")
    assert first == ids(prepare("voc", voc, "--name", "b"), "test")
    assert any(first != ids(prepare("voc", voc, "--name", f"s{seed}", "--seed", seed), "test") for seed in (1, 2, 3))
    assert len(ids(prepare("voc", voc, "--name", "c", "--val-fraction", 0.4), "test")) == 4


def test_preparing_again_returns_the_root_unless_the_source_changed(voc, prepare, tmp_path):
    root = prepare("voc", voc)
    written = (root.path / "data.json").stat().st_mtime_ns
    assert (prepare("voc", voc).path / "data.json").stat().st_mtime_ns == written
    xml(voc / "annotations" / "im 3.xml", ("other", 5, 6, 20, 25))
    assert "other" in prepare("voc", voc).section("voc")["classes"]
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["voc-pets"]


def test_a_root_of_an_earlier_version_of_prepare_is_laid_out_again(voc, prepare):
    root = prepare("voc", voc)
    about = json.loads((root.path / "data.json").read_text())
    del about["config"]["version"]
    (root.path / "data.json").write_text(json.dumps(about))
    assert prepare("voc", voc).section("voc") == root.section("voc")
    assert "version" in json.loads((root.path / "data.json").read_text())["config"]


def test_voc_boxes_are_clipped_dropped_and_rounded_and_counted(voc, prepare):
    wrong = (("pet", 0, 0, 50, 30), ("pet", 9, 9, 9, 20), ("pet", 60, 5, 70, 9), ("pet", 2.4, 3.6, 10.5, 12.2))
    for number in range(10):
        xml(voc / "annotations" / f"im {number}.xml", *wrong, size="")
    root = prepare("voc", voc)
    boxes = [
        [one.findtext(f"bndbox/{key}") for key in ("xmin", "ymin", "xmax", "ymax")]
        for one in ET.parse(root.path / "VOCdevkit/VOC2007/Annotations/im_4.xml").iter("object")
    ]
    assert boxes == [["1", "1", "40", "30"], ["2", "4", "10", "12"]]
    validation = root.section("voc")["validation"]
    assert (validation["boxes outside clipped"], validation["degenerate boxes dropped"]) == (10, 20)
    assert validation["sizes corrected"] == 10


def test_voc_2007_and_2012_and_absent_classes(tmp_path, prepare):
    devkit = tmp_path / "VOCdevkit"
    for year, sets in (("VOC2007", {"trainval": (1, 2), "test": (3, 4)}), ("VOC2012", {"trainval": (5, 6, 7)})):
        for name, numbers in sets.items():
            for number in numbers:
                picture(devkit / year / "JPEGImages" / f"{number}.jpg")
                xml(devkit / year / "Annotations" / f"{number}.xml", ("cat" if name == "test" else "dog", 2, 2, 9, 9))
            lists = devkit / year / "ImageSets" / "Main"
            lists.mkdir(parents=True, exist_ok=True)
            (lists / f"{name}.txt").write_text("".join(f"{number}\n" for number in numbers))
    section = prepare("voc", tmp_path, "--name", "both").section("voc")
    assert section["train"] == [["VOC2007", "trainval"], ["VOC2012", "trainval"]]
    assert section["test"] == [["VOC2007", "test"]]
    assert {split: count["images"] for split, count in section["counts"].items()} == {"train": 5, "test": 2}
    assert section["validation"]["classes absent"] == {"train": ["cat"], "test": ["dog"]}


@pytest.mark.parametrize("seed", range(5))
def test_the_voc_split_has_every_class_on_two_images_in_both_halves(seed, voc, prepare):
    """ "hard" is on three images, on one of them as an object that is not difficult; "flat" has no whole box."""
    for number, name in ((1, "rare"), (6, "rare"), (2, "hard")):
        xml(voc / "annotations" / f"im {number}.xml", ("pet", 5, 6, 20, 25), (name, 1, 1, 40, 30))
    for number in (3, 4):
        xml(voc / "annotations" / f"im {number}.xml", ("hard", 1, 1, 40, 30), flags="<difficult>1</difficult>")
        xml(voc / "annotations" / f"im {number + 4}.xml", ("pet", 5, 6, 20, 25), ("flat", 9, 9, 9, 20))
    xml(voc / "annotations" / "im 5.xml", ("pet", 5, 6, 20, 25), ("flat", 1, 1, 40, 30))
    root = prepare("voc", voc, "--seed", seed)
    assert {"im_1", "im_6"} & set(ids(root, "test")) and {"im_1", "im_6"} & set(ids(root, "trainval"))
    assert (len(ids(root, "trainval")), len(ids(root, "test"))) == (8, 2)
    absent = root.section("voc")["validation"]["classes absent"]
    assert absent == {"train": [], "test": ["flat", "hard", "kind0", "kind1"]}  # each on one image


def test_coco_from_one_file(coco, prepare):
    root = prepare("coco", coco)
    section = root.section("coco")
    assert section["classes"] == ["fork", "cup"] and section["masks"] == "polygon"
    seen = []
    for part, count in (("train", 8), ("val", 2)):
        images = root.path / "coco" / f"{part}2017"
        data = torchvision.datasets.CocoDetection(
            images, root.path / "coco" / "annotations" / f"instances_{part}2017.json"
        )
        assert len(data) == count == section["counts"][part]["images"]
        assert all(image.size == (40, 30) and len(target) == 1 for image, target in data)
        seen += data.ids
    assert sorted(seen) == list(range(1, 11))


def test_coco_corrections_masks_and_named_files(coco, prepare):
    content = stored(coco)
    for one in content["annotations"]:  # of the boxes [4, 5, 10, 10]
        one["segmentation"] = {"size": [30, 40], "counts": [125, 10, *(20, 10) * 9, 795]}
        del one["area"], one["iscrowd"]
    content["annotations"][0]["bbox"] = [30, 20, 20, 20]
    content["annotations"].append({"id": 99, "image_id": 2, "category_id": 3, "bbox": [5, 5, 0, 9]})
    (coco / "other").mkdir()
    (coco / "all.json").rename(coco / "other" / "labels.json")
    (coco / "other" / "labels.json").write_text(json.dumps(content))
    named = ("--annotations", coco / "other" / "labels.json", "--images", coco / "images")
    root = prepare("coco", coco, *named)
    section = root.section("coco")
    assert section["masks"] == "rle"
    parts = [json.loads(path.read_text()) for path in (root.path / "coco" / "annotations").iterdir()]
    entries = {one["id"]: one for part in parts for one in part["annotations"]}
    assert len(entries) == 10 and entries[1]["bbox"] == [30, 20, 10, 10]
    assert entries[1]["area"] == 100 and entries[1]["iscrowd"] == 0
    totals = {key: sum(section["validation"][part].get(key, 0) for part in ("train", "val"))
              for key in ("boxes outside clipped", "degenerate boxes dropped")}  # fmt: skip
    assert totals == {"boxes outside clipped": 1, "degenerate boxes dropped": 1}


@pytest.mark.parametrize("seed", range(5))
def test_the_coco_split_has_every_category_on_two_images_in_both_halves(seed, coco, prepare):
    """Images 1 and 2 have a spoon; 3 has a ladle, 4 one in a crowd and 5 one outside the image: it cannot be tested."""
    content = stored(coco)
    content["categories"] += [{"id": 20, "name": "spoon"}, {"id": 21, "name": "ladle"}]
    inside = [4, 5, 10, 10]
    for number, category, crowd, box in (
        (1, 20, 0, inside), (2, 20, 0, inside), (3, 21, 0, inside), (4, 21, 1, inside), (5, 21, 0, [80, 80, 9, 9])
    ):  # fmt: skip
        about = {"id": 100 + number, "image_id": number, "category_id": category, "iscrowd": crowd, "bbox": box}
        content["annotations"].append(about)
    store(coco, content)
    section = prepare("coco", coco, "--seed", seed).section("coco")
    absent = {part: section["validation"][part]["classes absent"] for part in ("train", "val")}
    assert absent == {"train": [], "val": ["ladle"]}
    assert {part: section["counts"][part]["images"] for part in absent} == {"train": 8, "val": 2}


def test_coco_without_masks(coco, prepare):
    content = stored(coco)
    for one in content["annotations"]:
        del one["segmentation"]
    store(coco, content)
    assert prepare("coco", coco).section("coco")["masks"] == "none"


def test_folders_with_and_without_a_split(folders, tmp_path, prepare):
    root = prepare("imagenet", folders)
    assert root.section("imagenet")["counts"] == {"train": 16, "val": 4}
    data = {split: torchvision.datasets.ImageFolder(root.path / "imagenet" / split) for split in ("train", "val")}
    assert data["train"].classes == data["val"].classes == ["ant", "bee"]
    assert [data["val"].targets.count(label) for label in (0, 1)] == [2, 2]
    names = [
        {path.rsplit("/", 2)[-2:][0] + path.rsplit("/", 1)[-1] for path, _ in one.samples} for one in data.values()
    ]
    assert not names[0] & names[1] and len(names[0] | names[1]) == 20
    given = tmp_path / "given"
    given.mkdir()
    (given / "train").symlink_to(folders)
    (given / "validation").symlink_to(folders)
    (given / "train" / ".hidden").mkdir()
    root = prepare("imagenet", given)
    assert root.section("imagenet")["counts"] == {"train": 20, "val": 20}
    assert [path.name for path in sorted((root.path / "imagenet" / "train").iterdir())] == ["ant", "bee"]


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def edit(change):
    def break_it(source):
        content = stored(source)
        change(content)
        store(source, content)

    return break_it


def latin_lists(source):
    lists = source / "ImageSets" / "Main"
    lists.mkdir(parents=True)
    for name in ("trainval", "test"):
        (lists / f"{name}.txt").write_bytes("im 1\nim 2\nö\n".encode("latin-1"))


WRONG = {
    "voc: image breaks off": ("voc", lambda s: cut(s / "images" / "im 3.JPG"), "unreadable image.*im 3.JPG"),
    "voc: image missing": ("voc", lambda s: (s / "images" / "im 3.JPG").unlink(), "missing image.*im 3"),
    "voc: malformed XML": ("voc", lambda s: (s / "annotations" / "im 3.xml").write_text("<a>"), "im 3.xml.*readable"),
    "voc: no box": ("voc", lambda s: (s / "annotations" / "im 3.xml").write_text(
        "<annotation><object><name>a</name></object></annotation>"), "im 3.xml.*object a without a bndbox"),
    "voc: infinite width": ("voc", lambda s: xml(s / "annotations" / "im 3.xml", ("pet", 5, 6, 20, 25),
        size="<size><width>inf</width><height>30</height></size>"), "im 3.xml.*readable"),
    "voc: other scale": ("voc", lambda s: xml(s / "annotations" / "im 3.xml", ("pet", 5, 6, 20, 25),
        size="<size><width>80</width><height>60</height></size>"), "size is not its.*im 3.JPG .80 × 60 "),
    "voc: list not in UTF-8": ("voc", lambda s: latin_lists(s), "trainval.txt is not a readable list"),
    "voc: no XML": ("voc", lambda s: (s / "annotations").rename(s.parent / "labels"), "no XML.*images/ .10 .JPG"),
    "voc: one image": ("voc", lambda s: [p.unlink() for p in list((s / "annotations").iterdir())[1:]], "at least 2"),
    "coco: duplicate image": ("coco", edit(lambda c: c["images"][0].update(id=5)), "duplicate image id"),
    "coco: unknown category": ("coco", edit(lambda c: [o.update(category_id=9) for o in c["annotations"]]), "category"),
    "coco: unknown image": ("coco", edit(lambda c: c["annotations"][0].update(image_id=77)), "unknown image"),
    "coco: no box": ("coco", edit(lambda c: [c["annotations"][0].pop(key) for key in ("bbox", "segmentation")]),
        "without a box.*: 1 .its bbox is null"),
    "coco: short box": ("coco", edit(lambda c: c["annotations"][0].update(bbox=[1, 2])), "without a box"),
    "coco: null category id": ("coco", edit(lambda c: c["categories"][0].update(id=None)), "entry 0 of categ.*null"),
    "coco: word category id": ("coco", edit(lambda c: c["categories"][1].update(id="b")), 'entry 1 of categ.*"b"'),
    "coco: list image id": ("coco", edit(lambda c: c["images"][2].update(id=[1])), "entry 2 of images .*is .1.,"),
    "coco: number file name": ("coco", edit(lambda c: c["images"][0].update(file_name=5)), "file_name.*5, not text"),
    "coco: word crowd": ("coco", edit(lambda c: c["annotations"][0].update(iscrowd="no")), 'iscrowd of ann.* 1.*"no"'),
    "coco: other scale": ("coco", edit(lambda c: c["images"][1].update(width=400)), "size is not its.*2.png .400"),
    "coco: masks of another size": ("coco", edit(lambda c: [o.update(
        segmentation={"size": [10, 10], "counts": [50, 10, 40]}) for o in c["annotations"]]), "no annotation has"),
    "coco: odd entry": ("coco", edit(lambda c: c["annotations"].append(3)), "not a COCO instances file"),
    "coco: no images": ("coco", edit(lambda c: c.pop("images")), "not a COCO instances file"),
    "coco: malformed": ("coco", lambda s: (s / "all.json").write_text("{"), "not a COCO instances file"),
    "coco: image missing": ("coco", lambda s: (s / "images" / "3.png").unlink(), "missing image"),
    "coco: image broken": ("coco", lambda s: cut(s / "images" / "3.png"), "unreadable image"),
    "imagenet: empty class": ("folders", lambda s: (s / "cow").mkdir(), "without an image.*cow"),
    "imagenet: broken": ("folders", lambda s: (s / "ant" / "3.png").write_bytes(b"no"), "unreadable image.*3.png"),
    "imagenet: one image": ("folders", lambda s: [p.unlink() for p in sorted((s / "ant").iterdir())[1:]], "image: ant"),
    "imagenet: one class": ("folders", lambda s: (s / "ant").rename(s.parent / "ant"), "two class folders; it has bee"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_wrong_data_is_one_line_and_nothing_is_written(case, data, request):
    fixture, break_it, message = WRONG[case]
    source = request.getfixturevalue(fixture)
    break_it(source)
    with pytest.raises(InputError, match=message) as caught:
        main([case.split(":")[0], str(source)])
    assert "\n" not in str(caught.value)
    assert not data.exists() or not list(data.iterdir())


def test_class_in_one_split_only_and_a_taken_name(folders, tmp_path, prepare, data):
    given = tmp_path / "given"
    for split, names in (("train", ("a", "b", "c")), ("val", ("a", "b"))):
        for name in names:
            picture(given / split / name / "1.png")
    with pytest.raises(InputError, match="class of train absent in val: c"):
        main(["imagenet", str(given)])
    prepare("imagenet", folders, "--name", "mine")
    (given / "train" / "c" / "1.png").unlink()
    (given / "train" / "c").rmdir()
    with pytest.raises(InputError, match="other data"):
        main(["imagenet", str(given), "--name", "mine"])
    with pytest.raises(InputError, match="not a folder"):
        main(["imagenet", str(tmp_path / "nowhere")])


def test_a_failed_check_keeps_the_view_that_is_there(voc, prepare):
    root = prepare("voc", voc)
    cut(voc / "images" / "im 3.JPG")
    with pytest.raises(InputError, match="unreadable"):
        main(["voc", str(voc)])
    assert DataRoot.load(root.path).section("voc") == root.section("voc")


@pytest.mark.parametrize("kind", ["voc", "coco", "folders"])
def test_sheet_of_each_kind(kind, prepare, request, tmp_path, capsys):
    root = prepare(kind.replace("folders", "imagenet"), request.getfixturevalue(kind))
    output = tmp_path / "sheet.png"
    assert sheet.main([str(root.path), "-o", str(output)]) == 0
    assert capsys.readouterr().out == f"{output}\n"
    with Image.open(output) as image:
        assert image.width == sheet.WIDTH and len(np.unique(np.asarray(image))) > 50


def changed(source, path):
    """Each change of the user's data that the root's links would show."""
    return {
        "added": lambda: picture(path.with_name("new.png")),
        "removed": path.unlink,
        "edited": lambda: picture(path, (44, 33)),
        "moved": lambda: source.rename(source.with_name("elsewhere")),
    }


@pytest.mark.parametrize("change", ["added", "removed", "edited", "moved"])
@pytest.mark.parametrize("kind", ["voc", "coco", "folders"])
def test_a_root_says_when_its_source_has_changed(kind, change, prepare, request):
    source = request.getfixturevalue(kind)
    root = prepare(kind.replace("folders", "imagenet"), source, "--seed", 3)
    root.check_unchanged()
    (source / ".DS_Store").write_bytes(b"no data")
    root.check_unchanged()
    changed(source, sorted(source.rglob("*.[Jp][Pn]*"))[0])[change]()
    with pytest.raises(InputError, match=f"has changed.*prepare .* --name {root.name} .*--seed 3` again") as caught:
        root.check_unchanged()
    assert "\n" not in str(caught.value)
    if change == "added":
        command = str(caught.value).split("`")[1]
        prepare(*shlex.split(command)[4:]).check_unchanged()


def test_named_files_count_into_the_state_and_the_check_is_fast(coco, tmp_path, prepare):
    labels = tmp_path / "labels.json"
    (coco / "all.json").rename(labels)
    root = prepare("coco", coco, "--annotations", labels, "--images", coco / "images")
    labels.write_text(labels.read_text() + " ")
    with pytest.raises(InputError, match=f"--annotations {labels}"):
        root.check_unchanged()
    root = prepare("coco", coco, "--annotations", labels, "--images", coco / "images")
    for number in range(12_000):
        (coco / f"{number}.txt").touch()
    start = time.process_time()
    with pytest.raises(InputError, match="has changed"):
        root.check_unchanged()
    assert time.process_time() - start < 1


def test_unusable_masks_are_dropped_and_counted_and_blanks_filled(coco, prepare):
    content = stored(coco)
    short, mixed, odd, small, broken, whole, cut_off, blank = content["annotations"][:8]
    triangle, half = [1, 2, 9, 2, 9, 9], np.zeros((30, 40), np.uint8, order="F")
    half[:15] = 1
    short["segmentation"] = [[1, 2]]
    mixed["segmentation"] = [[1, 2], triangle, [*triangle, 1], [1, 2, 3, 4, 5, None]]
    odd["segmentation"] = triangle
    small["segmentation"] = {"size": [10, 10], "counts": [50, 10, 40]}
    broken["segmentation"] = {"size": [30, 40], "counts": [100, 50]}
    whole["segmentation"] = {"size": [30, 40], "counts": rle.encode(half)["counts"].decode()}
    cut_off["segmentation"] = {"size": [30, 40], "counts": "no RLE"}
    blank.update(iscrowd=None, area=None)
    store(coco, content)
    root = prepare("coco", coco)
    parts = [json.loads(path.read_text()) for path in (root.path / "coco" / "annotations").iterdir()]
    entries = {one["id"]: one for part in parts for one in part["annotations"]}
    assert set(entries) == {2, 3, 6, 8, 9, 10} and entries[3]["segmentation"] == [triangle]
    assert entries[2]["segmentation"] == [triangle] and entries[6]["segmentation"] == whole["segmentation"]
    assert (entries[8]["iscrowd"], entries[8]["area"]) == (0, 100)
    validation = root.section("coco")["validation"]
    assert sum(validation[part].get("unusable masks dropped", 0) for part in ("train", "val")) == 4
    found = register(root, "coco")
    usable = [one for name in (*found.train, *found.test) for image in load(name) for one in image["annotations"]]
    assert len(usable) == 6


def load(name):
    """What a training run sees: annotations through detectron2's mapper, the masks read."""
    cfg = get_cfg()
    cfg.INPUT.MASK_FORMAT = "bitmask"
    mapper = DatasetMapper(cfg, is_train=True, augmentations=[])
    records = DatasetCatalog.get(name)
    assert [len(mapper(one)["instances"]) for one in records] == [len(one["annotations"]) for one in records]
    return records


@pytest.mark.parametrize("size", [(30, 40), (41, 30), (0, 0)])
def test_a_turned_a_rounded_and_an_absent_size_are_corrected(size, coco, voc, prepare):
    stated = f"<size><width>{size[0]}</width><height>{size[1]}</height></size>"
    xml(voc / "annotations" / "im 3.xml", ("pet", 5, 6, 20, 25), size=stated)
    content = stored(coco)
    content["images"][0].update(width=size[0], height=size[1])
    store(coco, content)
    assert prepare("voc", voc).section("voc")["validation"]["sizes corrected"] == 1
    validation = prepare("coco", coco).section("coco")["validation"]
    assert sum(validation[part]["sizes corrected"] for part in ("train", "val")) == 1


@pytest.mark.parametrize(("fraction", "counts"), [(0.9, (1, 2)), (0.01, (2, 1))])
def test_no_class_is_left_without_an_image_in_a_split(fraction, counts, folders, prepare):
    for path in folders.glob("*/[3-9].png"):
        path.unlink()
    section = prepare("imagenet", folders, "--val-fraction", fraction).section("imagenet")
    assert (section["counts"]["train"], section["counts"]["val"]) == tuple(2 * count for count in counts)


OTHER = (".gif", ".jfif", ".jpe", ".webp", ".PNM", ".avif")


@pytest.mark.parametrize("suffix", OTHER)
def test_voc_and_coco_images_of_every_suffix(suffix, voc, coco, prepare):
    for path in (voc / "images").iterdir():
        picture(path.with_suffix(suffix))
        path.unlink()
    content = stored(coco)
    for image in content["images"]:
        path = coco / "images" / image["file_name"]
        image["file_name"] = f"{path.stem}{suffix}"
        picture(path.with_suffix(suffix))
        path.unlink()
    store(coco, content)
    for root, kind in ((prepare("voc", voc), "voc"), (prepare("coco", coco), "coco")):
        found = register(root, kind)
        assert sum(len(load(name)) for name in (*found.train, *found.test)) == 10


def test_features_of_every_image_that_was_prepared_or_pretrained_on(tmp_path, prepare, monkeypatch):
    """The same pixels under other suffixes have the same features; a folder of some of them is no smaller set."""
    monkeypatch.setenv("RESULTS_DIR", str(tmp_path / "results"))
    torch.manual_seed(0)
    torch.save(torchvision.models.resnet18().state_dict(), tmp_path / "a.pth")
    backbone = backbone_of(load_checkpoint(tmp_path / "a.pth"))
    rows = {}
    for name, suffixes in (("plain", (".png",)), ("mixed", (".gif", ".bmp", ".pnm", ".tif"))):
        for split, label, number in itertools.product(("train", "val"), ("ant", "bee"), range(4)):
            path = tmp_path / name / split / label / f"{number}{suffixes[number % len(suffixes)]}"
            path.parent.mkdir(parents=True, exist_ok=True)
            grey = np.random.default_rng([number, len(split), label == "bee"]).integers(0, 255, (30, 40), np.uint8)
            Image.fromarray(grey).save(path)
        root = prepare("imagenet", tmp_path / name)
        assert root.section("imagenet")["counts"] == {"train": 8, "val": 8}
        assert len(list_images(tmp_path / name / "train")) == len(list_images(root.path / "imagenet" / "train")) == 8
        rows[name] = features(backbone, root, "smoke")
    for split in ("train", "val"):
        assert rows["plain"][split].y.tolist() == rows["mixed"][split].y.tolist() == [0] * 4 + [1] * 4
        np.testing.assert_allclose(rows["plain"][split].x, rows["mixed"][split].x, rtol=1e-5)


def test_many_small_classes_are_split_as_a_whole(tmp_path, prepare):
    """Four images of each of twenty classes at 0.3: 24 in val, one or two of each class, not one of each."""
    for name in range(20):
        for number in range(4):
            picture(tmp_path / "small" / f"class {name}" / f"{number}.png")
    root = prepare("imagenet", tmp_path / "small", "--val-fraction", 0.3)
    assert root.section("imagenet")["counts"] == {"train": 56, "val": 24}
    assert {len(list(path.iterdir())) for path in (root.path / "imagenet" / "val").iterdir()} == {1, 2}


@pytest.mark.parametrize("given", [True, False])
def test_folders_show_the_images_that_were_checked_and_no_other(given, folders, tmp_path, prepare):
    """Also files whose names would be one if subfolders became part of the name."""
    source = folders
    if given:
        source = tmp_path / "given"
        source.mkdir()
        for split in ("train", "val"):
            (source / split).symlink_to(folders)
    picture(folders / "ant" / "x" / "1.png")
    picture(folders / "ant" / "x__1.png")
    for folder in (folders / "ant", folders / "ant" / "x", folders / "ant" / ".checkpoints"):
        folder.mkdir(exist_ok=True)
        for name in ("._1.png", ".DS_Store"):
            (folder / name).write_bytes(b"no image")
    root = prepare("imagenet", source)
    picture(folders / "ant" / "later.png")
    seen = [torchvision.datasets.ImageFolder(root.path / "imagenet" / split) for split in ("train", "val")]
    assert [len(one) for one in seen] == list(root.section("imagenet")["counts"].values())
    assert sum(map(len, seen)) == 22 * (1 + given)
    assert all(image.size == (40, 30) for one in seen for image, _ in one)


def test_sheet_passes_over_files_that_are_no_images(folders, prepare, tmp_path):
    root = prepare("imagenet", folders)
    (root.path / "imagenet" / "train" / "ant" / ".DS_Store").write_bytes(b"no image")
    assert sheet.main([str(root.path), "-o", str(tmp_path / "sheet.png")]) == 0


def test_hidden_files_beside_the_annotations_are_passed_over(voc, coco, prepare):
    (voc / "annotations" / "._im 3.xml").write_bytes(b"\0")
    (coco / "._all.json").write_bytes(b"\0")
    (coco / ".cache").mkdir()
    assert prepare("voc", voc).section("voc")["counts"]["train"]["images"] == 8
    assert prepare("coco", coco).section("coco")["counts"]["train"]["images"] == 8


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["imagenet", "SOURCE", "--seed", "-1"], "--seed -1"),
        (["imagenet", "SOURCE", "--val-fraction", "1"], "--val-fraction 1"),
        (["emoji", "--workers", "0"], "--workers 0"),
    ],
)
def test_options_out_of_range_are_one_line(arguments, message, folders, data):
    with pytest.raises(InputError, match=message):
        main([str(folders) if word == "SOURCE" else word for word in arguments])
    assert not data.exists()


def test_results_inside_the_source_do_not_count_as_its_change(voc, prepare, monkeypatch):
    monkeypatch.setenv("DATA_DIR", str(voc / "prepared"))
    monkeypatch.setenv("RESULTS_DIR", str(voc / "results"))
    root = prepare("voc", voc)
    (voc / "results").mkdir()
    (voc / "results" / "record.json").touch()
    root.check_unchanged()


@pytest.mark.parametrize("kind", ["voc", "coco", "imagenet"])
def test_broken_images_are_left_out_with_their_annotations_by_one_flag(kind, prepare, request):
    source = request.getfixturevalue(kind.replace("imagenet", "folders"))
    broken = sorted(path for path in source.rglob("*") if path.suffix.lower() in (".jpg", ".png"))[:2]
    for path in broken:
        cut(path)
    with pytest.raises(InputError, match=r"unreadable image.* \(and 1 more\).*--drop-unreadable"):
        main([kind, str(source)])
    root = prepare(kind, source, "--drop-unreadable")
    section = root.section(kind)
    counts = section["counts"].values()
    assert (
        sum(one["images"] if isinstance(one, dict) else one for one in counts) == (20 if kind == "imagenet" else 10) - 2
    )
    assert section["validation"]["unreadable images dropped"] == 2
    assert "images in no annotation file" not in section["validation"]
    broken[0].unlink()
    with pytest.raises(InputError, match=r"has changed.*--drop-unreadable` again") as caught:
        root.check_unchanged()
    again = prepare(*shlex.split(str(caught.value).split("`")[1])[4:])
    again.check_unchanged()
    lost = again.section(kind)["validation"].get("missing images dropped", 0)
    assert lost == (0 if kind == "imagenet" else 1)
    for path in set(source.rglob("*.[Jp][Pn]*")) - {broken[0]}:
        cut(path)
    with pytest.raises(InputError, match=r"(unreadable|missing) image"):
        main([kind, str(source), "--drop-unreadable"])
