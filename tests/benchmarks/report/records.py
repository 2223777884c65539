"""Records that tables are made of, and a table read back."""

import dataclasses

from benchmarks.records import ResultsStore
from tests.benchmarks.doubles import make_record, make_spec

VALUES = {"alpha": [10.0, 12.0, 17.0], "beta_2": [30.0, 31.0, 32.0], "gamma": [40.0]}


def rows_of(markdown):
    lines = [line for line in markdown.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {row[0]: dict(zip(cells[0], row, strict=True)) for row in cells[2:]}


def saved(*runs):
    """(label, spec) of runs that are given as (label, changes of the spec, value or error)."""
    pairs = []
    for label, changes, result in runs:
        spec, failed = make_spec(**changes), isinstance(result, str)
        record = make_record(spec, {} if failed else {"top1": result}, label=label, error=result if failed else None)
        ResultsStore().save(dataclasses.replace(record, start=f"2026-01-01T00:00:{len(pairs):02d}Z"))
        pairs.append((label, spec))
    return pairs
