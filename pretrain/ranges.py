"""What every setting of a pretraining run may be: one table, checked before anything else is done."""

from __future__ import annotations

import math
import sys
from operator import attrgetter
from typing import Any

from pretrain.common.errors import InputError

_LEAST, _MOST = sys.float_info.min, sys.float_info.max
_COUNT = (0, math.inf, "0 or more")
_SHARE = (0, 1, "between 0 and 1")
_AMOUNT = (0, _MOST, "finite and 0 or more")
_POSITIVE = (_LEAST, _MOST, "finite and above 0")
_DIMENSION = (2, math.inf, "at least 2")
_KAPPA = (_LEAST, 1e6, "above 0 and at most 1e6")

RANGES: dict[str, tuple[float, float, str]] = {
    "batch_size": (2, math.inf, "at least 2"),
    "image_size": (17, math.inf, "at least 17"),  # see LEAST_CELL in jigsaw.py
    "steps": _COUNT,
    "epochs": _COUNT,
    "workers": _COUNT,
    "save_every": (1, math.inf, "at least 1"),
    "save_seconds": _COUNT,
    "keep": (1, math.inf, "at least 1"),
    "probe_every": (1, math.inf, "at least 1, or None"),
    "seed": (0, 2**63 - 1, "between 0 and 2^63 - 1"),
    "learning_rate": _POSITIVE,
    "bias_rate": _POSITIVE,
    "momentum": (0, math.nextafter(1, 0), "at least 0 and under 1"),
    "weight_decay": _AMOUNT,
    "warmup": _SHARE,
    "views.flip": _SHARE,
    "views.jitter": _SHARE,
    "views.grey": _SHARE,
    "views.blur": _SHARE,
    "views.brightness": _AMOUNT,
    "views.contrast": _AMOUNT,
    "views.saturation": _AMOUNT,
    "views.hue": (0, 0.5, "between 0 and 0.5"),
    "views.rand_augment": _COUNT,
    "views.rand_magnitude": (0, 10, "between 0 and 10"),
    "views.solarise": _SHARE,
    "method.dim": _DIMENSION,
    "method.hidden_dim": _DIMENSION,
    "method.temperature": _POSITIVE,
    "method.kappa_e": _KAPPA,
    "method.kappa_b": _KAPPA,
    "method.sigma_min": _POSITIVE,
    "method.sigma_max": _POSITIVE,
    "method.lambda_a": _AMOUNT,
    "method.lambda_b": _AMOUNT,
    "method.lambda_warmup": _SHARE,
    "method.label_smoothing": _SHARE,
    "method.queue": (1, math.inf, "at least 1"),
    "method.momentum": _SHARE,
    "method.negatives": (1, math.inf, "at least 1"),
    "method.bank_momentum": _SHARE,
    "method.jigsaw_weight": _SHARE,
    "method.target_momentum": _SHARE,
    "method.predictor_dim": _DIMENSION,
    "method.redundancy_weight": _AMOUNT,
    "method.invariance_weight": _AMOUNT,
    "method.variance_weight": _AMOUNT,
    "method.covariance_weight": _AMOUNT,
}
"""Setting → least and greatest value, both allowed, and the two in words. Methods have some of those under method."""
RANGES |= {name.replace("views.", "views2."): limits for name, limits in RANGES.items() if name.startswith("views.")}


def require_ranges(config: Any) -> None:
    """InputError that names the first setting of a PretrainConfig outside its range; NaN is outside every range."""
    for name, (least, most, words) in RANGES.items():
        try:
            value = attrgetter(name)(config)
        except AttributeError:  # a setting of another method
            continue
        if value is not None and not least <= value <= most:
            raise InputError(f"--{name.replace('_', '-')} {value}: must be {words}")
    if not all(0 < drop < 1 for drop in config.lr_drops):
        shown = " ".join(str(drop) for drop in config.lr_drops)
        raise InputError(f"--lr-drops {shown}: must be shares of the training, above 0 and under 1")
    for name, views in (("views", config.views), ("views2", config.views2)):
        low, high = views.crop_scale if views else (1.0, 1.0)
        if not 0 < low <= high <= 1:
            raise InputError(f"--{name}.crop-scale {low} {high}: must be two shares of the area, 0 < low <= high <= 1")
    _require_superinfo(config.method)


def _require_superinfo(method: Any) -> None:
    """SuperInfo's settings that are right one by one and not together."""
    form, bound = getattr(method, "parameterisation", None), getattr(method, "bound", None)
    if form == "vmf" and bound == "rate-normal":
        raise InputError(
            "--method.bound rate-normal: on the sphere the rate is a constant; take cross_view or rate-mixture, or "
            "--method.parameterisation bounded"
        )
    if form == "bounded" and not method.sigma_min < method.sigma_max:
        raise InputError(f"--method.sigma-min {method.sigma_min}: must be below --method.sigma-max {method.sigma_max}")
