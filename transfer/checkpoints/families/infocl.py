"""InfoCL (SimCLR, BYOL and Barlow Twins with its losses): a bare state dict with its own names for the shortcuts."""

from __future__ import annotations

from transfer.checkpoints.families.base import HEAD, PUBLISHED_CODE
from transfer.checkpoints.families.layout import Layout

FAMILY = Layout(
    name="infocl",
    title="InfoCL",
    known_from=(
        "Haoqing-Wang/InfoCL:contrastive_learning/SimCLR/modules/simclr.py, contrastive_learning/BYOL/model.py, "
        f"det_seg/convert.py; {PUBLISHED_CODE}"
    ),
    networks={"encoder": "encoder."},
    drop={"projector.": HEAD, "predictor.": HEAD},
    rename=(
        (r"(layer\d\.\d+)\.ds_conv1\.(.+)", r"\1.downsample.0.\2"),
        (r"(layer\d\.\d+)\.ds_bn1\.(.+)", r"\1.downsample.1.\2"),
    ),
    marks=("encoder.layer2.0.ds_conv1.",),
).family()
