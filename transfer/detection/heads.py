"""The C4 detection head with an extra batch norm after res5, which detectron2 lacks, trained whole or with res5 frozen.

Importing this module registers both, so that ``MODEL.ROI_HEADS.NAME: Res5ROIHeadsExtraNorm`` works.
"""

from __future__ import annotations

from typing import Any

from detectron2.config import CfgNode
from detectron2.layers import CNNBlockBase, ShapeSpec, get_norm
from detectron2.modeling.roi_heads import ROI_HEADS_REGISTRY, Res5ROIHeads

FROZEN = "FrozenRes5ROIHeadsExtraNorm"


@ROI_HEADS_REGISTRY.register()
class Res5ROIHeadsExtraNorm(Res5ROIHeads):
    """Res5ROIHeads with a norm of kind RESNETS.NORM over res5's output channels, since these weights' features are not
    scaled for detection (He et al., Momentum Contrast, CVPR 2020, appendix A.1). Its parameters are ``res5.norm.*``."""

    def __init__(self, cfg: CfgNode, input_shape: dict[str, ShapeSpec], **kwargs: Any) -> None:
        super().__init__(cfg, input_shape, **kwargs)
        self.res5.add_module("norm", get_norm(cfg.MODEL.RESNETS.NORM, self.res5[-1].out_channels))


@ROI_HEADS_REGISTRY.register()
class FrozenRes5ROIHeadsExtraNorm(Res5ROIHeadsExtraNorm):
    """Res5ROIHeadsExtraNorm whose res5 blocks are frozen: the part of a C4 network that FREEZE_AT 5 does not reach.

    As FREEZE_AT does it: no gradients, and batch norms with the checkpoint's statistics. The extra norm is trained.
    """

    def __init__(self, cfg: CfgNode, input_shape: dict[str, ShapeSpec], **kwargs: Any) -> None:
        super().__init__(cfg, input_shape, **kwargs)
        for block in self.res5:
            if isinstance(block, CNNBlockBase):
                block.freeze()
