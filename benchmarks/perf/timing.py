"""Fair timing of several ways to do the same work, and test photographs."""

from __future__ import annotations

import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import skimage.data
import torch
from PIL import Image

from pretrain.augment.views import ViewsConfig

# MoCo v2's augmentation without the blur, as PyContrast's B: pycontrast/datasets/util.py.
MEASURED_VIEWS = ViewsConfig(crop_scale=(0.2, 1.0), brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1, blur=0.0)
PHOTOGRAPHS = ("coffee", "chelsea", "rocket", "astronaut")  # bundled with scikit-image


def write_photographs(folder: Path, count: int) -> float:
    """``count`` JPEGs of 500×375 in ``folder``, random parts of bundled photographs; their mean size in kB."""
    rng = np.random.default_rng(0)
    sources = [Image.fromarray(getattr(skimage.data, name)()).convert("RGB") for name in PHOTOGRAPHS]
    for i in range(count):
        source = sources[i % len(sources)]
        height = int(rng.integers(source.height // 2, min(source.height, source.width * 3 // 4) + 1))
        width = height * 4 // 3
        left, top = int(rng.integers(source.width - width + 1)), int(rng.integers(source.height - height + 1))
        part = source.resize((500, 375), Image.Resampling.BICUBIC, box=(left, top, left + width, top + height))
        part.save(folder / f"{i:04d}.jpg", quality=92)
    return sum(path.stat().st_size for path in folder.iterdir()) / count / 1000


def medians(sides: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median seconds of each side over rounds that run all sides, after one warm-up round."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(rounds + 1):
        for name, side in sides.items():
            before = time.perf_counter()
            side()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            if turn:
                seconds[name].append(time.perf_counter() - before)
        print(f"round {turn} of {rounds}", file=sys.stderr)
    return {name: statistics.median(values) for name, values in seconds.items()}


def table(title: str, images: int, seconds: dict[str, float]) -> str:
    """One line per side: images/s, and the ratio to the first side's."""
    first = next(iter(seconds.values()))
    lines = [f"{name:50}{images / value:9.1f} images/s {first / value:7.2f}×" for name, value in seconds.items()]
    return "\n".join([title, *lines])


def processor() -> str:
    """The processor's name."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
