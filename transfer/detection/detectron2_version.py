"""Find which build of detectron2 is installed, for run records and messages. Imports neither torch nor detectron2.

python -c "from transfer.detection.detectron2_version import detectron2_origin; print(detectron2_origin())"
"""

from __future__ import annotations

import importlib.util
import json
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

DISTRIBUTIONS = ("sal-detectron2", "detectron2")
"""Distributions that provide the package ``detectron2``: the one on the package index, and upstream's own name."""


def detectron2_origin() -> dict[str, Any]:
    """Where ``import detectron2`` would come from; every value is None if it is not installed.

    Returns ``{"distribution", "version", "location", "source"}``: the distribution's name and version, the package's
    folder, and the recorded source: the ORIGIN.json that tools/install_detectron2.py writes, else pip's
    direct_url.json (an upstream built from git or from a checkout), else None. A bare source tree on the path has a
    location only.
    """
    spec = importlib.util.find_spec("detectron2")
    if spec is None or spec.origin is None:
        return {"distribution": None, "version": None, "location": None, "source": None}
    for name in DISTRIBUTIONS:
        try:
            found = distribution(name)
        except PackageNotFoundError:
            continue
        source = _read_json(found, "ORIGIN.json") or _read_json(found, "direct_url.json")
        return _origin(name, found.version, spec.origin, source)
    return _origin(None, None, spec.origin, None)


def describe(origin: dict[str, Any]) -> str:
    """One line for people: name, version and, if recorded, the origin of the code."""
    if origin["location"] is None:
        return "not installed"
    name = f"{origin['distribution'] or 'a source tree'} {origin['version'] or ''}".strip()
    source = origin["source"] or {}
    told = source.get("what") or source.get("url") or "origin not recorded"
    return f"{name} ({told}) in {origin['location']}"


def _origin(name: str | None, version: str | None, module: str, source: Any) -> dict[str, Any]:
    return {"distribution": name, "version": version, "location": str(Path(module).parent), "source": source}


def _read_json(found: Distribution, name: str) -> Any:
    text = found.read_text(name)
    return json.loads(text) if text else None
