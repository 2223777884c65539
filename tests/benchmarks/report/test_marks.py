"""Bold and daggers in a table."""

import dataclasses

import numpy as np
import pytest

from benchmarks.predictions import FILE, Predictions
from benchmarks.records import ResultsStore
from benchmarks.report.cells import collect
from benchmarks.report.marks import marks_of
from benchmarks.report.tables import to_latex, to_markdown
from tests.benchmarks.doubles import make_record, make_spec
from tests.benchmarks.report.records import rows_of, saved


def cells_of(values):
    rows = enumerate(values.items())
    pairs = [
        pair
        for row, (label, seeds) in rows
        for pair in saved(
            *(
                (label, {"task": "low-shot", "checkpoint_sha256": f"{row}" * 64, "seed": n}, v)
                for n, v in enumerate(seeds)
            )
        )
    ]
    return collect(pairs)


@pytest.mark.parametrize(
    ("values", "bold", "dagger"),
    [
        ({"a": [10.0, 11.0, 12.0], "b": [20.0, 22.0, 21.5]}, "b", ""),
        ({"a": [10.0, 11.0, 12.0], "b": [11.0, 10.0, 13.0]}, "b", "a"),
        ({"a": [10.0, 11.0, 12.0], "b": [30.0, 31.5, 32.0], "c": [29.0, 33.0, 30.0]}, "b", "c"),
        ({"a": [10.0], "b": [30.0]}, "", ""),  # one value is never bold
        ({"a": [10.0, 11.0], "b": [30.0]}, "", ""),
        ({"a": [10.0], "b": [30.0, 31.0]}, "b", "a"),  # nor told apart
        ({"a": [10.0, 11.0, 12.0]}, "", ""),  # nothing to compare with
    ],
)
def test_marks_of_a_column(results, values, bold, dagger):
    cells = [cell for cell in cells_of(values) if cell.metric.key == "top1"]
    found = marks_of(cells)
    assert "".join(cell.label for cell in cells if id(cell) in found.bold) == bold
    assert "".join(cell.label for cell in cells if id(cell) in found.dagger) == dagger


def test_marks_are_in_both_forms_of_the_table(results):
    cells = cells_of({"a": [30.0, 31.0, 32.0], "b": [31.5, 30.0, 33.0]})
    rows = rows_of(to_markdown(cells, "smoke"))
    assert rows["b"]["10-shot top-1"] == "**31.5 ± 1.5 (3)**" and rows["a"]["10-shot top-1"] == "31.0 ± 1.0 (3) †"
    tex = to_latex(cells, "smoke")
    assert r"$\mathbf{31.5 \pm 1.5}$ (3)" in tex and r"$31.0 \pm 1.0$ (3)$^\dagger$" in tex
    assert r"$\dagger$: not told apart from it" in tex


def test_kept_predictions_count(results):
    """The seeds agree, and forty images are too few: their part tells that the rows may be equal."""

    def save(label, sha, wrong):
        pairs = []
        for seed in (0, 1):
            spec = make_spec(task="low-shot", checkpoint_sha256=sha * 64, seed=seed)
            right = np.ones(40, dtype=int)
            right[wrong] = 0
            predictions = Predictions(target=np.ones(40, dtype=int), predicted=right)
            predictions.save(ResultsStore().working_folder(spec))
            record = make_record(spec, {"top1": 100 * right.mean()}, label=label)
            ResultsStore().save(dataclasses.replace(record, files=(FILE,)))
            pairs.append((label, spec))
        return pairs

    cells = [cell for cell in collect(save("a", "a", [0, 1]) + save("b", "b", [2, 3, 4])) if cell.metric.key == "top1"]
    assert [id(cell) in marks_of(cells).dagger for cell in cells] == [False, True]
    bare = [
        dataclasses.replace(cell, records=tuple(dataclasses.replace(one, files=()) for one in cell.records))
        for cell in cells
    ]
    assert marks_of(bare).dagger == frozenset()  # without the images no spread is left
