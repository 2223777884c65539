"""The C4 detection head with an extra batch norm after res5, which detectron2 lacks.

Importing this module registers it, so that ``MODEL.ROI_HEADS.NAME: Res5ROIHeadsExtraNorm`` works.
"""

from __future__ import annotations

from typing import Any

from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec, get_norm
from detectron2.modeling.roi_heads import ROI_HEADS_REGISTRY, Res5ROIHeads


@ROI_HEADS_REGISTRY.register()
class Res5ROIHeadsExtraNorm(Res5ROIHeads):
    """Res5ROIHeads with a norm of kind RESNETS.NORM over res5's output channels, since these weights' features are not
    scaled for detection (He et al., Momentum Contrast, CVPR 2020, appendix A.1). Its parameters are ``res5.norm.*``."""

    def __init__(self, cfg: CfgNode, input_shape: dict[str, ShapeSpec], **kwargs: Any) -> None:
        super().__init__(cfg, input_shape, **kwargs)
        self.res5.add_module("norm", get_norm(cfg.MODEL.RESNETS.NORM, self.res5[-1].out_channels))
