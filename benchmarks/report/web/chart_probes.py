"""What linear probes read from the features: a square for each checkpoint and factor. Imports no torch."""

from __future__ import annotations

from benchmarks.report.text import shortened
from benchmarks.report.web import vega
from benchmarks.report.web.charts import PROBES, Chart, Grid, Section, over, point
from benchmarks.tasks.factors import Z

ABOUT = (
    "How much of each factor a linear map reads from frozen features, in percent above chance: R², or accuracy of a "
    "category. That a factor can be read does not say that it is used."
)
LAYERS = {"": "features h", Z: "embedding z, which the pretraining loss compares"}


def probe_sections(grid: Grid) -> list[Section]:
    """A picture of each column of factors and each layer that was probed."""
    headings = {column.heading: column.metric.unit for column in grid.board.columns if column.task in PROBES}
    charts = [one for heading in headings for layer in LAYERS if (one := _chart(grid, heading, layer))]
    about = " ".join(filter(None, (ABOUT, grid.said())))
    return [Section(title="Factors that the features hold", about=about, charts=charts)] if charts else []


def _chart(grid: Grid, heading: str, layer: str) -> Chart | None:
    cells = [
        cell
        for (row, column, key), cell in grid.cells.items()
        if column == heading and row in grid.rows and cell.mean is not None and key.startswith(Z) == bool(layer)
    ]
    if not cells:
        return None
    keys = list(dict.fromkeys(cell.metric.key for cell in cells))
    labels = {cell.metric.key: cell.metric.label.removeprefix(layer) for cell in cells}
    short = dict(zip(keys, shortened([labels[key] for key in keys], 18), strict=True))
    order = {row: place for place, row in enumerate(grid.rows)}
    values = []
    for cell in sorted(cells, key=lambda cell: order[cell.label]):
        found = point(grid.board, cell)
        values.append({**found, "value": found.pop("mean"), "factor": short[cell.metric.key]})
    columns = {"row": "checkpoint", "factor": "factor", "value": "% above chance", "low": "95 % from", "high": "to"}
    return Chart(
        title=f"{heading}, {LAYERS[layer]}",
        caption=f"The numbers below the picture have their intervals. {over(grid.board, cells)}",
        spec=vega.squares(values, "factor", "% above chance", order=list(short.values())),
        columns={**columns, "n": "n"},
        wide=True,
    )
