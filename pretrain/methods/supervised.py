"""Supervised classification on one augmented view: the row that self-supervised rows are read against.

Run: ``python -m pretrain demo-supervised --data FOLDER_WITH_CLASS_FOLDERS``.
"""

from __future__ import annotations

import dataclasses
from typing import Annotated

import torch.nn.functional as F
from torch import Tensor, nn

from pretrain.common.errors import InputError
from pretrain.common.ranges import Fraction
from pretrain.methods.base import Batch, Method, MethodConfig, Sizes
from pretrain.runtime.distributed import gather, gather_no_grad


@dataclasses.dataclass(frozen=True, kw_only=True)
class SupervisedConfig(MethodConfig):
    """Cross-entropy; label smoothing as in torchvision's references (off there by default, as here)."""

    label_smoothing: Annotated[float, Fraction] = 0.0


class Supervised(Method):
    """Backbone and a linear classifier, which is not exported."""

    Config = SupervisedConfig
    views, needs_labels = 1, True
    config: SupervisedConfig

    def __init__(self, config: SupervisedConfig, backbone: nn.Module, sizes: Sizes) -> None:
        super().__init__(config, backbone, sizes)
        self.classifier = nn.Linear(sizes.feature_dim, sizes.num_classes)

    def forward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Terms: loss (nats) and accuracy (share of the batch, in [0, 1])."""
        if batch.label is None:
            raise InputError("supervised pretraining needs labels")
        logits, label = gather(self.classifier(self.backbone(batch.views[0])).float()), gather_no_grad(batch.label)
        loss = F.cross_entropy(logits, label, label_smoothing=self.config.label_smoothing)
        return {"loss": loss, "accuracy": (logits.detach().argmax(1) == label).float().mean()}
