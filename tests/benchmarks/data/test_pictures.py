"""Images with their objects."""

import os
import struct
import time

import numpy as np
import pytest
from PIL import Image, ImageOps
from pycocotools import mask as rle

from benchmarks.data.pictures import (
    COVERED,
    GROUND,
    Marked,
    colours_of,
    fitting,
    font,
    legend,
    mask_of,
    panel,
    plates,
    save,
    shared,
    spread,
    truths,
)
from benchmarks.data.root import DataRoot
from pretrain.common.errors import InputError

RED = {"thing": (200, 0, 0)}


def file(path, width=40, height=30, **saving):
    pixels = np.random.default_rng(0).integers(0, 255, (height, width, 3), np.uint8)
    Image.fromarray(pixels).save(path, **saving)
    return {"file_name": str(path), "width": width, "height": height}


def orientation(number):
    """EXIF data with one entry, a 32-bit number: Pillow writes no orientation above 65535."""
    return b"Exif\0\0II*\0" + struct.pack("<IHHHIII", 8, 1, 0x0112, 4, 1, number, 0)


@pytest.mark.parametrize("number", [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 65537])
def test_an_image_is_turned_as_its_orientation_says_and_no_other(number, tmp_path):
    stored = file(tmp_path / "a.png", exif=orientation(number))
    with Image.open(tmp_path / "a.png") as image:
        assert image.getexif()[0x0112] == number
        upright = ImageOps.exif_transpose(image) if 1 <= number <= 8 else image
        Image.fromarray(np.asarray(upright)).save(tmp_path / "b.png")
    sizes = {"width": upright.width, "height": upright.height}
    objects = [Marked(name="thing", box=(2, 3, 12, 9), segmentation=[[2, 3, 12, 3, 12, 9]])]
    drawn = [
        panel(stored | sizes | {"file_name": str(tmp_path / name)}, objects, RED, 100) for name in ("a.png", "b.png")
    ]
    assert (np.asarray(drawn[0]) == np.asarray(drawn[1])).all()
    if number in (5, 6, 7, 8):
        with pytest.raises(InputError, match="30 × 40 pixels where its annotation says 40 × 30"):
            panel(stored, objects, RED, 100)


@pytest.mark.parametrize("size", [(3000, 1), (1, 3000), (1, 1), (2, 900), (40, 30)])
def test_every_aspect_fits_its_panel(size, tmp_path):
    image = file(tmp_path / "a.png", *size)
    whole = Marked(name="thing", box=(0, 0, *size), segmentation=[[0, 0, size[0], 0, *size, 0, size[1]]])
    drawn = np.asarray(panel(image, [whole], RED, 120))
    assert drawn.shape == (120, 120, 3) and (drawn == RED["thing"]).all(axis=2).any()


def test_neither_outline_nor_name_touches_the_pixels_of_an_object(tmp_path):
    image = file(tmp_path / "a.png", 114, 114)  # 114 + 2 · 3 = 120: not scaled
    small = [Marked(name="thing", box=(x, y, x + 5, y + 4)) for x in range(8, 108, 25) for y in range(8, 108, 30)]
    bare, drawn = (np.asarray(panel(image, objects, RED, 120)) for objects in ([], small))
    for one in small:
        left, top, right, bottom = (int(value) + 3 for value in one.box)
        assert (drawn[top:bottom, left:right] == bare[top:bottom, left:right]).all()
        assert (drawn[top - 1, left:right] == RED["thing"]).all() and (drawn[top:bottom, right] == RED["thing"]).all()


def test_plates_cover_no_other_and_little_of_any_object():
    generator = np.random.default_rng(0)
    corners = generator.integers(0, 280, (60, 2))
    boxes = np.hstack([corners, corners + generator.integers(3, 60, (60, 2))]).astype(float)
    placed = [one for one in plates(boxes, ["name 0.97"] * 60, 340) if one]
    assert 5 < len(placed) < 60
    canvas = np.zeros((340, 340), dtype=int)
    for left, top, right, bottom in placed:
        assert 0 <= left < right <= 340 and 0 <= top < bottom <= 340
        canvas[round(top) : round(bottom), round(left) : round(right)] += 1
        alone = np.zeros_like(canvas)
        alone[round(top) : round(bottom), round(left) : round(right)] = 1
        for a, b, c, d in boxes.astype(int):
            assert alone[b:d, a:c].mean() <= COVERED + 0.1  # of a small box, a row of pixels by rounding
    assert canvas.max() == 1


def test_shared_pixels_against_counted_ones():
    generator = np.random.default_rng(0)
    corners = generator.integers(0, 20, (2, 10, 2))
    a, b = np.concatenate([corners, corners + generator.integers(1, 10, (2, 10, 2))], axis=2)
    canvas = np.zeros((20, 30, 30), dtype=bool)
    for layer, (left, top, right, bottom) in zip(canvas, [*a, *b], strict=True):
        layer[top:bottom, left:right] = True
    counted = [[(one & other).sum() for other in canvas[10:]] for one in canvas[:10]]
    assert shared(a, b).tolist() == counted


def test_masks_of_either_kind_are_scaled_alike():
    image = {"file_name": "a.png", "width": 60, "height": 40}
    polygons = [[5, 4, 40, 4, 40, 30, 5, 30], [45, 2, 58, 2, 58, 38, 45, 38]]
    code = rle.merge(rle.frPyObjects(polygons, 40, 60))
    assert (mask_of(polygons, image, 40, 60) == rle.decode(code)).all()
    assert (mask_of(code, image, 40, 60) == rle.decode(code)).all()
    small, large = mask_of(polygons, image, 120, 180), mask_of(code, image, 120, 180)
    assert small.shape == large.shape == (120, 180) and (small != large).mean() < 0.03
    with pytest.raises(InputError, match=r"a mask of a\.png cannot be decoded"):
        mask_of({"size": [40, 60], "counts": "T" * 300}, image, 40, 60)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("cat", "cat"),
        (r"m$\input$ <b>&amp;</b>", r"m$\input$ <b>&amp;</b>"),
        ("two\nlines\t and\u00a0more", "two lines and more"),
        ("кошка Straße", "кошка Straße"),
        ("犬\udcff\x07\u200d", r"\u72ac\udcff\x07\u200d"),
        ("", ""),
    ],
)
def test_texts_are_drawn_as_they_are_or_escaped(text, expected):
    assert fitting(text, 13, 500) == expected


@pytest.mark.parametrize("text", ["x" * 5000, "犬" * 5000, "wide " * 1000, "\n" * 5000, "í" * 20, "$" * 100_000])
@pytest.mark.parametrize("width", [8, 80, 1776])
def test_long_texts_are_cut_at_once(text, width):
    begun = time.perf_counter()
    cut = fitting(text, 13, width)
    assert font(13).getlength(cut) <= max(width, font(13).getlength("x…")) and time.perf_counter() - begun < 1
    kept = cut.removesuffix("…")
    assert kept == "" or kept.startswith(fitting(text[0], 13, 500)[: len(kept)])


def root_of(tmp_path, **classes):
    sections = {kind: {"classes": names} for kind, names in classes.items()}
    return DataRoot(path=tmp_path, name="toy", synthetic=True, description="", config={}, sections=sections)


def test_a_class_has_one_colour_in_every_layout_and_white_text_reads_on_it(tmp_path):
    many = [f"class {number}" for number in range(60)]
    colours = colours_of(root_of(tmp_path, voc=many, coco=["other", *reversed(many)]))
    assert list(colours) == [*many, "other"] and len(set(colours.values())) == 61
    assert colours_of(root_of(tmp_path, voc=many)) == {name: colours[name] for name in many}
    for colour in colours.values():
        linear = [
            level / 12.92 if level <= 0.04045 else ((level + 0.055) / 1.055) ** 2.4 for level in np.divide(colour, 255)
        ]
        assert 1.05 / (np.dot(linear, (0.2126, 0.7152, 0.0722)) + 0.05) > 3  # WCAG's contrast for large text


def test_a_legend_says_how_many_classes_it_leaves_out(tmp_path):
    colours = colours_of(root_of(tmp_path, coco=[f"class {number} " + "x" * (number % 9) for number in range(300)]))
    heights = [legend(colours, list(colours)[:count]).height for count in (0, 1, 30, 300)]
    assert heights == sorted(heights) and heights[-1] == 72
    assert (np.asarray(legend(colours, ["no class of the root"])) == 255).all()


@pytest.mark.parametrize(("length", "count"), [(0, 3), (1, 3), (3, 3), (10, 3), (1000, 20)])
def test_spread_keeps_order_and_ends_apart(length, count):
    some = spread(range(length), count)
    assert len(some) == min(length, count) and some == sorted(set(some))
    assert not some or (some[0] == 0 and max(np.diff([*some, length])) <= -(-length // count))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "no such file"),
        (os.mkfifo, "no such file"),
        (b"", "cannot identify"),
        (b"\x89PNG\r\n\x1a\n broken", "cannot read image"),
    ],
)
def test_an_absent_or_damaged_image_is_one_line(content, said, tmp_path):
    if content is os.mkfifo:
        os.mkfifo(tmp_path / "a.png")
    elif content is not None:
        (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(InputError, match=said) as error:
        panel({"file_name": str(tmp_path / "a.png"), "width": 4, "height": 4}, [], RED, 50)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", [None, "", "{", "[]", '{"images": 3}', '{"images": [], "annotations": []}'])
def test_damaged_annotations_of_a_root_are_one_line(content, tmp_path):
    section = {"classes": ["a"], "fingerprint": f"{hash(content):x}" * 8, "counts": {"val": {"images": 1}}}
    root = DataRoot(path=tmp_path, name="toy", synthetic=True, description="", config={}, sections={"coco": section})
    (tmp_path / "coco" / "annotations").mkdir(parents=True)
    if content is not None:
        for split in ("train", "val"):
            (tmp_path / "coco" / "annotations" / f"instances_{split}2017.json").write_text(content)
    with pytest.raises(InputError, match=r"coco cannot be read \(.*prepare it again") as error:
        truths(root, "coco")
    assert "\n" not in str(error.value)


def test_a_folder_is_no_picture(tmp_path):
    with pytest.raises(InputError, match="is a folder: name the PNG"):
        save(Image.new("RGB", (2, 2), GROUND), tmp_path)
