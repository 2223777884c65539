"""A tiny prepared VOC root whose classes are colours, and a checkpoint of a random network."""

import json

import numpy as np
import torch
from PIL import Image
from torchvision.models import resnet18

from benchmarks.data.root import DataRoot
from benchmarks.data.vocxml import VocImage, VocObject, write_xml
from transfer.checkpoints.backbone import backbone_of
from transfer.checkpoints.reading.read import load_checkpoint

COLOURS = {"blue": (40, 60, 240), "green": (30, 230, 60), "red": (240, 40, 40)}


def voc_root(folder, lists, classes=tuple(COLOURS)):
    """``lists``: {(split, year, image set): {id: [(class, difficult), …]}}, a square of its colour for each object."""
    section = {"classes": list(classes), "train": [], "test": [], "counts": {}, "fingerprint": "f" * 64}
    for (split, year, image_set), images in lists.items():
        section[split].append([year, image_set])
        place = folder / "VOCdevkit" / year
        for name, objects in images.items():
            _write(place, name, objects)
        (place / "ImageSets" / "Main").mkdir(parents=True, exist_ok=True)
        (place / "ImageSets" / "Main" / f"{image_set}.txt").write_text("".join(f"{name}\n" for name in images))
    about = {"name": "colours", "synthetic": True, "description": "squares", "config": {}}
    (folder / "data.json").write_text(json.dumps(about | {"voc": section}))
    return DataRoot.load(folder)


def _write(place, name, objects):
    pixels = np.random.default_rng(sum(map(ord, name))).integers(90, 130, (48, 64, 3), dtype=np.uint8)
    boxes = []
    for number, (label, difficult) in enumerate(objects):
        x, y = 4 + 20 * (number % 3), 4 + 22 * (number // 3)
        pixels[y : y + 18, x : x + 18] = COLOURS.get(label, (0, 0, 0))
        boxes.append(VocObject(name=label, box=(x + 1, y + 1, x + 18, y + 18), difficult=difficult))
    (place / "JPEGImages").mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(place / "JPEGImages" / f"{name}.jpg", "JPEG")
    image = VocImage(filename=f"{name}.jpg", width=64, height=48, objects=tuple(boxes))
    write_xml(place / "Annotations" / f"{name}.xml", image, place.name)


def colours(count, seed, difficult=0.0):
    """{id: objects} of ``count`` images with each colour in about half of them."""
    generator = np.random.default_rng(seed)
    return {
        f"{seed}{number:04d}": [
            (name, bool(generator.random() < difficult)) for name in COLOURS if generator.random() < 0.5
        ]
        for number in range(count)
    }


def random_backbone(folder):
    torch.manual_seed(0)
    torch.save(resnet18(weights=None).state_dict(), folder / "x.pth")
    return backbone_of(load_checkpoint(folder / "x.pth"))
