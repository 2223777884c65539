"""Looking at images: sizes and orientations as detectron2 reads them, boxes turned with the picture, equal files."""

import re

import numpy as np
import pytest
from detectron2.data.detection_utils import read_image
from PIL import Image

from benchmarks.data.checks import Picture, also_in, drawn_on_stored, look_at, same_pictures
from pretrain.common.errors import InputError

STORED, BOX = (24, 16), (3, 2, 11, 7)  # (width, height); left, top, right, bottom


def photograph(path, orientation=1, box=BOX, mode="RGB"):
    """A black picture of STORED pixels, white in the box, with an EXIF orientation."""
    pixels = np.zeros((STORED[1], STORED[0]), np.uint8)
    pixels[box[1] : box[3], box[0] : box[2]] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(pixels).convert(mode).save(path, exif=exif)
    return path


def test_too_little_memory_is_no_images_fault(tmp_path, monkeypatch):
    path = photograph(tmp_path / "a.png")

    def short(*_):
        raise MemoryError

    monkeypatch.setattr(Image, "open", short)
    with pytest.raises(MemoryError):
        look_at([path], drop_unreadable=True)


@pytest.mark.parametrize("orientation", [0, 1, 2, 3, 4, 5, 6, 7, 8, 9])
@pytest.mark.parametrize("suffix", [".png", ".webp"])
def test_sizes_and_turned_boxes_are_those_of_detectron2(orientation, suffix, tmp_path):
    path = photograph(tmp_path / f"a{suffix}", orientation)
    seen = read_image(str(path), "RGB")[:, :, 0] > 128
    picture = look_at([path])[path]
    assert picture.size == (seen.shape[1], seen.shape[0]) and picture.stored == STORED
    left, top, right, bottom = map(int, picture.turned_box(BOX))
    expected = np.zeros_like(seen)
    expected[top:bottom, left:right] = True
    assert np.array_equal(seen, expected)
    x0, y0, x1, y1 = BOX
    polygon = picture.turned_polygon([x0, y0, x1, y0, x1, y1, x0, y1])
    assert {*polygon[::2]} == {left, right} and {*polygon[1::2]} == {top, bottom}
    mask = np.zeros(STORED[::-1], bool)
    mask[BOX[1] : BOX[3], BOX[0] : BOX[2]] = True
    assert np.array_equal(picture.turned_mask(mask), seen)


def test_an_orientation_that_is_none_turns_nothing(tmp_path):
    path = tmp_path / "a.png"
    exif = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x04\0\x01\0\0\0" + (65537).to_bytes(4, "little") + b"\0" * 4
    Image.new("RGB", STORED).save(path, exif=exif)
    assert Image.open(path).getexif()[0x0112] == 65537
    assert look_at([path])[path] == Picture(size=STORED)
    assert read_image(str(path), "RGB").shape[:2] == STORED[::-1]


SIDE = Picture(size=STORED[::-1], orientation=6)
UPSIDE_DOWN = Picture(size=STORED, orientation=3)
INSIDE = [(1, 1, 9, 9)]  # of both frames
UNCLEAR = "EXIF-turned image whose boxes may be drawn on it as stored or as shown"


@pytest.mark.parametrize(
    ("pictures", "stated", "boxes", "answer"),
    [
        ([SIDE], [STORED], [INSIDE], "s"),
        ([SIDE], [STORED[::-1]], [INSIDE], "-"),
        ([SIDE], [(None, None)], [[(0, 0, 24, 9)]], "s"),
        ([SIDE], [(None, None)], [[(0, 0, 9, 24)]], "-"),
        ([SIDE], [(0, 0)], [INSIDE], UNCLEAR),
        ([SIDE], [STORED], [[]], "-"),
        ([UPSIDE_DOWN], [STORED], [INSIDE], UNCLEAR),
        ([UPSIDE_DOWN, SIDE], [STORED, STORED], [INSIDE, INSIDE], "ss"),
        ([UPSIDE_DOWN, SIDE], [STORED, STORED[::-1]], [INSIDE, INSIDE], "--"),
        ([SIDE, SIDE], [STORED, STORED[::-1]], [INSIDE, INSIDE], "s-"),
        ([SIDE, SIDE, UPSIDE_DOWN], [STORED, STORED[::-1], STORED], [INSIDE] * 3, UNCLEAR),
        ([SIDE], [STORED], [[(0, 0, 9, 24)]], "EXIF-turned image whose boxes do not fit the size"),
        ([Picture(size=STORED, orientation=6, turned_twice=True)], [STORED], [INSIDE], "TIFF with an EXIF"),
        ([Picture(size=STORED)], [STORED], [INSIDE], "-"),
        ([Picture(size=STORED)], [STORED[::-1]], [INSIDE], "-"),
        ([Picture(size=STORED)], [STORED[::-1]], [[(0, 0, 9, 24)]], "image that is rotated relative to its boxes"),
        ([Picture(size=STORED)], [STORED[::-1]], [[(0, 0, 24, 9)]], "-"),
    ],
)  # fmt: skip
def test_which_boxes_were_drawn_on_the_stored_pixels(pictures, stated, boxes, answer, tmp_path):
    paths = [tmp_path / str(number) for number in range(len(pictures))]
    given = [dict(zip(paths, one, strict=True)) for one in (stated, pictures, boxes)]
    if len(answer) > len(paths):
        with pytest.raises(InputError, match=answer):
            drawn_on_stored(*given)
        return
    assert "".join("s" if path in drawn_on_stored(*given) else "-" for path in paths) == answer


@pytest.mark.parametrize(("mode", "suffix"), [("I;16", ".png"), ("I;16", ".tif"), ("I", ".tif"), ("F", ".tif")])
def test_pixels_of_more_than_eight_bits_are_refused_by_name(mode, suffix, tmp_path):
    kind = {"I;16": np.uint16, "I": np.int32, "F": np.float32}[mode]
    path = tmp_path / f"deep{suffix}"
    Image.fromarray(np.full((9, 9), 4000, kind)).save(path)
    assert read_image(str(path), "RGB").min() == 255  # 4,000 of 65,535 is dark
    for drop in (False, True):
        with pytest.raises(InputError, match=f"16-bit, 32-bit or float pixels.*{re.escape(path.name)}"):
            look_at([path, photograph(tmp_path / "a.png")], drop_unreadable=drop)


def test_equal_files_are_found_by_content(tmp_path):
    paths = [tmp_path / name for name in ("a", "b", "c", "d", "e")]
    for path, content in zip(paths, (b"x" * 9000, b"x" * 9000, b"y" + b"x" * 8999, b"", b"x" * 8999), strict=True):
        path.write_bytes(content)
    (tmp_path / "link").symlink_to(paths[4])
    a, b, c, d, e = paths
    assert same_pictures([*paths, tmp_path / "link"]) == {a: a, b: a, c: c, d: d, e: e, tmp_path / "link": e}
    assert (also_in([a, c], [b, d]), also_in([a, b], [c, d]), also_in([a, b, c], [a, b, c])) == (1, 0, 2)
