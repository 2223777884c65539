"""PASCAL VOC annotation files: one image, its objects, read leniently and written as in VOC.

    python -c "from benchmarks.data.vocxml import read_xml; print(read_xml('VOC2007/Annotations/000001.xml'))"

Boxes are VOC's: (xmin, ymin, xmax, ymax), 1-based and inclusive, so that a box over the whole image is (1, 1, W, H).
"""

from __future__ import annotations

import codecs
import math
import re
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import Path
from xml.parsers import expat

from pretrain.common.errors import InputError

NO = frozenset({"", "unspecified", "none", "no", "false", "n"})
YES = frozenset({"yes", "true", "y"})
DEEPEST = 100  # levels of elements; VOC has five
MOST_PIXELS = 1_000_000  # of a side
LARGEST = 1 << 22  # bytes: some 15,000 objects
# Only Python's encodings of texts: punycode would take hours.
DECLARED = re.compile(
    rb"""\s*<\?xml[^>]{,80}encoding=["']((?:utf|us|ascii|iso|latin|windows|cp|mac|koi|gb|big5|euc|shift)[\w.-]{,20})["']""",
    re.IGNORECASE,
)


@dataclass(frozen=True, kw_only=True)
class VocObject:
    """One object: class name, 1-based inclusive box in pixels (not rounded), and VOC's flags."""

    name: str
    box: tuple[float, float, float, float]
    truncated: bool = False
    difficult: bool = False
    pose: str = "Unspecified"


@dataclass(frozen=True, kw_only=True)
class VocImage:
    """One annotation file: the image's file name and size (0 × 0 where the file does not say), and its objects."""

    filename: str
    width: int
    height: int
    objects: tuple[VocObject, ...]
    empty_file: bool = False


def read_xml(path: Path | str) -> VocImage:
    """Read an annotation file. ``pose``, ``truncated``, ``difficult`` and ``size`` may be missing; InputError else.

    An empty file is the annotation of an image without objects.
    """
    try:
        text = _text(Path(path)).strip()
        if not text:
            return VocImage(filename="", width=0, height=0, objects=(), empty_file=True)
        root = _parsed(text)
        nodes = root.findall("object")
        if not nodes and (root.tag.lower() != "annotation" or root.find(".//object") is not None):
            raise ValueError(f"<{root.tag[:40]}> without an <object> directly in it")
        return VocImage(
            filename=(root.findtext("filename") or "").strip(),
            width=_pixels(root, "size/width"),
            height=_pixels(root, "size/height"),
            objects=tuple(_read_object(node) for node in nodes),
        )
    except (expat.ExpatError, ET.ParseError, OSError, ValueError, LookupError) as error:
        raise InputError(f"{path} is not a readable VOC annotation ({error}): correct it, or remove it") from None


def _text(path: Path) -> str:
    """The characters of an XML file, by its byte order mark, or the encoding that it declares, or UTF-8."""
    if not path.is_file():  # opening a pipe would block
        raise OSError("not a file" if path.exists() else "no such file")
    if path.stat().st_size > LARGEST:
        raise OSError(f"{path.stat().st_size:,} bytes are more than an image's annotation has")
    content = path.read_bytes()
    declared = DECLARED.match(content)
    return decoded(content, declared[1].decode() if declared else "utf-8")


def _parsed(text: str) -> ET.Element:
    """The root element. ValueError for entities, which may expand without end, and for deep nesting."""
    depth = 0

    def start(*_: object) -> None:
        nonlocal depth
        depth += 1
        if depth > DEEPEST:
            raise ValueError(f"nested more than {DEEPEST} levels deep")

    def end(_: str) -> None:
        nonlocal depth
        depth -= 1

    def entity(*_: object) -> None:
        raise ValueError("it declares entities, which may expand without end")

    parser = expat.ParserCreate()
    parser.StartElementHandler, parser.EndElementHandler, parser.EntityDeclHandler = start, end, entity
    parser.Parse(text, True)
    return ET.fromstring(text)


def decoded(content: bytes, encoding: str = "utf-8") -> str:
    """Text by its byte order mark (UTF-8 or UTF-16), else in ``encoding``. ValueError if it is in another."""
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        encoding = "utf-16"
    elif content.startswith(codecs.BOM_UTF8) or encoding.lower().startswith("utf-16"):
        encoding = "utf-8-sig"  # .NET declares UTF-16 for any encoding
    return content.decode(encoding)


def _number(node: ET.Element, path: str, missing: str | None = None) -> float:
    """The finite number at ``path``; ValueError if there is none."""
    text = (node.findtext(path, "") or "").strip() or missing
    try:
        number = float(text or "nothing")
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"{path} is {text[:40]!r}, no number" if text else f"without a {path}")
    return number


def _pixels(root: ET.Element, path: str) -> int:
    """A side of the image, rounded; 0 where it is not stated."""
    number = _number(root, path, "0")
    if not 0 <= number < MOST_PIXELS:
        raise ValueError(f"{path} is {number:g}, no number of pixels")
    return round(number)


def _read_object(node: ET.Element) -> VocObject:
    name = re.sub(r"\s*[\r\n\t]\s*", " ", (node.findtext("name") or "").strip())
    if not name:
        raise ValueError("an object without a name")
    if node.find("bndbox") is None:
        raise ValueError(f"object {name[:40]} without a bndbox")
    left, top, right, bottom = (_number(node, f"bndbox/{corner}") for corner in ("xmin", "ymin", "xmax", "ymax"))
    return VocObject(
        name=name,
        box=(left, top, right, bottom),
        truncated=_flag(node, "truncated", used=False),
        difficult=_flag(node, "difficult", used=True),
        pose=(node.findtext("pose") or "").strip() or "Unspecified",
    )


def _flag(node: ET.Element, name: str, *, used: bool) -> bool:
    """A number or a word as a flag. Any other word is False, or ValueError where the evaluator uses the flag."""
    text = (node.findtext(name) or "").strip().lower()
    if text in NO | YES:
        return text in YES
    try:
        return bool(_number(node, name))
    except ValueError:
        if used:
            raise ValueError(f"{name} is {text[:40]!r}, neither 0 nor 1") from None
        return False


def write_xml(path: Path, image: VocImage, folder: str) -> None:
    """Write ``image`` as VOC does; every element that detectron2's and torchvision's readers ask for is there."""
    root = ET.Element("annotation")
    ET.SubElement(root, "folder").text = folder
    ET.SubElement(root, "filename").text = image.filename
    size = ET.SubElement(root, "size")
    for key, value in (("width", image.width), ("height", image.height), ("depth", 3)):
        ET.SubElement(size, key).text = str(value)
    ET.SubElement(root, "segmented").text = "0"
    for one in image.objects:
        node = ET.SubElement(root, "object")
        for key in ("name", "pose"):
            ET.SubElement(node, key).text = getattr(one, key)
        for key in ("truncated", "difficult"):
            ET.SubElement(node, key).text = str(int(getattr(one, key)))
        box = ET.SubElement(node, "bndbox")
        for key, corner in zip(("xmin", "ymin", "xmax", "ymax"), one.box, strict=True):
            ET.SubElement(box, key).text = f"{corner:.10g}"
    ET.indent(root)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(ET.tostring(root, encoding="unicode") + "\n", encoding="utf-8")
