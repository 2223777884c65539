"""PASCAL VOC annotation files: one image, its objects, read leniently and written as VOC itself writes them.

    python -c "from benchmarks.datasets.vocxml import read_xml; print(read_xml('VOC2007/Annotations/000001.xml'))"

Boxes are VOC's: (xmin, ymin, xmax, ymax), 1-based and inclusive, so that a box over the whole image is (1, 1, W, H).
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import Path

from pretrain.errors import InputError


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


def read_xml(path: Path | str) -> VocImage:
    """Read an annotation file. ``pose``, ``truncated``, ``difficult`` and ``size`` may be missing; InputError else."""
    try:
        root = ET.parse(path).getroot()
        return VocImage(
            filename=root.findtext("filename") or "",
            width=round(float(root.findtext("size/width") or 0)),
            height=round(float(root.findtext("size/height") or 0)),
            objects=tuple(_read_object(node) for node in root.findall("object")),
        )
    except (ET.ParseError, OSError, ValueError, TypeError, AttributeError, OverflowError) as error:
        raise InputError(f"{path} is not a readable VOC annotation ({error})") from None


def _read_object(node: ET.Element) -> VocObject:
    name = (node.findtext("name") or "").strip()
    if not name:
        raise ValueError("an object without a name")
    corners = [node.findtext(f"bndbox/{corner}") for corner in ("xmin", "ymin", "xmax", "ymax")]
    if None in corners:
        raise ValueError(f"object {name} without a complete bndbox")
    left, top, right, bottom = (float(corner or "") for corner in corners)
    return VocObject(
        name=name,
        box=(left, top, right, bottom),
        truncated=_flag(node, "truncated"),
        difficult=_flag(node, "difficult"),
        pose=(node.findtext("pose") or "").strip() or "Unspecified",
    )


def _flag(node: ET.Element, name: str) -> bool:
    return bool(float(node.findtext(name) or 0))


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
