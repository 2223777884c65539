"""What this machine and this environment have: versions, device, cores, memory, disk, data sets found and not found.

python tools/check_env.py              all of it; status 2 with one line if something needed is missing
python tools/check_env.py --missing    only that line, in well under a second (`make … VENV=` asks this)
"""

from __future__ import annotations

import importlib.util
import os
import platform
import re
import shutil
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from pretrain.common.errors import InputError, run_cli
from pretrain.common.files import data_dir, results_dir
from transfer.detection.detectron2_version import describe, detectron2_origin

REQUIREMENTS = Path(__file__).resolve().parent.parent / "requirements.txt"
OLDEST_PYTHON = (3, 11)
MODULES = {
    "scikit-learn": "sklearn",
    "scikit-image": "skimage",
    "pillow": "PIL",
    "hydra-core": "hydra",
    "vl-convert-python": "vl_convert",
}
"""Import names that do not follow from the distribution's name."""
DEVELOPMENT = frozenset(
    ["axe-playwright-python", "mypy", "pandas-stubs", "playwright", "pytest", "ruff", "types-PyYAML", "wheel"]
)
"""Needed by `make test`, `make lint` and tools/install_detectron2.py only: told of, not insisted on."""
SHOWN = ("torch", "torchvision", "pycocotools", "fvcore", "pandas", "numpy")
COCO = ("train2017", "val2017", "annotations/instances_train2017.json", "annotations/instances_val2017.json")
VOC = ("Annotations", "ImageSets/Main", "JPEGImages")


def main(argv: list[str]) -> int:
    """Print what there is to stdout; InputError with everything that is missing in one line."""
    if argv not in ([], ["--missing"]):
        raise InputError(f"unknown argument {argv[0]!r}: the only one is --missing")
    if not argv:
        for label, value in [*versions(), *machine(), *datasets()]:
            print(f"{label:<12} {value}")
    needed, development = missing()
    if development:
        print(f"missing, for make test and make lint only: {', '.join(development)}", file=sys.stderr)
    if needed:
        raise InputError(f"missing in {sys.executable}: {', '.join(needed)}")
    return 0


def missing() -> tuple[list[str], list[str]]:
    """What requirements.txt and this code ask for and the environment lacks: (needed, for development only)."""
    lines = [line.split("#")[0].strip() for line in REQUIREMENTS.read_text().splitlines()]
    lacking = {line: trouble for line in lines if line and (trouble := _trouble(line))}
    needed = [trouble for line, trouble in lacking.items() if line not in DEVELOPMENT]
    if sys.version_info[:2] < OLDEST_PYTHON:
        needed.insert(0, f"Python {OLDEST_PYTHON[0]}.{OLDEST_PYTHON[1]} or newer (this is {platform.python_version()})")
    if detectron2_origin()["location"] is None:
        needed.append("detectron2 (python tools/install_detectron2.py)")
    return needed, [trouble for line, trouble in lacking.items() if line in DEVELOPMENT]


def _trouble(requirement: str) -> str | None:
    """``requirement`` itself, with its import name or the version found, if it is not met here; None if it is."""
    name, limits = re.fullmatch(r"([\w.-]+)(.*)", requirement).groups()  # type: ignore[union-attr]
    module = MODULES.get(name, name.lower().replace("-", "_"))
    try:
        found = version(name)
    except PackageNotFoundError:
        if importlib.util.find_spec(module):  # some package managers leave no metadata
            return None
        return requirement if module == name or name in DEVELOPMENT else f"{requirement} (import {module})"
    if not limits or importlib.util.find_spec("packaging") is None:
        return None
    from packaging.specifiers import SpecifierSet

    return None if SpecifierSet(limits).contains(found, prereleases=True) else f"{requirement} (found {found})"


def versions() -> list[tuple[str, str]]:
    """Rows (label, version) of Python and of the packages that results depend on."""
    rows = [("python", f"{platform.python_version()} ({sys.executable})")]
    for name in SHOWN:
        try:
            rows.append((name, version(name)))
        except PackageNotFoundError:
            rows.append((name, "not installed"))
    return [*rows, ("detectron2", describe(detectron2_origin()))]


def machine() -> list[tuple[str, str]]:
    """Rows (label, text) of device, usable cores, memory and the disk that results go to."""
    gb = 1e9
    page = os.sysconf("SC_PAGE_SIZE") / gb
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    place = next(path for path in (results_dir(), *results_dir().absolute().parents) if path.exists())
    rows = [("device", text) for text in _devices()]
    rows.append(("cores", f"{cores} usable of {os.cpu_count()}"))
    rows.append(("memory", f"{os.sysconf('SC_PHYS_PAGES') * page:.0f} GB"))
    return [*rows, ("disk", f"{shutil.disk_usage(place).free / gb:.0f} GB free for {results_dir()}")]


def _devices() -> list[str]:
    if importlib.util.find_spec("torch"):
        import torch

        if torch.cuda.is_available():
            found = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
            return [f"GPU {gpu.name}, {gpu.total_memory / 1e9:.0f} GB" for gpu in found]
    cpuinfo = Path("/proc/cpuinfo")
    text = cpuinfo.read_text() if cpuinfo.exists() else ""
    model = re.search(r"model name\s*: (.*)", text)
    fast = "with" if re.search(r"\b(avx512_bf16|amx_bf16)\b", text) else "without"
    return [f"CPU {model[1] if model else platform.machine()}, {fast} bfloat16 instructions"]


def datasets() -> list[tuple[str, str]]:
    """Rows (label, text) of the standard data sets and of the roots prepared here: found or not, and where."""
    root = Path(os.environ.get("DETECTRON2_DATASETS", "datasets"))
    told = "DETECTRON2_DATASETS" if "DETECTRON2_DATASETS" in os.environ else "DETECTRON2_DATASETS is not set"
    rows = [("COCO", _look(root / "coco", COCO, told))]
    rows += [(name, _look(root / name, VOC, told)) for name in ("VOC2007", "VOC2012")]
    folder = os.environ.get("IMAGENET_DIR")
    imagenet = _look(Path(folder), ("train", "val"), "IMAGENET_DIR") if folder else "not found: IMAGENET_DIR is not set"
    prepared = sorted(path.parent.name for path in data_dir().glob("*/data.json"))
    return [*rows, ("ImageNet", imagenet), ("prepared", f"{', '.join(prepared) or 'none'} in {data_dir()}")]


def _look(folder: Path, parts: tuple[str, ...], told: str) -> str:
    absent = [part for part in parts if not (folder / part).exists()]
    if not absent:
        return f"found in {folder}"
    what = "" if len(absent) == len(parts) else f" ({', '.join(absent)} missing)"
    return f"not found in {folder.absolute()}{what}; {told}"


if __name__ == "__main__":
    run_cli(main)
