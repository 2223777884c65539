"""Barlow Twins, VICReg and VICRegL: ``checkpoint.pth`` and ``model.pth``, distinguished by their projectors.

The ``resnet50.pth`` that both write at the end holds only torchvision's names: see torchvision.py.
"""

from __future__ import annotations

import dataclasses

from transfer.checkpoints.families.base import CLASSIFIER, HEAD, PUBLISHED_CODE
from transfer.checkpoints.families.layout import Layout, first_match

BARLOW_TWINS = Layout(
    name="barlow-twins",
    title="Barlow Twins, its checkpoint.pth",
    known_from=f"facebookresearch/barlowtwins:main.py; {PUBLISHED_CODE}",
    inside=(("model",),),
    networks={"backbone": "backbone."},
    drop={"projector.": HEAD, "bn.": HEAD},
    marks=("projector.", "bn."),
).family()

VICREG = Layout(
    name="vicreg",
    title="VICReg, its model.pth",
    known_from=f"facebookresearch/vicreg:main_vicreg.py; {PUBLISHED_CODE}",
    inside=(("model",),),
    networks={"backbone": "backbone."},
    drop={"projector.": HEAD},
    marks=("projector.",),
    absent=("bn.", "maps_projector.", "classifier."),
).family()

_VICREGL = Layout(
    name="vicregl",
    title="VICRegL, its model.pth",
    known_from=f"facebookresearch/VICRegL:main_vicregl.py, resnet.py, utils.py, evaluate.py; {PUBLISHED_CODE}",
    inside=(("model",),),
    networks={"backbone": "backbone."},
    drop={"projector.": HEAD, "maps_projector.": HEAD, "classifier.": CLASSIFIER},
    marks=("maps_projector.",),  # its training divides red by 0.228, its evaluation by ImageNet's 0.229, as here
)
VICREGL = first_match(_VICREGL, dataclasses.replace(_VICREGL, marks=("projector.", "classifier."), absent=("bn.",)))
