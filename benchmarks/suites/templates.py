"""Rows of a suite's file that are templates of several: one row per point of a grid or of a list.

    [[rows]]
    label = "λa {a}, λb {b}"
    preset = "demo-superinfo"
    flags = ["--method.lambda-a", "{a}", "--method.lambda-b", "{b}"]
    grid = { a = [0, 0.1], b = [0, 0.1] }

    [[rows]]
    label = "hue {hue}"
    preset = "demo-simclr"
    flags = ["--views.hue", "{hue}", "--views.saturation", "{saturation}"]
    points = [{ hue = 0.1, saturation = 0.2 }, { hue = 0.5, saturation = 0.8 }]

    [[rows]]
    label = "mine"
    series = "/run/ckpt_*.pth"

``series`` makes a row ``mine @100`` per checkpoint, with its epoch, a setting, from the file's name. ``grid`` makes
every combination, the last name fastest; ``points`` makes what it lists. ``{name}`` in the label, the flags, the data,
the group and ``after`` is the value as TOML has it; numbers are also the row's ``at``. Imports no torch.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

from benchmarks.series import series_of


def expanded(values: Mapping[str, Any]) -> dict[str, Any]:
    """The ``rows`` of a suite's TOML with templates filled in; {} without templates. ValueError names a bad one."""
    rows = values.get("rows")
    if not isinstance(rows, list) or not any(
        isinstance(row, dict) and {"grid", "points", "series"} & row.keys() for row in rows
    ):
        return {}
    found: list[Any] = []
    for number, row in enumerate(rows):
        try:
            found += _rows(row) if isinstance(row, dict) else [row]
        except ValueError as error:
            raise ValueError(f"rows[{number}]{error}") from None
    return {"rows": found}


def _rows(template: dict[str, Any]) -> list[dict[str, Any]]:
    plain = {key: value for key, value in template.items() if key not in ("grid", "points")}
    if "series" in plain:
        return _series(template)
    if len(template) == len(plain):
        return [plain]
    filled = []
    for point in _points(template):
        row = {key: _filled(value, point) for key, value in plain.items()}
        numbers = {name: value for name, value in point.items() if not isinstance(value, str)}
        filled.append(row | {"at": numbers | row.get("at", {})})
    return filled


def _series(template: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A row per checkpoint of a series, in its group."""
    plain = {key: value for key, value in template.items() if key not in ("series", "label")}
    label, pattern = template.get("label"), template["series"]
    if not isinstance(label, str) or not isinstance(pattern, str):
        raise ValueError(": a series has a label and a pattern of files, both text")
    if strange := [key for key in ("grid", "points", "preset", "checkpoint") if key in plain]:
        raise ValueError(f" has series and {strange[0]}: give one of them")
    found = series_of(f"{label}={pattern}", " series")
    plain = {"group": label, **plain}
    return [
        plain
        | {"label": name, "checkpoint": str(path), "at": plain.get("at", {}) | {"epoch": int(name.rpartition("@")[2])}}
        for name, path in found.items()
    ]


def _points(template: Mapping[str, Any]) -> list[dict[str, str | float]]:
    """The values of each row by name."""
    if "grid" in template and "points" in template:
        raise ValueError(" has grid and points: give one of them")
    if "points" in template:
        points = template["points"]
        if not isinstance(points, list) or not points or not all(isinstance(one, dict) and one for one in points):
            raise ValueError(".points is not a list of tables of values, such as [{ x = 1 }, { x = 2 }]")
    else:
        grid = template["grid"]
        if not isinstance(grid, dict) or not grid or not all(isinstance(one, list) and one for one in grid.values()):
            raise ValueError(".grid is not a table of lists, such as { x = [1, 2] }")
        points = [dict(zip(grid, point, strict=True)) for point in itertools.product(*grid.values())]
    for point in points:
        if wrong := [name for name, value in point.items() if isinstance(value, bool | list | dict)]:
            raise ValueError(f": {wrong[0]} is {point[wrong[0]]!r}, not a number or text")
    return points


def _filled(value: Any, point: Mapping[str, str | float]) -> Any:
    """``value`` with the names in braces replaced, in texts and lists of texts; other braces stay."""
    if isinstance(value, list):
        return [_filled(one, point) for one in value]
    if isinstance(value, str):
        for name, one in point.items():
            value = value.replace(f"{{{name}}}", str(one))
    return value
