"""VOC data in the layouts that people bring: every object is found where it is drawn, or one line says why not."""

import itertools
import os
import shutil
import unicodedata
from collections import Counter
from xml.sax.saxutils import escape

import numpy as np
import pytest
from PIL import Image, ImageOps

from benchmarks.data import from_voc
from benchmarks.data.registration import load_voc
from pretrain.common.errors import InputError

SIZE = (40, 30)  # width, height
NAMES = ("cat", "dog")
IDS = [f"{number:03d}" for number in range(10)]


def box_of(stem):
    """left, top, width, height of the one bright object in the image ``stem``, 0-based."""
    number = int(stem[-3:])
    return 4 + number, 3 + number % 5, 14, 9


def picture(path, stem, orientation=1, mode="RGB"):
    """Dark noise with a bright box, in the file's own pixels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(int(stem)).integers(0, 60, (SIZE[1], SIZE[0], 3), np.uint8)
    x, y, width, height = box_of(stem)
    pixels[y : y + height, x : x + width] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = Image.fromarray(pixels)
    if mode == "I;16":
        image = Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)
    image.save(path, exif=exif)


def annotate(path, stem, *, name=None, size=SIZE, filename=None, box=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    x, y, width, height = box or box_of(stem)
    corners = f"<xmin>{x + 1}</xmin><ymin>{y + 1}</ymin><xmax>{x + width}</xmax><ymax>{y + height}</ymax>"
    about = f"<size><width>{size[0]}</width><height>{size[1]}</height></size>" if size else ""
    path.write_text(
        f"<annotation><filename>{escape(filename or stem)}</filename>{about}<object><name>"
        f"{escape(name or NAMES[int(stem) % 2])}</name><bndbox>{corners}</bndbox></object></annotation>"
    )


def voc(folder, stems=IDS, annotations="Annotations", images="JPEGImages", suffix=".png", **options):
    for stem in stems:
        picture(folder / images / f"{stem}{suffix}", stem, **options)
        annotate(folder / annotations / f"{stem}.xml", stem)


def lists(folder, encoding="utf-8", end="\n", **content):
    folder.mkdir(parents=True, exist_ok=True)
    for name, lines in content.items():
        (folder / f"{name}.txt").write_bytes("".join(line + end for line in lines).encode(encoding))


def build(source, target=None, drop=False):
    """(section, records by split) of the view of ``source``, every object checked to be the bright box."""
    target = target or source.with_name("view")
    section = from_voc.build(source, target, 0.2, 0, drop)
    records = {
        split: list(
            itertools.chain(*(load_voc(target / "VOCdevkit" / f, name, section["classes"]) for f, name in sets))
        )
        for split, sets in (("train", section["train"]), ("test", section["test"]))
    }
    for record in (*records["train"], *records["test"]):
        with Image.open(record["file_name"]) as opened:
            pixels = np.asarray(ImageOps.exif_transpose(opened).convert("L"))
        assert pixels.shape == (record["height"], record["width"])
        bright = np.zeros(pixels.shape, bool)
        for one in record["annotations"]:
            left, top, right, bottom = map(int, one["bbox"])
            bright[top:bottom, left:right] = True
        if record["annotations"]:
            assert np.array_equal(bright, pixels > 150)
    return section, records


def ids(records, split):
    return sorted(record["image_id"][-3:] for record in records[split])


def move(source, *parts):
    """``source`` with all its content below ``parts``."""
    inside = source.with_name("moved")
    source.rename(inside)
    source.joinpath(*parts[:-1]).mkdir(parents=True)
    inside.rename(source.joinpath(*parts))


LAYOUTS = {
    "annots and images": lambda s: voc(s, annotations="annots", images="images"),
    "labels and pictures": lambda s: voc(s, annotations="labels", images="pictures"),
    "beside": lambda s: voc(s, annotations=".", images="."),
    "annotations above the images": lambda s: voc(s, annotations=".", images="img"),
    "segmentation beside": lambda s: (voc(s), [picture(s / "SegmentationClass" / f"{one}.png", one) for one in IDS]),
    "one down": lambda s: (voc(s), move(s, "raccoon-master"), (s / "README.md").touch(), (s / "__MACOSX").mkdir()),
    "three down": lambda s: (voc(s), move(s, "archive", "data", "set")),
    "devkit down": lambda s: (voc(s), move(s, "archive", "VOCdevkit", "VOC2012")),
}


@pytest.mark.parametrize("case", LAYOUTS)
def test_layouts_without_a_split(case, tmp_path):
    LAYOUTS[case](tmp_path / "source")
    section, records = build(tmp_path / "source")
    assert section["classes"] == ["cat", "dog"] and sorted(ids(records, "train") + ids(records, "test")) == IDS
    assert len(records["test"]) == 2 and "images in no split" not in section["validation"]


def per_split(source, suffix=".png", **splits):
    for split, stems in splits.items():
        voc(source / split, stems, ".", ".", suffix)


def nested(source, shared, **splits):
    for split, stems in splits.items():
        voc(source, stems, "annotations" if shared else f"annotations/{split}", f"images/{split}")


SPLITS = {
    "Roboflow": (lambda s: per_split(s, train=IDS[:5], valid=IDS[5:7], test=IDS[7:]), IDS[:7]),
    "train and val": (lambda s: per_split(s, Train=IDS[:6], VAL=IDS[6:]), IDS[:6]),
    "words": (lambda s: per_split(s, my_training=IDS[:6], testing_set=IDS[6:]), IDS[:6]),
    "images/train": (lambda s: nested(s, False, train=IDS[:6], val=IDS[6:]), IDS[:6]),
    "one folder of annotations": (lambda s: nested(s, True, train=IDS[:6], test=IDS[6:]), IDS[:6]),
    "folders of images": (lambda s: [voc(s / split, part, "xml", "img") for split, part in (
        ("train", IDS[:6]), ("test", IDS[6:]))], IDS[:6]),
}  # fmt: skip


@pytest.mark.parametrize("case", SPLITS)
def test_a_folder_for_each_split(case, tmp_path):
    lay, train = SPLITS[case]
    lay(tmp_path / "source")
    _, records = build(tmp_path / "source")
    assert ids(records, "train") == train and ids(records, "test") == sorted(set(IDS) - set(train))


def test_the_same_names_in_each_split_and_the_same_images(tmp_path):
    per_split(tmp_path / "source", train=IDS, valid=IDS[:3], test=IDS[:2])
    section, records = build(tmp_path / "source")
    assert (ids(records, "train"), ids(records, "test")) == (sorted(IDS + IDS[:3]), IDS[:2])
    assert section["validation"]["test images also in train"] == 2


TRAIN, TEST = IDS[:7], IDS[7:]
LISTS = {
    "byte order mark": {"encoding": "utf-8-sig", "end": "\r\n", "trainval": TRAIN, "test": TEST},
    "UTF-16": {"encoding": "utf-16", "end": "\r\n", "trainval": TRAIN, "test": TEST},
    "old line ends": {"end": "\r", "trainval": TRAIN, "test": TEST},
    "flags": {"trainval": [f"{one} {-(i % 2)}" for i, one in enumerate(TRAIN)], "test": [f"{one}  1" for one in TEST]},
    "suffixes": {"train": [f"{one}.png" for one in TRAIN], "val": [f"{one}.xml" for one in TEST]},
    "paths": {"train": [f"./JPEGImages/{one}.png" for one in TRAIN], "test": [f"D:\\x\\{one}.png" for one in TEST]},
    "pairs": {"train": [f"images/{one}.png annotations/{one}.xml" for one in TRAIN], "val": TEST},
    "train, val and test": {"train": TRAIN[:4], "val": TRAIN[4:], "test": TEST},
    "VOC 2012's": {"train": TRAIN, "val": TEST, "trainval": IDS},
    "trainval and val": {"trainval": TRAIN, "val": TEST},
    "trainval too": {"train": TEST, "val": TRAIN[:1], "trainval": TRAIN, "test": TEST},
    "test without annotations": {"train": TRAIN, "val": TEST, "test": ["2008_000001", "2008_000002"]},
    "blank lines": {"trainval": ["", *TRAIN, " ", ""], "test": [f"\t{one} " for one in TEST]},
}


@pytest.mark.parametrize("case", LISTS)
def test_lists_as_tools_write_them(case, tmp_path):
    voc(tmp_path / "source")
    lists(tmp_path / "source" / "ImageSets" / "Main", **LISTS[case])
    _, records = build(tmp_path / "source")
    assert (ids(records, "train"), ids(records, "test")) == (TRAIN, TEST)


@pytest.mark.parametrize("folder", ["ImageSets", "."])
def test_lists_elsewhere(folder, tmp_path):
    voc(tmp_path / "source")
    lists(tmp_path / "source" / folder, train=TRAIN, val=TEST)
    _, records = build(tmp_path / "source")
    assert (ids(records, "train"), ids(records, "test")) == (TRAIN, TEST)


def test_ids_with_blanks_are_no_columns(tmp_path):
    voc(tmp_path / "source")
    for path in (*(tmp_path / "source").rglob("*.png"), *(tmp_path / "source").rglob("*.xml")):
        path.rename(path.with_name(f"im 1 {path.name}"))
    lists(tmp_path / "source" / "ImageSets" / "Main", train=[f"im 1 {one}" for one in TRAIN], val=[f"im 1 {TEST[0]}",
        f"im 1 {TEST[1]} -1"])  # fmt: skip
    section, records = build(tmp_path / "source")
    assert (ids(records, "train"), ids(records, "test")) == (TRAIN, TEST[:2])
    assert (section["validation"]["annotations in no split"], section["validation"]["images in no split"]) == (1, 1)


def test_one_list_alone_is_told(tmp_path, capsys):
    voc(tmp_path / "source")
    lists(tmp_path / "source" / "ImageSets" / "Main", train=TRAIN)
    _, records = build(tmp_path / "source")
    assert len(records["test"]) == 2 and "has a list train alone: splitting by the seed" in capsys.readouterr().err


def composed(source):
    for path in source.rglob("*.xml"):
        path.rename(path.with_name(f"ü{path.name}"))
    for path in source.rglob("*.png"):
        path.rename(path.with_name(unicodedata.normalize("NFD", "ü") + path.name))


def other_case(source):
    for path in (*source.rglob("*.xml"), *source.rglob("*.png")):
        path.rename(path.with_name(f"{'IMG' if path.suffix == '.xml' else 'img'}_{path.name}"))


def windows_names(source):
    for path in source.rglob("*.xml"):
        annotate(path, path.stem, filename=f"C:\\data.v2\\{path.stem}.png")
        path.rename(path.with_name(f"annotation of {path.name}"))


def no_suffix(source):
    for path in source.rglob("*.png"):
        path.rename(path.with_name(f"a.b.{path.name}"))
    for path in source.rglob("*.xml"):
        annotate(path, path.stem, filename=f"a.b.{path.stem}")


@pytest.mark.parametrize("rename", [composed, other_case, windows_names, no_suffix])
def test_images_of_another_spelling_are_found(rename, tmp_path):
    voc(tmp_path / "source")
    rename(tmp_path / "source")
    _, records = build(tmp_path / "source")
    assert sorted(ids(records, "train") + ids(records, "test")) == IDS


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
@pytest.mark.parametrize("stated", [True, False])
def test_boxes_drawn_on_stored_pixels_turn_with_the_image(orientation, stated, tmp_path):
    """Without a size the boxes that fit in the stored image alone tell, and the others follow them."""
    voc(tmp_path / "source", orientation=orientation)
    if not stated:
        for stem in IDS:
            annotate(tmp_path / "source" / "Annotations" / f"{stem}.xml", stem, size=None)
        picture(tmp_path / "source" / "JPEGImages" / "020.png", "020", orientation)
        annotate(tmp_path / "source" / "Annotations" / "020.xml", "020", size=None)
    section, _ = build(tmp_path / "source")
    assert section["validation"]["images with boxes turned by EXIF"] == 10 + (not stated)


def test_boxes_drawn_as_shown_stay_and_other_orientations_do_nothing(tmp_path):
    voc(tmp_path / "source", IDS[:5], orientation=6)
    for stem in IDS[:5]:
        x, y, width, height = box_of(stem)
        box = (SIZE[1] - y - height, x, height, width)
        annotate(tmp_path / "source" / "Annotations" / f"{stem}.xml", stem, size=SIZE[::-1], box=box)
    voc(tmp_path / "source", IDS[5:], orientation=65537 % 65536)
    for stem in IDS[7:]:
        picture(tmp_path / "source" / "JPEGImages" / f"{stem}.png", stem, orientation=9)
    section, _ = build(tmp_path / "source")
    assert "images with boxes turned by EXIF" not in section["validation"]


def test_mirrored_images_that_tell_nothing_are_refused(tmp_path):
    voc(tmp_path / "source", orientation=3)
    with pytest.raises(InputError, match=r"drawn on it as stored or as shown: .*000.png \(and 9 more\).*exiftool"):
        build(tmp_path / "source")
    voc(tmp_path / "source", ["011"], orientation=8)  # tells: its size is the stored one
    section, _ = build(tmp_path / "source", tmp_path / "second")
    assert section["validation"]["images with boxes turned by EXIF"] == 11


def test_spellings_of_a_class_in_blanks_and_composition_are_one_class(tmp_path):
    voc(tmp_path / "source")
    for stem in IDS:
        name = "Käfer rot" if stem < "008" else unicodedata.normalize("NFD", "Käfer  rot")
        annotate(tmp_path / "source" / "Annotations" / f"{stem}.xml", stem, name=name)
    section, _ = build(tmp_path / "source")
    assert section["classes"] == ["Käfer rot"] and section["validation"]["objects of a class spelt otherwise"] == 2


def test_a_box_smaller_than_a_pixel_among_others_is_dropped_and_counted(tmp_path):
    fractions(tmp_path / "source", IDS[:1])
    assert build(tmp_path / "source")[0]["validation"]["degenerate boxes dropped"] == 1


def test_single_letters_are_classes_of_their_own(tmp_path):
    voc(tmp_path / "source")
    for stem in IDS:
        annotate(tmp_path / "source" / "Annotations" / f"{stem}.xml", stem, name="aA"[int(stem) % 2])
    assert build(tmp_path / "source")[0]["classes"] == ["A", "a"]


def test_empty_annotations_and_other_files_are_counted(tmp_path):
    voc(tmp_path / "source")
    (tmp_path / "source" / "Annotations" / "004.xml").write_text("")
    (tmp_path / "source" / "Annotations" / "classes.txt").write_text("cat")
    (tmp_path / "source" / "JPEGImages" / "x.heic").write_text("no")
    picture(tmp_path / "source" / "JPEGImages" / "055.png", "055")
    validation = build(tmp_path / "source")[0]["validation"]
    assert (validation["empty annotation files"], validation["images in no split"]) == (1, 1)
    assert validation["files passed over"] == "1 .heic, 1 .txt"


def test_missing_and_broken_images_are_dropped_with_their_annotations_by_the_flag(tmp_path):
    voc(tmp_path / "source")
    (tmp_path / "source" / "JPEGImages" / "003.png").rename(tmp_path / "source" / "JPEGImages" / "003.heic")
    (tmp_path / "source" / "JPEGImages" / "005.png").write_bytes(b"no image")
    with pytest.raises(InputError, match=r"missing image of annotation: .*003.xml: .*1 .heic.*--drop-unreadable"):
        build(tmp_path / "source")
    section, records = build(tmp_path / "source", drop=True)
    assert sorted(ids(records, "train") + ids(records, "test")) == sorted(set(IDS) - {"003", "005"})
    dropped = {what: section["validation"][f"{what} images dropped"] for what in ("missing", "unreadable")}
    assert dropped == {"missing": 1, "unreadable": 1}


def test_annotations_of_no_split_image_are_missing_an_image(tmp_path):
    nested(tmp_path / "source", True, train=IDS[:6], test=IDS[6:])
    annotate(tmp_path / "source" / "annotations" / "050.xml", "050")
    with pytest.raises(InputError, match=r"missing image of annotation.*050\.xml"):
        build(tmp_path / "source")


def json_file(name, content):
    def lay(source):
        picture(source / "images" / "000.png", "000")
        (source / name).write_text(content)

    return lay


def renamed_class(other):
    def lay(source):
        voc(source)
        annotate(source / "Annotations" / "001.xml", "001", name="big dog")
        annotate(source / "Annotations" / "004.xml", "004", name=other)

    return lay


def fractions(source, stems=IDS[2:]):
    voc(source)
    for path in (source / "Annotations" / f"{stem}.xml" for stem in stems):
        text = path.read_text()
        path.write_text(text[: text.index("<xmin>")] + "<xmin>0.1</xmin><ymin>.2</ymin><xmax>.5</xmax><ymax>1</ymax>"
        "</bndbox></object></annotation>")  # fmt: skip


def edited(change):
    """A set whose annotations are each ``change(stem)``: the box, and whether it is difficult."""

    def lay(source):
        voc(source)
        for stem in IDS:
            path = source / "Annotations" / f"{stem}.xml"
            box, flag = change(stem)
            annotate(path, stem, box=box)
            path.write_text(path.read_text().replace("</object>", f"<difficult>{flag}</difficult></object>"))

    return lay


def doubled(stem):
    return [2 * value for value in box_of(stem)]


def backwards(stem):
    x, y, width, height = box_of(stem)
    return x + width, y + height, -width, -height


def raw_name(source):
    voc(source)
    for path in (source / "Annotations" / "004.xml", source / "JPEGImages" / "004.png"):
        path.rename(path.with_name(os.fsdecode(b"\xff04" + os.fsencode(path.suffix))))


def pipe(path):
    path.unlink(missing_ok=True)
    os.mkfifo(path)


def with_lists(**content):
    return lambda s: (voc(s), lists(s / "ImageSets" / "Main", **content))


def folder_for_image(source):
    voc(source)
    (source / "JPEGImages" / "004.png").unlink()
    (source / "JPEGImages" / "004.png").mkdir()


def pipe_for_list(source):
    with_lists(trainval=TRAIN, test=TEST)(source)
    pipe(source / "ImageSets" / "Main" / "test.txt")


def one_more(**annotation):
    return lambda s: (voc(s), annotate(s / "Annotations" / "x.xml", "001", **annotation))


VIA = '{"a1": {"regions": [{"region_attributes": {}}]}}'
COCO = '{"images": [], "annotations": []}'
REFUSED = {
    "hyphen and blank": (renamed_class("big-dog"), r'"big dog" .*"big-dog" .*: write one'),
    "upper case": (renamed_class("Cat"), r'"cat" \(4 objects, .*"Cat" \(1 objects, .*004.xml\): write one'),
    "fractions": (fractions, r"parts of the image.*002.xml \(object cat: 0.1, 0.2, 0.5, 1\) .and 7 more.: multiply"),
    "another size": (edited(lambda stem: (doubled(stem), 0)), "box that reaches out of its image.*40 × 30"),
    "corners backwards": (edited(lambda stem: (backwards(stem), 0)), "ends before it begins.*000.xml.*and 9 more"),
    "all difficult": (edited(lambda stem: (None, 1)), "every object of the train split is difficult"),
    "Windows' archive": (lambda s: picture(s / "JPEGImages\\1.png", "001"), r"an archive made on Windows: unpack"),
    "VIA": (json_file("via.json", VIA), r"images/ \(1 .png\).*VIA's JSON"),
    "COCO": (json_file("a.json", COCO), "COCO's JSON: `python -m benchmarks prepare coco"),
    "classes": (lambda s: [picture(s / c / "1.png", "001") for c in NAMES], "classes: `.* prepare imagenet"),
    "flat": (lambda s: picture(s / "001.png", "001"), "`python -m pretrain PRESET --data"),
    "YOLO": (lambda s: (picture(s / "img" / "1.png", "001"), lists(s / "labels", a=["0 1"])), "labels/ .1 .txt"),
    "YOLO's .yaml": (lambda s: (picture(s / "img" / "1.png", "001"), lists(s / "labels", a=["0 1"]),
        (s / "data.yaml").touch()), "YOLO's labels and .yaml: convert them to COCO's JSON"),
    "empty": (lambda s: s.mkdir(), "it has nothing"),
    "several sets": (lambda s: [voc(s / one) for one in "ab"], r"several sets \(a, b\): prepare one, `.* voc .*/a`"),
    "two annotations of an image": (one_more(filename="001.png"), "two annotation files: .*001.png"),
    "16 bits": (lambda s: voc(s, mode="I;16"), r"16-bit.*000.png \(and 9 more\)"),
    "name that is not UTF-8": (raw_name, r"not UTF-8.*\\udcff04"),
    "long class": (one_more(name="g" * 999, filename="001.png"), "class name longer"),
    "pipe for a list": (pipe_for_list, "test.txt is not a readable list"),
    "pipe for an image": (lambda s: (voc(s), pipe(s / "JPEGImages" / "004.png")), "missing image.*004.png"),
    "folder for an image": (folder_for_image, "missing image of annotation.*004.xml"),
    "listed twice": (with_lists(trainval=[*TRAIN, TRAIN[0]], test=TEST), "twice in the splits: 000: list it once"),
    "in both lists": (with_lists(trainval=TRAIN, test=[*TEST, TRAIN[0]]), "image twice in the splits: 000"),
    "absent in a list": (with_lists(trainval=TRAIN, test=[*TEST, "../x"]), r"missing annotation: ../x in .*test.txt"),
    "empty list": (with_lists(trainval=TRAIN, test=[]), "test.txt lists 0 images"),
    "UTF-16 without a mark": (with_lists(trainval=TRAIN, test=TEST, encoding="utf-16-le"), r"annotation: 0\\x000"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused_is_one_line_with_a_remedy(case, tmp_path):
    lay, message = REFUSED[case]
    lay(tmp_path / "source")
    with pytest.raises(InputError, match=message) as caught:
        build(tmp_path / "source")
    assert str(caught.value).isprintable() and len(str(caught.value)) < 700
    assert not (tmp_path / "view").exists()


def test_names_with_line_ends_and_escapes_become_ids(tmp_path):
    voc(tmp_path / "source")
    for path in (tmp_path / "source" / "Annotations" / "004.xml", tmp_path / "source" / "JPEGImages" / "004.png"):
        path.rename(path.with_name(f"a\nb\x1b[31m 004{path.suffix}"))
    _, records = build(tmp_path / "source")
    names = {record["image_id"] for split in records.values() for record in split}
    assert "a_b_[31m_004" in names and len(names) == 10


def test_shared_folders_do_not_repeat_what_is_passed_over(tmp_path):
    nested(tmp_path / "source", True, train=IDS[:6], test=IDS[6:])
    (tmp_path / "source" / "annotations" / "notes.txt").touch()
    section, records = build(tmp_path / "source")
    assert section["validation"]["files passed over"] == "1 .txt"
    assert Counter(len(one) for one in records.values()) == {6: 1, 4: 1}
    shutil.rmtree(tmp_path / "view")


@pytest.mark.parametrize("lacking", [False, True])
def test_both_years_with_the_lists_that_trainval_is_made_of(lacking, tmp_path):
    devkit = tmp_path / "source" / "VOCdevkit"
    for year, stems, content in (
        ("VOC2007", IDS[:5], {"train": IDS[:2], "val": IDS[2:3], "test": IDS[3:5]}),
        ("VOC2012", IDS[5:], {"trainval": IDS[5:]}),
    ):
        voc(devkit / year, stems)
        lists(devkit / year / "ImageSets" / "Main", **content)
    if lacking:
        (devkit / "VOC2007" / "ImageSets" / "Main" / "val.txt").unlink()
        with pytest.raises(InputError, match=r"missing image set .*VOC2007/ImageSets/Main/val\.txt: VOC 2007 \+ 2012"):
            build(tmp_path / "source")
    else:
        section, records = build(tmp_path / "source")
        assert (ids(records, "train"), ids(records, "test")) == (IDS[:3] + IDS[5:], IDS[3:5])
        assert section["train"] == [["VOC2007", "trainval"], ["VOC2012", "trainval"]]
