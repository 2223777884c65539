"""COCO data in the forms that people and tools write: taken as meant, counted, or refused in a line.

The pictures are dark but for one bright rectangle each, the object, so that a picture tells where its box belongs.
"""

import json
import os
import shutil

import numpy as np
import pytest
from detectron2.data.detection_utils import polygons_to_bitmask, read_image
from PIL import Image
from pycocotools import mask as rle

from benchmarks.data import prepare as prepare_module
from benchmarks.data.coco_entries import compressed, pixels
from benchmarks.data.facts import facts_of_records
from benchmarks.data.prepare import main
from benchmarks.data.registration import object_sides, read_as_run
from benchmarks.data.root import DataRoot
from pretrain.common.errors import InputError

WIDTH, HEIGHT = 48, 32
NUMBERS = range(1, 11)


@pytest.fixture(autouse=True)
def data(tmp_path, monkeypatch):
    monkeypatch.setenv("DATA_DIR", str(tmp_path / "data"))
    return tmp_path / "data"


@pytest.fixture
def prepare(capsys):
    """Prepare and compare what detectron2 reads with the pictures; the root, its validation and the text on stderr."""

    def call(*arguments):
        assert main(["coco", *map(str, arguments)]) == 0
        output = capsys.readouterr()
        root = DataRoot.load(output.out.strip())
        for one in [one for split in read_as_run(root, "coco").values() for one in split]:
            compare(one)
        return root, root.section("coco")["validation"], output.err

    return call


def compare(record):
    """Boxes and masks of a record, crowds included, are where the picture is bright, to the pixel."""
    bright = read_image(record["file_name"], "L")[:, :, 0] > 120
    assert bright.shape == (record["height"], record["width"])
    boxes, masks = np.zeros_like(bright), np.zeros_like(bright)
    for one in record["annotations"]:
        x, y, width, height = np.round(one["bbox"]).astype(int)
        boxes[y : y + height, x : x + width] = True
        if isinstance(one.get("segmentation"), list):
            masks |= polygons_to_bitmask(one["segmentation"], *bright.shape)
        elif "segmentation" in one:
            masks |= rle.decode(one["segmentation"]) > 0
    if record["annotations"]:
        assert np.array_equal(boxes, bright)
        assert not masks.any() or np.array_equal(masks, bright)


def box_of(number):
    return [6 + 2 * number, 4 + number, 12 + number % 3, 9]


def polygon(box):
    x, y, width, height = box
    return [[x, y, x + width, y, x + width, y + height, x, y + height]]


def code(box, size=(WIDTH, HEIGHT)):
    """A box as an RLE of the picture's size."""
    mask = np.zeros(size[::-1], np.uint8, order="F")
    x, y, width, height = box
    mask[y : y + height, x : x + width] = 1
    return {"size": list(size[::-1]), "counts": rle.encode(mask)["counts"].decode()}


def picture(path, number, orientation=None, size=(WIDTH, HEIGHT)):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(number).integers(0, 60, size[::-1], np.uint8)
    x, y, width, height = box_of(number)
    pixels[y : y + height, x : x + width] = 200
    exif = Image.Exif()
    if orientation:
        exif[0x0112] = orientation
    Image.fromarray(pixels).save(path, exif=exif)


def content(folder, numbers=NUMBERS, suffix=".png"):
    """COCO's JSON of pictures that are written to ``folder``."""
    images, entries = [], []
    for number in numbers:
        picture(folder / f"{number}{suffix}", number)
        images.append({"id": number, "file_name": f"{number}{suffix}", "width": WIDTH, "height": HEIGHT})
        box = box_of(number)
        about = {"id": number, "image_id": number, "category_id": 1 + number % 2, "iscrowd": 0}
        entries.append(about | {"bbox": box, "area": box[2] * box[3], "segmentation": polygon(box)})
    categories = [{"id": 1, "name": "cup"}, {"id": 2, "name": "fork"}]
    return {"images": images, "annotations": entries, "categories": categories}


def store(path, value, encoding="utf-8"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), encoding=encoding)


def each(change):
    """The change of a whole file that ``change`` makes of each annotation."""

    def change_all(whole):
        for one in whole["annotations"]:
            change(one)

    return change_all


def set_each(key, value):
    return each(lambda one: one.update({key: value(one)}))


def corners(one):
    x, y, width, height = one["bbox"]
    return [x, y, x + width, y + height]


def points(one):
    return [one["segmentation"][0][place : place + 2] for place in range(0, 8, 2)]


def names(change):
    return lambda whole: [image.update(file_name=change(image["file_name"])) for image in whole["images"]]


def both(*changes):
    return lambda whole: [change(whole) for change in changes]


def as_crowds(one):
    one.update(segmentation=code(one["bbox"]), iscrowd=1)


CORNERS = "corner boxes given a width and height"
IDS = "ids written as text or fraction"
TAKEN = {
    "ignored object": (lambda whole: whole["annotations"][3].update(ignore=1), "ignored objects taken as crowds", 1),
    "ignored in words": (lambda whole: [one.update(ignore=value) for one, value in zip(
        whole["annotations"], ("0", None, False, "1", True), strict=False)], "ignored objects taken as crowds", 2),
    "crowds alone": (each(as_crowds), "crowds taken as objects, since there are no others", 10),
    "no mask of one": (lambda whole: whole["annotations"][3].update(segmentation=[]), "boxes taken as masks", 1),
    "no mask of a crowd": (lambda whole: whole["annotations"][3].update(segmentation=None, iscrowd=1),
        "boxes taken as masks", 1),
    "sizes as text": (lambda whole: [image.update(width=str(WIDTH), height=f"{HEIGHT}.0") for image in whole["images"]],
        None, None),
    "image ids as text": (set_each("image_id", lambda one: str(one["image_id"])), IDS, 10),
    "category ids as text": (set_each("category_id", lambda one: f"0{one['category_id']}"), IDS, 10),
    "float ids": (both(*(set_each(key, lambda one, key=key: 1.0 * one[key]) for key in ("id", "image_id"))),
        IDS, 20),
    "annotation ids from 0": (set_each("id", lambda one: one["id"] - 1), "annotation ids numbered anew", 10),
    "annotation ids repeated": (set_each("id", lambda one: one["id"] // 2), "annotation ids numbered anew", 10),
    "annotation ids absent": (each(lambda one: one.pop("id")), "annotation ids numbered anew", 10),
    "crowd as text": (set_each("iscrowd", lambda one: "0"), None, None),
    "crowd as truth": (set_each("iscrowd", lambda one: False), None, None),
    "image listed twice": (lambda whole: whole["images"].append(dict(whole["images"][0])),
        "repeated image entries dropped", 1),
    "image under two ids": (lambda whole: (whole["images"].append({**whole["images"][0], "id": 77}),
        whole["annotations"].append({**whole["annotations"][0], "id": 77, "image_id": 77})),
        "repeated image entries dropped", 1),
    "image under two ids, one without objects": (
        lambda whole: whole["images"].insert(0, {**whole["images"][0], "id": 77}), "repeated image entries dropped", 1),
    "Windows' separators": (names("images\\{}".format), "file names corrected", 10),
    "absolute on Windows": (names("C:\\my data\\images\\{}".format), "file names corrected", 10),
    "absolute on another machine": (names("/home/me/my data/{}".format), "file names corrected", 10),
    "other case": (names(str.upper), "file names corrected", 10),
    "from another folder": (names("../images/{}".format), "file names corrected", 10),
    "from the root": (names("images/{}".format), None, None),
    "corners": (set_each("bbox", corners), CORNERS, 10),
    "corners beside RLEs": (both(set_each("segmentation", lambda one: code(one["bbox"])), set_each("bbox", corners)),
        CORNERS, 10),
    "corners without masks": (both(set_each("bbox", corners), each(lambda one: one.pop("segmentation"))), CORNERS, 10),
    "flat polygons": (set_each("segmentation", lambda one: one["segmentation"][0]),
        "masks written as flat lists or points", 10),
    "points": (set_each("segmentation", points), "masks written as flat lists or points", 10),
    "lists of points": (set_each("segmentation", lambda one: [points(one)]),
        "masks written as flat lists or points", 10),
    "boxes as objects": (set_each("bbox", lambda one: dict(zip("xywh", one["bbox"], strict=True))),
        "boxes written as objects", 10),
    "boxes as text": (set_each("bbox", lambda one: [str(value) for value in one["bbox"]]), "boxes written as text", 10),
    "boxes absent": (each(lambda one: one.pop("bbox")), "boxes taken from masks", 10),
    "areas of nothing": (set_each("area", lambda one: 0), None, None),
    "unused category of a used name": (lambda whole: whole["categories"].insert(0, {"id": 0, "name": "cup"}),
        "unused categories of a used name dropped", 1),
    "keypoints that are none": (lambda whole: whole["annotations"][0].update(keypoints=["a", "b", "c"]),
        "unusable keypoints dropped", 1),
}  # fmt: skip


@pytest.mark.parametrize("case", TAKEN)
def test_taken_as_meant_and_counted(case, tmp_path, prepare):
    change, finding, times = TAKEN[case]
    whole = content(tmp_path / "set" / "images")
    change(whole)
    store(tmp_path / "set" / "all.json", whole)
    root, validation, _ = prepare(tmp_path / "set")
    assert sum(one["images"] for one in root.section("coco")["counts"].values()) == 10
    assert sum(one["annotations"] for one in root.section("coco")["counts"].values()) == 10
    for path in (root.path / "coco" / "annotations").iterdir():
        for one in json.loads(path.read_text())["annotations"]:
            assert one["area"] == one["bbox"][2] * one["bbox"][3] and type(one["id"]) is type(one["image_id"]) is int
    counted = {key for key, value in validation.items() if isinstance(value, int)}
    assert counted == ({finding} if finding else set()) and validation.get(finding) == times


def nested(levels):
    value = 1
    for _ in range(levels):
        value = [value]
    return value


def edit(key, **values):
    return lambda whole: whole[key][1].update(values)


def one_lost(name):
    return lambda whole: whole["images"][1].update(file_name=name)


REFUSED = {
    "parts of the image": (
        set_each("bbox", lambda one: [v / s for v, s in zip(one["bbox"], (WIDTH, HEIGHT) * 2, strict=True)]),
        r"box in fractions of its image in .*all.json: 1 \[0\.16.* on 48 × 32 pixels.*and 9 more.*multiply"),
    "corners of some": (lambda whole: [one.update(bbox=corners(one)) for one in whole["annotations"][1::2]],
        r"corner box x0 y0 x1 y1 among other boxes .* 2 \[10, 6, 24, 15\].*from \(10, 6\) to \(24, 15\).*write all"),
    "centres": (set_each("bbox", lambda one: [one["bbox"][0] + 9, one["bbox"][1] + 6, *one["bbox"][2:]]),
        "box that does not enclose its mask.*: 1 "),
    "centres without masks": (each(lambda one: (one.pop("segmentation"), one.update(bbox=[24, 16, 40, 10], area=None))),
        "box that fits its image only if it is read as a centre, width and height"),
    "corners without masks": (each(lambda one: (one.pop("segmentation"), one.update(bbox=[20, 16, 45, 30], area=None))),
        "box that fits its image only if it is read as corners"),
    "other keys": (
        set_each("bbox", lambda one: dict(zip(("left", "top", "right", "bottom"), one["bbox"], strict=True))),
        'without a box.*: 1 .its bbox is {"left": 8.*and 9 more'),
    "box of words": (edit("annotations", bbox=["a", 1, 2, 3]), r'without a box .*: 2 \(its bbox is \["a", 1, 2, 3\]\)'),
    "box that is no number": (edit("annotations", bbox=[float("nan"), 1, 2, 3]), "without a box .*: 2 .*NaN"),
    "size in words": (edit("images", width="wide"), 'width of image 2 .*"wide", not a number'),
    "another size as text": (edit("images", width="96", height="64"), "size is not its.*2.png .96 × 64 in its"),
    "id of a half": (edit("images", id=1.5), "id of entry 1 of images .* is 1.5, not a whole number"),
    "id beyond 2^53": (edit("categories", id=2**60), "id of entry 1 of categories .*not a whole number below 2.53"),
    "category of two ids": (lambda whole: [one.update(name="cup") for one in whole["categories"]],
        r"category of several ids in .*all.json: 'cup' \(ids 1, 2\): give"),
    "negative sizes": (
        set_each("bbox", lambda one: [one["bbox"][0] + one["bbox"][2], one["bbox"][1] + 9, -one["bbox"][2], -9]),
        "box without a width or height in .*all.json: 1 .*and 9 more.*the last two above 0"),
    "boxes and masks of a larger picture": (
        both(set_each("bbox", lambda one: [2 * value for value in one["bbox"]]),
             set_each("segmentation", lambda one: polygon(one["bbox"]))),
        "box that reaches out of its image, as most do.*: give the images that were annotated"),
    "RLEs by rows": (set_each("segmentation", lambda one: code([0, one["bbox"][1], WIDTH, 2])),
        "box that does not enclose its mask"),
    "unlisted category": (edit("annotations", category_id="9"), r"unknown category .*: 2 \(category_id 9\)"),
    "one file, other objects": (edit("images", file_name="1.png"), r"under several ids.*: 1.png \(ids 1 and 2\).*once"),
    "name that leads out": (
        one_lost("../../else/1.png"), "leads out of the images' folder: ../../else/1.png: only images in .*images"),
    "absolute name": (one_lost("/etc/hostname"), "leads out of the images' folder: /etc/hostname: only images in"),
    "NUL": (one_lost("2\0.png"), "file_name of entry 1 of images .*not text"),
    "half a character": (one_lost("\ud800.png"), "file_name of entry 1 of images .*not text"),
    "longest name": (one_lost("2" * 5000), "missing image: .*22…: add the file"),
    "crowd of words": (edit("annotations", iscrowd="yes"), 'iscrowd of annotation 2 .*"yes", neither 0 nor 1'),
    "every object ignored": (set_each("ignore", lambda one: 1), "no annotation has .* and is no crowd in the train"),
    "RLE of a huge size": (set_each("segmentation", lambda one: {"size": [65535, 65535], "counts": "0" * 9}),
        r'no annotation has a usable mask.*: 1 {"size": .65535.*and 9 more'),
    "RLE of no letters": (set_each("segmentation", lambda one: {"size": [HEIGHT, WIDTH], "counts": "\u1234\xff"}),
        "no annotation has a usable mask"),
    "polygons of two points": (set_each("segmentation", lambda one: [corners(one)]),
        r"no annotation has a usable mask in .*: 1 \[\[8, 5, 21, 14\]\] .and 9 more.: give polygons of three"),
    "y, x, height, width": (set_each("bbox", lambda one: [one["bbox"][place] for place in (1, 0, 3, 2)]),
        "box that does not enclose its mask"),
    "boxes of a larger picture": (both(set_each("bbox", lambda one: [4 * value for value in one["bbox"]]), each(
        lambda one: one.pop("segmentation")), lambda whole: [image.pop("width") for image in whole["images"]]),
        "box that reaches out of its image.*: 1 .*on 48 × 32"),
    "other suffix": (names(lambda name: name.replace("png", "jpg")),
        r"no image of .* is in .*set, which has images/ \(10 .png"),
    "deep info": (lambda whole: whole.update(info=nested(60)), r"nested more than 50 levels deep \(key info\)"),
    "deep attribute": (edit("annotations", attributes=nested(60)), "deep .attributes of entry 1 of annotations"),
    "no name of a category": (edit("categories", name=""), 'name of entry 1 of categories .* is "", not text'),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_refused_in_one_line_that_names_the_first(case, tmp_path, data):
    change, message = REFUSED[case]
    whole = content(tmp_path / "set" / "images")
    change(whole)
    store(tmp_path / "set" / "all.json", whole)
    with pytest.raises(InputError, match=message) as caught:
        main(["coco", str(tmp_path / "set")])
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 900
    assert not data.exists() or not list(data.iterdir())


TRAIN, VAL = range(1, 7), range(7, 11)
LAYOUTS = {  # the files of train and val, and the folders of their images
    "annotation service": ("train/_annotations.coco.json", "valid/_annotations.coco.json", "train", "valid"),
    "COCO 2014": ("annotations/instances_train2014.json", "annotations/instances_val2014.json", "train2014", "val2014"),
    "minival": ("annotations/instances_train2014.json", "annotations/instances_minival2014.json", "train2014",
        "val2014"),
    "folders in images": ("annotations/train.json", "annotations/val.json", "images/train", "images/val"),
    "one folder of images": ("train.json", "validation.json", "images", "images"),
    "data and labels": ("train/labels.json", "val/labels.json", "train/data", "val/data"),
    "train and test": ("annotations/instancesTrain.json", "annotations/instancesTest.json", "train", "test"),
    "trainval and test": ("pascal_trainval2007.json", "pascal_test2007.json", "images", "images"),
    "folders within the splits": ("Train/annotations/a.json", "Val/annotations/a.json", "Train/images", "Val/images"),
    "one folder down": ("my set/annotations/instances_train2017.json", "my set/annotations/instances_val2017.json",
        "my set/train2017", "my set/val2017"),
}  # fmt: skip


def lay(source, train, val, train_images, val_images):
    for file, folder, numbers in ((train, train_images, TRAIN), (val, val_images, VAL)):
        store(source / file, content(source / folder, numbers))


def ids(root, part):
    return {
        one["id"]
        for one in json.loads((root.path / "coco/annotations" / f"instances_{part}2017.json").read_text())["images"]
    }


@pytest.mark.parametrize("case", LAYOUTS)
def test_splits_are_found_by_names_and_images_by_where_they_are(case, tmp_path, prepare):
    source = tmp_path / "set"
    lay(source, *LAYOUTS[case])
    store(source / "package.json", {"name": "no COCO file"})
    root, validation, _ = prepare(source)
    assert (ids(root, "train"), ids(root, "val")) == (set(TRAIN), set(VAL))
    assert "test images also in train" not in validation


def test_files_of_neither_split_are_named_and_images_of_no_file_counted(tmp_path, prepare):
    source = tmp_path / "set"
    lay(source, *LAYOUTS["annotation service"])
    store(source / "test" / "_annotations.coco.json", content(source / "test", range(11, 14)))
    store(source / "train" / "captions.json", {"images": [], "annotations": []})
    picture(source / "valid" / "more.png", 12)
    validation = prepare(source)[1]
    assert validation["files not used"] == ["test/_annotations.coco.json"]
    assert validation["images in no annotation file"] == 1


def test_given_files_with_given_and_found_images(tmp_path, prepare):
    source = tmp_path / "set"
    lay(source, "a.json", "b.json", "x", "y")
    shutil.copytree(source / "x", source / "masks")
    with pytest.raises(
        InputError, match=r"has 2 COCO files .a.json, b.json.* `.*set --annotations .*a.json --val-.*b.json`"
    ):
        main(["coco", str(source)])
    given = ("--annotations", source / "a.json", "--val-annotations", source / "b.json")
    with pytest.raises(InputError, match=r"2 folders may hold the images of .*a.json .*name one with --images"):
        main(["coco", *map(str, (source, *given))])
    root = prepare(source, *given, "--images", source / "x", "--val-images", source / "y")[0]
    assert (ids(root, "train"), ids(root, "val")) == (set(TRAIN), set(VAL))
    root.check_unchanged()
    store(source / "b.json", content(source / "y", VAL))
    with pytest.raises(
        InputError, match=r"has changed.*--images .*x --val-annotations .*b.json --val-images .*y` again"
    ):
        root.check_unchanged()
    for alone in ("--val-annotations", "--val-images"):
        with pytest.raises(InputError, match=f"{alone} needs"):
            main(["coco", str(source), alone, str(source / "b.json")])


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_byte_order_marks(encoding, tmp_path, prepare):
    store(tmp_path / "set" / "all.json", content(tmp_path / "set" / "images"), encoding)
    assert prepare(tmp_path / "set")[0].section("coco")["classes"] == ["cup", "fork"]


FOREIGN = {
    "VIA": ({"_via_settings": {}, "_via_img_metadata": {}}, "a project of VGG Image Annotator: export"),
    "VIA's list": ({"a.jpg12": {"filename": "a.jpg", "regions": []}}, "VGG Image Annotator's own JSON"),
    "LabelMe": ({"shapes": [], "imagePath": "a.jpg"}, "LabelMe's JSON"),
    "panoptic": ({"images": [{"file_name": "a.jpg"}], "categories": [], "annotations": [{"segments_info": []}]},
        "COCO's panoptic file"),
    "detections": ([{"image_id": 1, "score": 0.5}], "a list of detections"),
    "unknown": ({"photos": [], "images": []}, r"no list annotations, categories; its keys are photos, images"),
    "a number": (5, "not a COCO instances file"),
    "no images": ({"images": [], "annotations": [], "categories": []}, "lists no image"),
}  # fmt: skip


@pytest.mark.parametrize("case", FOREIGN)
def test_other_json_is_called_by_its_name(case, tmp_path):
    value, message = FOREIGN[case]
    store(tmp_path / "set" / "file.json", value)
    with pytest.raises(InputError, match=f"file.json.*{message}"):
        main(["coco", str(tmp_path / "set")])


def test_images_in_folders_that_the_file_does_not_name_are_shown(tmp_path):
    whole = content(tmp_path / "set" / "images" / "cups")
    store(tmp_path / "set" / "all.json", whole)
    (tmp_path / "set" / "images" / "forks").mkdir()
    with pytest.raises(InputError, match=r"may be images/cups/1.png: write file_name as the path from --images DIR"):
        main(["coco", str(tmp_path / "set")])


def test_folders_without_a_coco_file_tell_what_they_have_and_the_command_that_works(tmp_path, prepare):
    source = tmp_path / "set"
    lay(source / "a b" / "c" / "d", *LAYOUTS["COCO 2014"])
    with pytest.raises(InputError, match="has no JSON file at most two folders down") as caught:
        main(["coco", str(source)])
    command = str(caught.value).split("`")[1]
    assert command == f"python -m benchmarks prepare coco '{source / 'a b' / 'c' / 'd'}'"
    prepare(source / "a b" / "c" / "d")
    for number in range(30):
        store(tmp_path / "labelme" / "images" / f"{number}.json", {"shapes": []})
    with pytest.raises(InputError, match="has a JSON file per image"):
        main(["coco", str(tmp_path / "labelme")])
    (tmp_path / "empty" / "labels").mkdir(parents=True)
    with pytest.raises(InputError, match=r"has no JSON file .*labels/ \(empty\)"):
        main(["coco", str(tmp_path / "empty")])


@pytest.mark.parametrize("masks", ["polygons", "RLEs"])
def test_boxes_and_masks_drawn_on_stored_pixels_are_turned_with_the_picture(masks, tmp_path, prepare):
    whole = content(tmp_path / "set" / "images", suffix=".webp")
    for number in NUMBERS:
        picture(tmp_path / "set" / "images" / f"{number}.webp", number, orientation=number - 1)  # 9 is none
    if masks == "RLEs":
        each(lambda one: one.update(segmentation=code(one["bbox"])))(whole)
    store(tmp_path / "set" / "all.json", whole)
    root, validation, _ = prepare(tmp_path / "set")
    assert validation["images with boxes turned by EXIF"] == 7
    assert root.section("coco")["masks"] == {"polygons": "polygon", "RLEs": "rle"}[masks]


def test_boxes_drawn_on_the_picture_as_shown_stay(tmp_path, prepare):
    whole = content(tmp_path / "set" / "images", suffix=".webp")
    for image, one in zip(whole["images"], whole["annotations"], strict=True):
        x, y, width, height = box = box_of(image["id"])
        turned = [HEIGHT - y - height, x, height, width]
        assert box == one["bbox"]
        picture(tmp_path / "set" / "images" / image["file_name"], image["id"], orientation=6)
        image.update(width=HEIGHT, height=WIDTH)
        one.update(bbox=turned, segmentation=polygon(turned))
    store(tmp_path / "set" / "all.json", whole)
    assert "images with boxes turned by EXIF" not in prepare(tmp_path / "set")[1]


def test_copies_of_a_picture_stay_in_one_split_and_shared_images_draw_a_warning(tmp_path, prepare):
    source = tmp_path / "set"
    whole = content(source / "images", range(1, 21))
    for number in range(11, 21):
        shutil.copy(source / "images" / f"{number - 10}.png", source / "images" / f"{number}.png")
        box = box_of(number - 10)
        whole["annotations"][number - 1].update(bbox=box, segmentation=polygon(box))
    store(source / "all.json", whole)
    root, validation, _ = prepare(source)
    assert {number % 10 for number in ids(root, "train")}.isdisjoint(number % 10 for number in ids(root, "val"))
    assert "test images also in train" not in validation
    for split in ("train", "val"):
        store(tmp_path / "same" / f"{split}.json", content(tmp_path / "same" / "images"))
    assert "warning: 10 of 10 test images also in train: " in prepare(tmp_path / "same")[2]


@pytest.mark.parametrize("crowds", ["train", "val"])
def test_crowds_alone_in_one_split_are_objects_there(crowds, tmp_path, prepare):
    source = tmp_path / "set"
    lay(source, *LAYOUTS["one folder of images"])
    file = source / {"train": "train.json", "val": "validation.json"}[crowds]
    whole = json.loads(file.read_text())
    each(as_crowds)(whole)
    store(file, whole)
    counts = prepare(source)[0].section("coco")["counts"]
    assert [counts[split]["crowds"] for split in ("train", "val")] == [0, 0]


def test_where_many_objects_have_no_mask_the_set_has_boxes_alone(tmp_path, prepare):
    whole = content(tmp_path / "set" / "images")
    for one in whole["annotations"][:5]:
        one["segmentation"] = []
    store(tmp_path / "set" / "all.json", whole)
    root, _, text = prepare(tmp_path / "set")
    assert root.section("coco")["masks"] == "none" and "warning: 5 objects without a mask" in text


def test_categories_of_both_splits_are_joined_unless_they_contradict(tmp_path, prepare):
    source = tmp_path / "set"
    lay(source, *LAYOUTS["one folder of images"])
    val = json.loads((source / "validation.json").read_text())
    val["categories"] = [{"id": 9, "name": "spoon"}, {"id": 2, "name": "fork"}, {"id": 1, "name": "cup"}]
    store(source / "validation.json", val)
    root, validation, _ = prepare(source)
    assert root.section("coco")["classes"] == ["cup", "fork", "spoon"]
    assert validation["train"]["classes absent"] == validation["val"]["classes absent"] == ["spoon"]
    for number, name, message in ((2, "knife", r"id 2 \('fork' and 'knife'\)"), (3, "fork", r"'fork' \(ids 2 and 3\)")):
        val["categories"] = [{"id": 1, "name": "cup"}, {"id": number, "name": name}]
        each(lambda one, number=number: one.update(category_id=number))(val)
        store(source / "validation.json", val)
        with pytest.raises(InputError, match=f"different categories in .*train.json and .*validation.json: {message}"):
            main(["coco", str(source)])


def test_links_that_lead_round_pipes_and_depth_do_not_hang(tmp_path):
    source = tmp_path / "set"
    store(source / "all.json", content(source / "images"))
    (source / "images" / "loop").symlink_to("..")
    with pytest.raises(InputError, match=r"loop.*links lead round"):
        main(["coco", str(source)])
    (source / "images" / "loop").unlink()
    (source / "images" / "3.png").unlink()
    os.mkfifo(source / "images" / "3.png")
    with pytest.raises(InputError, match=r"missing image: .*3.png"):
        main(["coco", str(source)])
    (source / "all.json").write_text("[" * 100_000)
    with pytest.raises(InputError, match="nested too deep"):
        main(["coco", str(source)])
    (source / "all.json").unlink()
    os.mkfifo(source / "all.json")
    with pytest.raises(InputError, match="no JSON file"):
        main(["coco", str(source)])
    with pytest.raises(InputError, match=r"all.json is not a file"):
        main(["coco", str(source), "--annotations", str(source / "all.json")])


@pytest.mark.parametrize("part", ["train", "val"])
def test_annotations_that_are_edited_in_the_root_are_noticed(part, tmp_path, prepare):
    store(tmp_path / "set" / "all.json", content(tmp_path / "set" / "images"))
    root = prepare(tmp_path / "set")[0]
    root.check_unchanged()
    file = root.path / "coco" / "annotations" / f"instances_{part}2017.json"
    before = file.read_text()
    (root.path / "coco" / ".DS_Store").write_text("a file browser was here")
    root.check_unchanged()
    file.write_text(before.replace('"category_id": 1', '"category_id": 2', 1))
    message = r"the copy of the annotations in .* has changed .*`python -m benchmarks prepare coco .*set"
    with pytest.raises(InputError, match=message):
        root.check_unchanged()
    prepare(tmp_path / "set")[0].check_unchanged()
    assert file.read_text() == before


HOSTILE = {
    "deep": lambda stored: stored.update(description=nested(60)),
    "deeper than JSON": None,
    "list": lambda stored: stored.update(coco=[1]),
    "number as class": lambda stored: stored["coco"].update(classes=[1]),
    "counts": lambda stored: stored["coco"].update(counts=3),
    "fingerprint": lambda stored: stored["coco"].pop("fingerprint"),
    "name": lambda stored: stored.update(name="../../else"),
    "source": lambda stored: stored["config"].update(source=3),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_data_json_that_is_none_of_ours_is_one_line(case, tmp_path, prepare):
    store(tmp_path / "set" / "all.json", content(tmp_path / "set" / "images"))
    root = prepare(tmp_path / "set")[0]
    file = root.path / "data.json"
    if HOSTILE[case]:
        stored = json.loads(file.read_text())
        HOSTILE[case](stored)
        store(file, stored)
    else:
        file.write_text('{"name": ' + "[" * 100_000)
    with pytest.raises(InputError, match=r"data.json cannot be read"):
        DataRoot.load(root.path)


def test_the_median_side_at_each_input_size_is_told_and_small_objects_warned_of(tmp_path, prepare):
    store(tmp_path / "set" / "all.json", content(tmp_path / "set" / "images"))
    _, validation, text = prepare(tmp_path / "set")
    side = np.median([np.sqrt(np.prod(box_of(number)[2:])) for number in NUMBERS])
    # The shorter side of 32 pixels becomes 96, 128, 224 and 800.
    expected = {"smoke": 3 * side, "demo": 4 * side, "small": 7 * side, "paper": 25 * side}
    assert validation["median object side"] == pytest.approx(expected, abs=0.1)
    assert f"{validation['median object side']['smoke']:g} px in profile smoke" in text and "smaller" not in text
    # The longer side decides here: 1,600 pixels become 160, 213, 747 of 448 and 1,333.
    record = {"width": 1600, "height": 100, "annotations": [{"bbox": [0, 0, 90, 40], "bbox_mode": 1, "iscrowd": 0}]}
    facts = facts_of_records([record], "one")
    assert object_sides([record], facts) == {"smoke": 6.0, "demo": 8.0, "small": 28.0, "paper": 50.0}
    assert prepare_module.SMALL == 16


@pytest.mark.parametrize("fault", ["size", "ignore", "number"])
def test_prepare_ends_by_reading_as_a_run_does(fault, tmp_path, monkeypatch, data):
    """Whatever the checks let through is refused before the root is there."""
    store(tmp_path / "set" / "all.json", content(tmp_path / "set" / "images"))
    build = prepare_module.from_coco.build

    def faulty(source, target, *options):
        section = build(source, target, *options)
        file = target / "coco" / "annotations" / "instances_val2017.json"
        stored = json.loads(file.read_text())
        if fault == "size":
            stored["images"][0]["width"] += 1
        elif fault == "ignore":
            stored["annotations"][0]["ignore"] = 1
        else:
            stored["annotations"].pop()
        store(file, stored)
        return section

    monkeypatch.setattr(prepare_module.from_coco, "build", faulty)
    message = {"size": "detectron2 shows in another size than recorded", "ignore": "detectron2 cannot read these coco",
               "number": "sees 2 images with 1 objects in the test split where 2 images with 2"}[fault]  # fmt: skip
    with pytest.raises(InputError, match=message):
        main(["coco", str(tmp_path / "set")])
    assert not list(data.iterdir())


@pytest.mark.parametrize("seed", range(5))
def test_pixels_of_a_compressed_rle_are_those_that_pycocotools_wrote(seed):
    rng = np.random.default_rng(seed)
    for density in (0, 0.01, 0.5, 0.99, 1):
        height, width = rng.integers(1, 300, 2)
        mask = np.asfortranarray(rng.random((height, width)) < density).astype(np.uint8, order="F")
        counts = rle.encode(mask)["counts"].decode()
        assert pixels(counts) == mask.size
        assert pixels(counts[:-1]) != mask.size


@pytest.mark.parametrize("counts", ["", "0", "1", "o", "`" * 100, "ä", "0\n", "O0", "PPPPPPPP"])
def test_a_damaged_rle_is_no_mask(counts):
    assert compressed({"size": [40, 60], "counts": counts}, (60, 40)) is None
