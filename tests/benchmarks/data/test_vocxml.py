"""VOC annotation files as tools write them, and as attackers do: read right, or one line at once."""

import os
import time
from dataclasses import replace

import pytest

from benchmarks.data.vocxml import VocImage, VocObject, read_xml, write_xml
from pretrain.common.errors import InputError

BOX = "<bndbox><xmin>1</xmin><ymin>2</ymin><xmax>9</xmax><ymax>8.5</ymax></bndbox>"
PLAIN = f"<annotation><filename>a.jpg</filename><object><name>Käfer</name>{BOX}</object></annotation>"
BEETLE = VocObject(name="Käfer", box=(1, 2, 9, 8.5))
FOUND = VocImage(filename="a.jpg", width=0, height=0, objects=(BEETLE,))


def declared(encoding):
    return f'<?xml version="1.0" encoding="{encoding}"?>{PLAIN}'


READ = {
    "UTF-8": PLAIN.encode(),
    "byte order mark": PLAIN.encode("utf-8-sig"),
    "UTF-16": declared("utf-16").encode("utf-16"),
    "UTF-16 declared, UTF-8 written": declared("utf-16").encode(),
    "Latin-1": declared("ISO-8859-1").encode("latin-1"),
    "Windows": declared("windows-1252").encode("cp1252"),
    "Chinese encoding": declared("gb18030").encode("gb18030"),
    "line ends first": ("\r\n\n" + declared("utf-8")).encode(),
    "DOCTYPE": b"<!DOCTYPE annotation>" + PLAIN.encode(),
    "blanks in the name": PLAIN.replace("Käfer", "\n  Käfer \t").encode(),
}


@pytest.mark.parametrize("case", READ)
def test_encodings_and_spellings_give_the_same_annotation(case, tmp_path):
    (tmp_path / "a.xml").write_bytes(READ[case])
    assert read_xml(tmp_path / "a.xml") == FOUND


@pytest.mark.parametrize(
    ("flags", "truncated", "difficult"),
    [
        ("", False, False),
        ("<truncated>Unspecified</truncated><difficult>Unspecified</difficult>", False, False),
        ("<truncated>0.0597</truncated><difficult>1</difficult>", True, True),
        ("<truncated>a little</truncated><difficult>True</difficult>", False, True),
        ("<truncated>YES</truncated><difficult> no </difficult>", True, False),
        ("<truncated/><difficult>0.0</difficult><pose/>", False, False),
    ],
)
def test_flags_in_words_and_fractions(flags, truncated, difficult, tmp_path):
    (tmp_path / "a.xml").write_text(PLAIN.replace("<bndbox>", f"{flags}<bndbox>"))
    (one,) = read_xml(tmp_path / "a.xml").objects
    assert one == replace(BEETLE, truncated=truncated, difficult=difficult)


@pytest.mark.parametrize("content", [b"", b" \r\n", b"\xef\xbb\xbf"])
def test_an_empty_file_is_an_image_without_objects(content, tmp_path):
    (tmp_path / "a.xml").write_bytes(content)
    assert read_xml(tmp_path / "a.xml") == VocImage(filename="", width=0, height=0, objects=(), empty_file=True)


LAUGHS = "".join(f'<!ENTITY a{i} "{f"&a{i - 1};" * 10}">' for i in range(1, 12))
REFUSED = {
    "difficult in other words": (PLAIN.replace("<bndbox>", "<difficult>perhaps</difficult><bndbox>"), "'perhaps', nei"),
    "nan": (PLAIN.replace("8.5", "nan"), "bndbox/ymax is 'nan', no number"),
    "infinity": (PLAIN.replace("8.5", "1e999"), "'1e999', no number"),
    "comma": (PLAIN.replace("8.5", "8,5"), "'8,5', no number"),
    "digits": (PLAIN.replace("8.5", "9" * 100_000), "'9{40}', no number"),
    "no corner": (PLAIN.replace("<ymax>8.5</ymax>", ""), "without a bndbox/ymax"),
    "rotated box": (PLAIN.replace("bndbox", "robndbox"), "object Käfer without a bndbox"),
    "size": (PLAIN.replace("<object>", "<size><width>1e300</width></size><object>"), "width is 1e.300, no number of p"),
    "entities": (f'<!DOCTYPE x [<!ENTITY a0 "ha">{LAUGHS}]><annotation>&a11;</annotation>', "entities"),
    "depth": ("<annotation>" + "<a>" * 1_000_000, "nested more than 100 levels"),
    "length": (" " * (1 << 23), "8,388,608 bytes are more"),
    "other XML": ("<project/>", "<project> without an <object>"),
    "objects in a list": (f"<annotation><objects>{PLAIN[12:-13]}</objects></annotation>", "without an <object>"),
    "prefix": ("<x:annotation/>", "unbound prefix"),
    "NUL": ("\0" * 9, "not well-formed"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_read_is_one_line_at_once(case, tmp_path):
    content, message = REFUSED[case]
    (tmp_path / "a.xml").write_text(content)
    started = time.process_time()
    with pytest.raises(InputError, match=f"a.xml is not a readable VOC annotation .*{message}") as caught:
        read_xml(tmp_path / "a.xml")
    assert time.process_time() - started < 2 and str(caught.value).isprintable() and len(str(caught.value)) < 400


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.xml")
    for name in ("a.xml", "b.xml"):
        with pytest.raises(InputError, match=r"not a readable.*not a file|no such file"):
            read_xml(tmp_path / name)


def test_what_is_written_is_read_again(tmp_path):
    objects = (replace(BEETLE, name="a & <b>", difficult=True), BEETLE)
    image = VocImage(filename="x y.jpg", width=40, height=30, objects=objects)
    write_xml(tmp_path / "a.xml", image, "VOC2007")
    assert read_xml(tmp_path / "a.xml") == image
