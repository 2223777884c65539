"""All charts of the page, in its order. Imports no torch."""

from __future__ import annotations

from benchmarks.report.web.board import Board
from benchmarks.report.web.chart_cost import cost_section
from benchmarks.report.web.chart_curves import series_sections, training_sections
from benchmarks.report.web.chart_detectors import detector_sections
from benchmarks.report.web.chart_probes import probe_sections
from benchmarks.report.web.chart_scatter import scatter_section
from benchmarks.report.web.chart_suite import suite_sections
from benchmarks.report.web.charts import BARS_TITLE, NATS_TITLE, Grid, Section, bar_sections
from benchmarks.report.web.runs import Facts
from benchmarks.suites import Suite


def charts_of(board: Board, facts: Facts | None = None, suite: Suite | None = None) -> list[Section]:
    """The sections that have a chart. ``facts`` has the devices of the runs, ``suite`` figures of its own."""
    grid = Grid(board, facts)
    kinds = (
        bar_sections(grid, BARS_TITLE),
        suite_sections(grid, suite),
        series_sections(grid),
        scatter_section(grid),
        cost_section(grid),
        detector_sections(grid),
        probe_sections(grid),
        bar_sections(grid, NATS_TITLE),
        training_sections(grid),
    )
    return [section for sections in kinds for section in sections]
