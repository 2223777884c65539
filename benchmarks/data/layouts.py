"""The layouts that a section of a data root may have: where its files are, how it is split, who writes it.

A further layout is one more entry here, with its reader in registration.READERS and a command of `prepare` that writes
it. Imports no torch.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Layout:
    """One layout."""

    folder: str
    """Under the root."""
    about: str
    """The data that have it, in words."""
    prepare: str
    """The command of `prepare` that writes it."""
    needs: str = ""
    """Files that this command takes up only where they are, in words."""
    test: str = "val"
    """The split that is tested on, as ``counts`` calls it."""
    objects: str = "annotations"
    """The name of a split's number of objects in ``counts``."""
    evaluator: str = ""
    """The kind of its evaluator, one of EVALUATORS (transfer/detection/evaluation/choose.py); a detection layout's."""


LAYOUTS = {
    "imagenet": Layout(
        folder="imagenet",
        about="images in a folder per class, split into train and val",
        prepare="imagenet",
    ),
    "voc": Layout(
        folder="VOCdevkit",
        about="PASCAL VOC, or any set in its layout",
        prepare="voc",
        test="test",
        objects="objects",
        evaluator="pascal_voc",
    ),
    "coco": Layout(folder="coco", about="COCO, or any set in its layout", prepare="coco", evaluator="coco"),
    "keypoints": Layout(
        folder="keypoints",
        about="COCO with its person keypoints",
        prepare="coco",
        needs="person_keypoints_train2017.json and person_keypoints_val2017.json beside COCO's instances",
        evaluator="coco",
    ),
    "cityscapes": Layout(
        folder="cityscapes",
        about="Cityscapes, fine annotations",
        prepare="cityscapes",
        evaluator="cityscapes",
    ),
    "lvis": Layout(folder="lvis", about="LVIS v1 on the images of COCO 2017", prepare="lvis", evaluator="lvis"),
}
