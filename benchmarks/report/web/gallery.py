"""All charts of the page, in its order. Imports no torch."""

from __future__ import annotations

from benchmarks.report.web.board import Board
from benchmarks.report.web.chart_scatter import scatter_section
from benchmarks.report.web.charts import Grid, Section, bar_sections


def charts_of(board: Board) -> list[Section]:
    """The sections that have a chart."""
    grid = Grid(board)
    return [*bar_sections(grid), *scatter_section(grid)]
