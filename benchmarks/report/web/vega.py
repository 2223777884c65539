"""Pieces of Vega-Lite specifications, as plain dicts, and the engine that draws them. Imports no torch.

Colours that the page's theme decides are CSS variables, which SVG resolves: a chart follows a switch of the theme, and
paper, without being drawn again. Numbers of a picture are its specification's ``data.values``.
"""

from __future__ import annotations

import base64
import functools
import gzip
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.report.text import shortened

Spec = dict[str, Any]
Row = Mapping[str, Any]
LABEL, NAME = 170, 22  # pixels and characters of a row's name
PALETTE = [f"var(--c{number})" for number in range(1, 9)]
SHAPES = ["circle", "square", "triangle-up", "diamond", "cross", "triangle-down", "triangle-right", "triangle-left"]

CONFIG: Spec = {
    "background": None,
    "aria": False,  # the figure has a label and a table
    "font": "system-ui, sans-serif",
    "view": {"stroke": None},
    "axis": {
        "labelColor": "var(--text)",
        "titleColor": "var(--faint)",
        "domainColor": "var(--line)",
        "tickColor": "var(--line)",
        "gridColor": "var(--grid)",
        "labelFontSize": 11,
        "titleFontSize": 11,
        "titleFontWeight": "normal",
        "labelLimit": LABEL,
    },
    "legend": {"labelColor": "var(--text)", "titleColor": "var(--faint)", "titleFontWeight": "normal", "orient": "top"},
    "text": {"color": "var(--text)", "fontSize": 11},
    "range": {"category": PALETTE, "symbol": SHAPES},
}


@functools.cache
def engine() -> str:
    """The script that draws: Vega, Vega-Lite, Vega-Embed and Vega's interpreter, which needs no ``unsafe-eval``."""
    import vl_convert

    licence = (Path(__file__).parent / "vega.txt").read_text(encoding="utf-8")
    return f"/*\n{licence}*/\n{vl_convert.javascript_bundle('window.vegaEmbed = vegaEmbed;')}"


@functools.cache
def packed() -> str:
    """The same, compressed with gzip, in base64: 0.4 instead of 0.9 MB, unpacked when the first chart is drawn."""
    return base64.b64encode(gzip.compress(engine().encode(), mtime=0)).decode()


def spec(values: Sequence[Row], *layers: Spec, **more: Any) -> Spec:
    """A specification of layers over the same values, as wide as its place."""
    return {"data": {"values": with_names(values)}, "width": "container", "layer": list(layers), **more}


def with_names(values: Sequence[Row]) -> list[Row]:
    """The values with a short ``name`` of each row, those of long rows told apart by their ends too."""
    rows = list(dict.fromkeys(value["row"] for value in values))
    short = dict(zip(rows, shortened(rows, NAME), strict=True))
    return [{**value, "name": short[value["row"]]} for value in values]


def names(title: str | None = None) -> Spec:
    """Rows by name, in the order of the values."""
    return {"field": "name", "type": "nominal", "sort": None, "title": title, "axis": {"grid": False, "ticks": False}}


def amount(field: str, title: str, *, zero: bool) -> Spec:
    """A number along x or y."""
    return {
        "field": field,
        "type": "quantitative",
        "title": title,
        "scale": {"zero": zero, "nice": True},
        "axis": {"tickCount": 6},
    }


def intervals(values: Sequence[Row], mark: Spec, **encoding: Any) -> list[Spec]:
    """A rule from ``low`` to ``high`` of the values that have an interval; [] where none has."""
    if all(value.get("low") is None for value in values):
        return []
    rule = {"type": "rule", **mark}
    return [{"transform": [{"filter": "isValid(datum.low)"}], "mark": rule, "encoding": encoding}]


def bars(values: Sequence[Row], title: str) -> Spec:
    """Bars from zero by ``row``, ``mean``, with the interval from ``low`` to ``high`` where it is there."""
    x, y = amount("mean", title, zero=True), names()
    return spec(
        values,
        {"mark": {"type": "bar", "color": "var(--bar)"}, "encoding": {"x": x, "y": y}},
        *intervals(values, {"color": "var(--text)"}, x={**x, "field": "low"}, x2={"field": "high"}, y=y),
        height=20 * len({value["row"] for value in values}),
    )


def squares(
    values: Sequence[Row],
    across: str,
    title: str,
    *,
    order: Sequence[str],
    decimals: int = 0,
    domain: tuple[float, float] | None = None,
    titles: tuple[str, str] | None = None,
) -> Spec:
    """Coloured squares with their number: ``row`` by ``across``; ``domain`` of the colours, by default of the values.

    A value that is None is a dash.
    """
    numbers = [float(value["value"]) for value in values if value["value"] is not None]
    ends = domain or (min(numbers, default=0.0), max(numbers, default=0.0))
    middle = sum(ends) / 2
    x: Spec = {"field": across, "type": "nominal", "sort": list(order), "title": titles[0] if titles else None}
    x |= {"axis": {"orient": "top", "labelAngle": -50, "ticks": False, "domain": False, "labelLimit": 110}}
    if titles:
        x["axis"] = {"labelAngle": 0, "ticks": False, "domain": False}
    y = {**names(titles[1] if titles else None), "axis": {"ticks": False, "domain": False}}
    colour = {
        "field": "value",
        "type": "quantitative",
        "scale": {"scheme": "viridis", "domain": list(ends)},
        "legend": {"title": title, "gradientLength": 160},
    }
    dark = {"condition": {"test": f"datum.value < {middle!r}", "value": "white"}, "value": "black"}
    there = [{"filter": "isValid(datum.value)"}]
    none = {
        "transform": [{"filter": "!isValid(datum.value)"}],
        "mark": {"type": "text", "fontSize": 10, "text": "–"},
        "encoding": {"x": x, "y": y},
    }
    return {
        "data": {"values": with_names(values)},
        "width": {"step": 34},
        "height": {"step": 22},
        "layer": [
            {"transform": there, "mark": "rect", "encoding": {"x": x, "y": y, "color": colour}},
            {
                "transform": there,
                "mark": {"type": "text", "fontSize": 10},
                "encoding": {
                    "x": x,
                    "y": y,
                    "text": {"field": "value", "format": f".{decimals}f"},
                    "color": dark,
                },
            },
            *([none] if len(numbers) < len(values) else []),
        ],
    }


def points(values: Sequence[Row], title: str, *, by: str, order: Sequence[str]) -> Spec:
    """A point with its interval for each ``row`` and value of ``by``, in lines below one another."""
    x, y = amount("value", title, zero=True), names()
    apart = {"field": by, "type": "nominal", "sort": list(order)}
    colour = {"field": by, "type": "nominal", "sort": list(order), "title": None}
    return spec(
        values,
        *intervals(values, {}, x={**x, "field": "low"}, x2={"field": "high"}, y=y, yOffset=apart, color=colour),
        {
            "mark": {"type": "point", "filled": True, "size": 45, "opacity": 1},
            "encoding": {"x": x, "y": y, "yOffset": apart, "color": colour, "shape": {**apart, "legend": None}},
        },
        height=16 * len(order) * len({value["row"] for value in values}),
    )


def lines(
    values: Sequence[Row],
    x: tuple[str, str],
    y: tuple[str, str],
    *,
    zero: bool,
    points: bool = True,
    ordered: bool = False,
) -> Spec:
    """A line, with points, for each ``row``, with the interval from ``low`` to ``high`` where it is there;
    along x, or, ``ordered``, from value to value."""
    across, up = amount(x[0], x[1], zero=False), amount(y[0], y[1], zero=zero)
    across["scale"] = {"zero": False, "nice": False}
    by = {"field": "name", "type": "nominal", "sort": None, "title": None}
    colour = {**by, "legend": {"columns": 3, "labelLimit": 100}}
    place = {"x": across, "y": up, "color": colour}
    line = {"mark": {"type": "line", "strokeWidth": 1.5}, "encoding": place}
    dots = {"mark": {"type": "point", "filled": True, "size": 18, "opacity": 1}, "encoding": place}
    layers = intervals(values, {}, x=across, y={**up, "field": "low"}, y2={"field": "high"}, color=colour)
    if ordered:
        if any(value.get("x_low") is not None for value in values):
            ends = {"x": {**across, "field": "x_low"}, "x2": {"field": "x_high"}, "y": up, "color": colour}
            layers.append({"transform": [{"filter": "isValid(datum.x_low)"}], "mark": "rule", "encoding": ends})
        values = [{**value, "place": number} for number, value in enumerate(values)]
        line["encoding"] = place = {**place, "order": {"field": "place"}}
    if points:
        line["encoding"] = {**place, "strokeDash": {**by, "legend": None}}
        dots["encoding"] = {**place, "shape": {**by, "legend": None}}
    return spec(values, *layers, line, *([dots] if points else []), height=220)
