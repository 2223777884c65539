"""The schedules of published rates: their share of the highest rate in each step. Imports no torch."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from benchmarks.tasks.finetune import Style
    from benchmarks.tasks.linear_sgd import LinearStyle

Schedule = Literal["step", "cosine-epoch", "cosine-step"]


def share_at(style: LinearStyle | Style, step: int, per_epoch: int) -> float:
    """The share of the range from the final to the highest rate at ``step``, from 0, with ``per_epoch`` steps an epoch.

    step: ``gamma`` per milestone passed. cosine-epoch: ½(1 + cos(π·epoch/epochs)), which never reaches 0
    (facebookresearch/moco-v3:main_lincls.py; CosineAnnealingLR of swav, barlowtwins, vicreg). cosine-step: from 1 to 0,
    reached in the last step (lightly-ai/lightly:lightly/utils/scheduler.py, also where that is the only one).
    """
    epoch, last = step // per_epoch, style.epochs * per_epoch - 1
    if style.schedule == "step":
        return float(style.gamma ** sum(epoch >= one for one in style.milestones))
    if style.schedule == "cosine-epoch":
        return (1 + math.cos(math.pi * epoch / style.epochs)) / 2
    return (1 + math.cos(math.pi * step / last)) / 2 if last else 0.0
