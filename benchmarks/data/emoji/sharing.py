"""Which drawings the classification images and the scenes of the embedded set show: all, or parts with a known overlap.

    python -m benchmarks prepare emoji --profile demo --pretraining other-classes

Of the sets for the question how much pretraining images and scenes must share, the scenes are the same byte for byte:
ten classes, of each the first part of its drawings. The images show these drawings (same-drawings), the second
part of the same classes' (other-drawings), or ten other classes; 18 drawings in each case. Drawings that look alike
are in one part or left out. A class with one drawing has no other one, so it is among the other classes.
"""

from __future__ import annotations

from collections.abc import Mapping

from benchmarks.data.drawing import DRAWINGS
from benchmarks.data.emoji import Pretraining

SCENES = {  # the scenes' drawings, and others of the same classes
    "aeroplane": (("2708", "1F6E9"), ("1F6EB", "1F6EC")),
    "bird": (("1F54A", "1F989"), ("1F413", "1F9A9")),
    "boat": (("26F5", "1F6F3"), ("1F6F6", "1F6A4")),
    "bottle": (("1F37E", "E0CB"), ("1F37C", "1F9F4")),
    "car": (("1F697", "1F699"), ("1F698", "1F694")),
    "cat": (("1F408",), ("1F431",)),
    "cow": (("1F404",), ("1F42E",)),
    "dog": (("1F415", "1F9AE"), ("1F436", "1F429")),
    "person": (("1F9CD", "1F469"), ("1F3C3", "1F57A")),
    "train": (("1F686", "1F682"), ("1F684", "1F683")),
}
OTHER_CLASSES = {name: drawings for name, drawings in DRAWINGS.items() if name not in SCENES} | {
    "bus": ("1F68C", "1F68D")
}


def scene_drawings(pretraining: Pretraining) -> Mapping[str, tuple[str, ...]]:
    """The drawings of the scenes by class."""
    return DRAWINGS if pretraining == "all" else {name: first for name, (first, _) in SCENES.items()}


def image_drawings(pretraining: Pretraining) -> Mapping[str, tuple[str, ...]]:
    """The drawings of the classification images by class."""
    if pretraining == "other-drawings":
        return {name: second for name, (_, second) in SCENES.items()}
    return OTHER_CLASSES if pretraining == "other-classes" else scene_drawings(pretraining)
