"""Time, memory and size of `python -m benchmarks report` over many records, and the page's speed in Chromium.

Run: ``python -m benchmarks.perf report --records 1000 10000``.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
import statistics
import tempfile
from pathlib import Path

from benchmarks.perf.tables import PROFILE, run, write_records
from benchmarks.perf.timing import processor
from benchmarks.records import ResultsStore

ROUNDS = 3
SORT = """() => new Promise((done) => {
  const begun = performance.now();
  document.querySelector(".sort[data-column='1']").click();
  requestAnimationFrame(() => setTimeout(() => done(performance.now() - begun)));
})"""
PAINT = """() => new Promise((done) => {
  const seen = (list) => list.getEntriesByName("first-contentful-paint").forEach((one) => done(one.startTime));
  new PerformanceObserver(seen).observe({ type: "paint", buffered: true });
})"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Arguments:
    """The report of synthetic records of the size of real ones."""

    records: tuple[int, ...] = (1000, 10_000)


def measure(arguments: Arguments) -> str:
    """Two lines for each number of records: the command's, and the page's in a browser."""
    lines = [f"python -m benchmarks report, start-up included; one core of {processor()}"]
    with tempfile.TemporaryDirectory() as folder:
        for count in arguments.records:
            results = Path(folder, str(count))
            rows = write_records(ResultsStore(results / "runs"), count)
            seconds, busy, megabytes = run(results, "report", PROFILE)
            page = results / "tables" / f"{PROFILE}-report.html"
            lines.append(
                f"{count:,} records, {rows:,} rows: {seconds:.1f} s, {busy:.1f} s on a processor, {megabytes:.0f} MB "
                f"of memory, a page of {page.stat().st_size / 1e6:.1f} MB"
            )
            lines.append(f"  {_in_browser(page)}")
    return "\n".join(lines)


def _in_browser(page: Path) -> str:
    """First paint and a sort up to the next frame, medians of ROUNDS; or why they were not measured."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        return "not opened: playwright is not installed"
    if chromium is None:
        return "not opened: Chromium is not installed"
    found = []
    with sync_playwright() as playwright:
        flags = ["--no-sandbox"] if os.getuid() == 0 else []
        browser = playwright.chromium.launch(executable_path=chromium, args=flags)
        for _ in range(ROUNDS):
            tab = browser.new_page()
            tab.goto(page.as_uri())
            found.append((tab.evaluate(PAINT), tab.evaluate(SORT)))
            tab.close()
        browser.close()
    paint, sort = (statistics.median(one) for one in zip(*found, strict=True))
    return f"in Chromium: first paint {paint:.0f} ms, a sort to the next frame {sort:.0f} ms"
