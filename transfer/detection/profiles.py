"""Changes of a detection protocol by the small profiles: sizes, iterations and the optimiser, never the code path.

``paper`` changes nothing. ``small`` is for people's own photographs on one GPU or a CPU: its sizes, anchors and
schedule come from the training annotations (fitted.py). ``demo`` is for scenes of 128 pixels on a CPU, ``smoke`` only
tests that all parts run.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from transfer.detection.fitted import BATCH, DataFacts, fitted

Profile = Literal["smoke", "demo", "small", "paper"]
FITTED: Profile = "small"  # the profile that depends on the data
LOADERS = 4  # its processes that load images for a GPU; a CPU has no core to spare for one
Overlay = dict[str, Any]

_SMALL: Overlay = {
    "MODEL.RESNETS.NORM": "BN",
    "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE": 32,
    "INPUT.MIN_SIZE_TRAIN": (128,),
    "INPUT.MIN_SIZE_TEST": 128,
    "INPUT.MAX_SIZE_TRAIN": 213,
    "INPUT.MAX_SIZE_TEST": 213,
    "SOLVER.OPTIMIZER": "AdamW",
    "SOLVER.BASE_LR": 5e-4,
    "SOLVER.WEIGHT_DECAY": 0.01,
    "SOLVER.LR_SCHEDULER_NAME": "WarmupCosineLR",
    "SOLVER.STEPS": (),
    "SOLVER.CLIP_GRADIENTS.ENABLED": True,
    "SOLVER.CLIP_GRADIENTS.CLIP_TYPE": "norm",
    "SOLVER.CLIP_GRADIENTS.CLIP_VALUE": 5.0,
    "SOLVER.IMS_PER_BATCH": 4,
    "SOLVER.REFERENCE_WORLD_SIZE": 0,
    "TEST.PRECISE_BN.NUM_ITER": 10,
    "DATALOADER.NUM_WORKERS": 0,
    "TRANSFER.CPU_BF16": True,
    "TRANSFER.RESUME": False,
    "TRANSFER.KEEP_FILES": False,
}
_SMALL_FPN: Overlay = {
    "MODEL.FPN.NORM": "BN",
    "MODEL.FPN.OUT_CHANNELS": 128,  # the protocol's 256 take a third of a training step's time on a CPU
    "MODEL.RPN.POST_NMS_TOPK_TEST": 200,  # instead of 1000: a scene has five objects
    "MODEL.ROI_BOX_HEAD.FC_DIM": 512,
    "MODEL.ROI_BOX_HEAD.NORM": "BN",
    "MODEL.ROI_MASK_HEAD.NORM": "BN",
    "MODEL.ROI_MASK_HEAD.NUM_CONV": 2,
    "MODEL.ROI_MASK_HEAD.CONV_DIM": 128,
}
_SMALL_CONV_HEAD: Overlay = {"MODEL.ROI_BOX_HEAD.CONV_DIM": 128}
_SMALL_KEYPOINT_HEAD: Overlay = {"MODEL.ROI_KEYPOINT_HEAD.CONV_DIMS": (128, 128)}  # for eight of 512 channels
_SMALL_C4: Overlay = {
    # Each proposal costs a pass through res5, and the map of a 128-pixel image is 8×8: 14×14 samples gain nothing.
    "MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION": 7,
    "MODEL.RPN.POST_NMS_TOPK_TEST": 100,
}
_SMOKE: Overlay = {
    "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE": 8,
    "MODEL.RPN.POST_NMS_TOPK_TEST": 15,
    "INPUT.MIN_SIZE_TRAIN": (96,),
    "INPUT.MIN_SIZE_TEST": 96,
    "INPUT.MAX_SIZE_TRAIN": 160,
    "INPUT.MAX_SIZE_TEST": 160,
    "SOLVER.IMS_PER_BATCH": 2,
    "SOLVER.MAX_ITER": 8,
    "SOLVER.WARMUP_ITERS": 1,
    "TEST.PRECISE_BN.NUM_ITER": 2,
    "TEST.DETECTIONS_PER_IMAGE": 10,
}
_DEMO_ITERATIONS = {"fpn": 300, "c4": 450}
_PHOTOGRAPHS: Overlay = {
    "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE": 64,
    "MODEL.RPN.POST_NMS_TOPK_TEST": 300,
    "SOLVER.IMS_PER_BATCH": BATCH,
    "SOLVER.BASE_LR": 2.5e-4,  # between 1.5e-4 and 5e-4, which gave equal AP (docs/photographs.md)
    "SOLVER.WEIGHT_DECAY": 0.05,
    "TRANSFER.RESUME": True,  # from checkpoints that are deleted at the end
}
_PHOTOGRAPHS_C4: Overlay = {"MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE": 32, "MODEL.RPN.POST_NMS_TOPK_TEST": 100}


def overlay(
    profile: Profile,
    *,
    fpn: bool,
    conv_head: bool = False,
    keypoints: bool = False,
    facts: DataFacts | None = None,
    anchors: Sequence[int] = (1,) * 5,
) -> Overlay:
    """detectron2 key → the profile's value, which replaces the protocol's; of norms, only synchronised ones.

    ``conv_head``: the box head has convolutions; ``keypoints``: there is a keypoint head. Of FITTED, ``facts`` of the
    training set, without which the keys of fitted.py stay as they are, and ``anchors``, the protocol's number of anchor
    sizes on each level.
    """
    if profile == "paper":
        return {}
    small = _SMALL | (_SMALL_FPN if fpn else _SMALL_C4) | (_SMALL_CONV_HEAD if conv_head else {})
    small |= _SMALL_KEYPOINT_HEAD if keypoints else {}
    if profile == "smoke":
        return small | _SMOKE
    if profile == FITTED:
        return small | _PHOTOGRAPHS | ({} if fpn else _PHOTOGRAPHS_C4) | (fitted(facts, anchors) if facts else {})
    iterations = _DEMO_ITERATIONS["fpn" if fpn else "c4"]
    return small | {"SOLVER.MAX_ITER": iterations, "SOLVER.WARMUP_ITERS": round(0.08 * iterations)}
