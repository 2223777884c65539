"""tools/pretraining_curves.py on a suite with stand-ins for its runs."""

import json

import pytest
from PIL import Image

from benchmarks.records import ResultsStore
from benchmarks.suites import Row, Suite, SuiteColumn
from pretrain.common.errors import InputError
from tests.benchmarks.doubles import make_record, make_spec
from tools import pretraining_curves

SUITE = Suite(
    name="two",
    title="a title",
    profile="smoke",
    rows=(Row(label="a", preset="smoke-simclr"), Row(label="b", preset="smoke-simclr", seeds=(0, 1))),
    columns=(SuiteColumn(task="knn"),),
)


@pytest.fixture
def results(tmp_path, monkeypatch):
    """Logs and records of "a", twice, and of one of the runs of "b"."""
    monkeypatch.setenv("RESULTS_DIR", str(tmp_path))
    monkeypatch.setattr(pretraining_curves, "find_suite", lambda name: SUITE)
    for number, (label, start) in enumerate((("a", "2026-01-01"), ("a", "2026-01-02"), ("b #1", "2026-01-01"))):
        folder = tmp_path / "pretrain" / str(number)
        folder.mkdir(parents=True)
        steps = [{"step": step, "loss": 10.0 * number + step, "nats": 1.0} for step in range(20)]
        (folder / "metrics.jsonl").write_text("".join(json.dumps(one) + "\n" for one in steps))
        spec = make_spec(task="knn", checkpoint_sha256=str(number) * 64)
        record = make_record(spec, {"top1": 1.0}, label=label)
        about = {"path": str(folder / "backbone.safetensors"), "family": "superinfo", "network": ""}
        values = {"checkpoint": about, "start": f"{start}T00:00:00Z"}
        ResultsStore().save(type(record)(**{**vars(record), **values}))
    return tmp_path


def test_the_newest_run_of_each_label_is_shown_and_a_missing_one_named(results, capsys):
    assert pretraining_curves.main(["two"]) == 0
    out, err = capsys.readouterr()
    assert "b #0: no finished run of it has been evaluated" in err
    assert "| a | 28.5 | 1 |" in err and "| b #1 | 38.5 | 1 |" in err  # means of the last two of 20 steps
    with Image.open(out.strip()) as picture:
        assert picture.width > 300
    assert out.strip() == str(results / "tables" / "two-curves.png")


def test_without_any_run_it_says_so(tmp_path, monkeypatch):
    monkeypatch.setenv("RESULTS_DIR", str(tmp_path))
    with pytest.raises(InputError, match="no row of demo has a finished pretraining run"):
        pretraining_curves.main(["demo"])
