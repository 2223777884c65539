"""Fixtures of the tests of tables."""

import pytest

from benchmarks.records import ResultsStore
from tests.benchmarks.doubles import make_record, make_spec
from tests.benchmarks.report.records import VALUES


@pytest.fixture
def pairs(tmp_path, monkeypatch):
    """Three checkpoints on low-shot with 3, 3 and 1 seeds, and one VOC run of which one failed."""
    monkeypatch.setenv("RESULTS_DIR", str(tmp_path))
    store, expected = ResultsStore(), []
    for row, (label, values) in enumerate(VALUES.items()):
        for seed, value in enumerate(values):
            spec = make_spec(task="low-shot", checkpoint_sha256=f"{row}" * 64, seed=seed)
            store.save(make_record(spec, {"top1": value}, label=label))
            expected.append((label, spec))
    for row, (label, error) in enumerate([("alpha", None), ("beta_2", "out of memory")]):
        spec = make_spec(task="voc-c4-24k", checkpoint_sha256=f"{row}" * 64)
        metrics = {} if error else {"bbox/AP": 1.25, "bbox/AP50": None, "bbox/AP75": 0.5}
        store.save(make_record(spec, metrics, label=label, error=error))
        expected.append((label, spec))
    return expected


@pytest.fixture
def results(tmp_path, monkeypatch):
    monkeypatch.setenv("RESULTS_DIR", str(tmp_path))
    return tmp_path
