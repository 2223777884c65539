"""Barlow Twins and VICReg: ``checkpoint.pth`` and ``model.pth``, told apart by their projectors.

The ``resnet50.pth`` that both write at the end holds torchvision's names and nothing else: see there.
"""

from __future__ import annotations

from transfer.sources.base import HEAD, PUBLISHED_CODE
from transfer.sources.layout import Layout

BARLOW_TWINS = Layout(
    name="barlow-twins",
    title="Barlow Twins, its checkpoint.pth",
    known_from=f"facebookresearch/barlowtwins:main.py; {PUBLISHED_CODE}",
    inside=(("model",),),
    networks={"backbone": "backbone."},
    drop={"projector.": HEAD, "bn.": HEAD},
    marks=("projector.", "bn."),
).source()

VICREG = Layout(
    name="vicreg",
    title="VICReg, its model.pth",
    known_from=f"facebookresearch/vicreg:main_vicreg.py; {PUBLISHED_CODE}",
    inside=(("model",),),
    networks={"backbone": "backbone."},
    drop={"projector.": HEAD},
    marks=("projector.",),
    absent=("bn.",),
).source()
