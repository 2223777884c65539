"""The presets: every name that ``python -m pretrain NAME`` knows, as values derived from one another.

``python -m pretrain --help`` lists them.
"""

from __future__ import annotations

from dataclasses import replace

from pretrain.config import PretrainConfig
from pretrain.methods import RandomConfig, SimCLRConfig, SuperInfoConfig, SupervisedConfig
from pretrain.views import ViewsConfig

# Strong colour augmentation, because object colour is the shortcut of the embedded set.
_EMBEDDED_VIEWS = ViewsConfig(
    crop_scale=(0.35, 1.0), brightness=0.6, contrast=0.6, saturation=0.6, hue=0.5, grey=0.3, blur=0.0
)
# One process a core, so images are decoded inline.
_DEMO = PretrainConfig(
    method=SimCLRConfig(temperature=0.2),
    image_size=48,
    batch_size=64,
    steps=445,
    optimizer="adamw",
    learning_rate=1e-3,
    lr_batch=None,
    weight_decay=0.01,
    views=_EMBEDDED_VIEWS,
    reader="pillow",
    workers=0,
)
# κb = 1/τ and d as SimCLR's here, so that the deterministic switch gives the SimCLR row. λ: docs/demo.md.
_DEMO_SUPERINFO = SuperInfoConfig(dim=128, kappa_b=5.0, lambda_a=0.01, lambda_b=0.01)

PRESETS: dict[str, PretrainConfig] = {
    "demo-superinfo": replace(_DEMO, method=_DEMO_SUPERINFO),
    "demo-simclr": _DEMO,
    "demo-supervised": replace(_DEMO, method=SupervisedConfig(), steps=250),
    "demo-random": replace(_DEMO, method=RandomConfig(), steps=0, zero_init_residual=False),
    # SimCLR's recipe (LARS 0.3·B/256, weight decay 1e-6, 10 epochs of warm-up, full augmentation) with C-SimCLR's
    # κe 1024, κb 10, d 256, λ 1. Theirs: batch 4096 and λ without warm-up (scripts/csimclr.sh).
    "superinfo-r50-200ep": PretrainConfig(method=SuperInfoConfig()),
}
PRESETS |= {
    name.replace("demo", "smoke"): replace(demo, steps=min(demo.steps, 10), batch_size=32)
    for name, demo in PRESETS.items()
    if name.startswith("demo") and demo.steps is not None
}
