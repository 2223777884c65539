"""SimCLR in torch: conversions of the TensorFlow checkpoints, and two reimplementations.

None of them normalises its images, so their pixel mean is 0 and their std 1 for values in [0, 1]. SimCLR v1's
conversion has torchvision's names without any mark: read it with ``--family simclr``.
"""

from __future__ import annotations

import dataclasses

from pretrain.common.pixels import PixelInput
from transfer.checkpoints.families.base import HEAD, PUBLISHED_CODE
from transfer.checkpoints.families.layout import Layout, first_match

_BLOCK = r"net\.([1-4])\.blocks\.(\d+)\."
_PARTS = {
    r"projection\.shortcut": "downsample.0",
    r"projection\.bn\.0": "downsample.1",
    **{rf"net\.{2 * n - 2}": f"conv{n}" for n in (1, 2, 3)},
    **{rf"net\.{2 * n - 1}\.0": f"bn{n}" for n in (1, 2, 3)},
}

_V2 = Layout(
    name="simclr",
    title="SimCLR in torch (conversions of v1 and v2, sthalles, Spijkervet)",
    known_from=(
        "Separius/SimCLRv2-Pytorch:convert.py, resnet.py; tonylins/simclr-converter:convert.py; sthalles/SimCLR:"
        f"simclr.py, models/resnet_simclr.py; Spijkervet/SimCLR:simclr/simclr.py; {PUBLISHED_CODE}"
    ),
    inside=(("resnet",),),
    networks={"resnet": ""},
    rename=(
        (r"net\.0\.0\.(.+)", r"conv1.\1"),
        (r"net\.0\.1\.0\.(.+)", r"bn1.\1"),
        *((rf"{_BLOCK}{theirs}\.([a-z_]+)", rf"layer\1.\2.{ours}.\3") for theirs, ours in _PARTS.items()),
    ),
    input=PixelInput(
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
        assumed="RGB images in [0, 1], not normalised, the stride in the 3×3 convolutions",
    ),
)
_STHALLES = dataclasses.replace(
    _V2,
    inside=(("state_dict",),),
    networks={"backbone": "backbone."},
    rename=(),
    drop={"backbone.fc.": HEAD},
    marks=("backbone.fc.0.", "backbone.fc.2."),
    absent=("pytorch-lightning_version",),
)
_SPIJKERVET = dataclasses.replace(
    _V2,
    inside=((),),
    networks={"encoder": "encoder."},
    rename=(),
    drop={"projector.": HEAD},
    marks=("encoder.layer2.0.downsample.", "projector.0.", "projector.2."),
    absent=("predictor.",),
)
_V1 = dataclasses.replace(_V2, inside=(("state_dict",), ()), networks={"model": ""}, rename=())

FAMILY = dataclasses.replace(
    first_match(_V2, _STHALLES, _SPIJKERVET, _V1), recognise=first_match(_V2, _STHALLES, _SPIJKERVET).recognise
)
