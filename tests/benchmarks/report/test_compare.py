"""``compare``: its pairs, its refusals, its numbers."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from benchmarks.predictions import FILE, Predictions
from benchmarks.records import ResultsStore
from benchmarks.report.compare import compare
from benchmarks.statistics.paired import holm
from pretrain.common.errors import InputError
from tests.benchmarks.doubles import make_record, make_spec
from tests.benchmarks.report.records import rows_of, saved


def keep(label, sha, *, accuracy, seeds=(0, 1, 2), images=200, task="linear", **changes):
    """Runs with predictions; each seed's images are right with probability ``accuracy``."""
    for seed in seeds:
        rng = np.random.default_rng([seed, ord(sha)])
        target = np.zeros(images, dtype=int)
        predictions = Predictions(target=target, predicted=(rng.random(images) > accuracy).astype(int))
        spec = make_spec(task=task, checkpoint_sha256=sha * 64, seed=seed, **changes)
        record = make_record(spec, {"top1": 100 * predictions.correct.mean()}, label=label)
        predictions.save(ResultsStore().working_folder(spec))
        ResultsStore().save(dataclasses.replace(record, files=(FILE,)))


def test_a_difference_is_found_and_an_equal_row_is_not(results):
    keep("good", "a", accuracy=0.8)
    keep("bad", "b", accuracy=0.5)
    keep("equal", "c", accuracy=0.8)
    paths = compare("good", "bad", "smoke")
    assert [path.name for path in paths] == ["compare-good-bad.md", "compare-good-bad.csv"]
    (row,) = pd.read_csv(paths[1]).to_dict("records")
    assert row["low"] < row["difference"] < row["high"] and row["low"] > 0 and row["p_holm"] < 0.05
    assert row["levels"] == "images seeds" and row["n_a"] == 3
    shown = rows_of(paths[0].read_text())["linear top-1"]
    assert shown["difference"].startswith("**+") and shown["over"] == "images, seeds"
    (same,) = pd.read_csv(compare("good", "equal", "smoke")[1]).to_dict("records")
    assert same["low"] < 0 < same["high"] and same["p_holm"] > 0.05
    assert "nothing differs but the weights" in paths[0].read_text()


def test_runs_without_files_are_compared_over_seeds_with_holm(results):
    values = {"linear": ([70.0, 71.0, 73.0], [60.0, 62.0, 61.0]), "knn": ([50.0, 51.0, 52.0], [50.5, 50.0, 53.0])}
    for task, sides in values.items():
        for sha, side in zip("ab", sides, strict=True):
            saved(*((sha, {"task": task, "checkpoint_sha256": sha * 64, "seed": n}, v) for n, v in enumerate(side)))
    table = pd.read_csv(compare("a", "b", "smoke")[1]).set_index("task")
    expected = {task: stats.ttest_rel(*sides).pvalue for task, sides in values.items()}
    for (task, p), adjusted in zip(expected.items(), holm(list(expected.values())), strict=True):
        assert table.loc[task, "p"] == pytest.approx(p) and table.loc[task, "p_holm"] == pytest.approx(adjusted)


def test_one_run_each_without_files_has_no_interval(results):
    saved(("a", {"checkpoint_sha256": "a" * 64}, 3.0), ("b", {"checkpoint_sha256": "b" * 64}, 1.0))
    row = rows_of(compare("a", "b", "smoke")[0].read_text())["linear top-1"]
    assert (row["difference"], row["95 % interval"], row["over"]) == ("+2.0", "–", "one run each, nothing kept")


def test_several_pretraining_runs_are_one_side(results):
    for run, sha in enumerate("abc"):
        keep(f"ours #{run}", sha, accuracy=0.7 + 0.02 * run, seeds=(0, 1))
    for run, sha in enumerate("def"):
        keep(f"theirs #{run}", sha, accuracy=0.4 + 0.02 * run, seeds=(0, 1))
    text = compare("ours", "theirs", "smoke")[0].read_text()
    row = rows_of(text)["linear top-1"]
    assert row["ours"].endswith("(3×2)") and row["over"] == "images, runs"
    assert "One pretraining run" not in text


def test_unlike_runs_are_refused_unless_forced(results):
    keep("a", "a", accuracy=0.8)
    keep("b", "b", accuracy=0.5, protocol_digest="e" * 64, precision="bf16")
    with pytest.raises(
        InputError, match="no column of profile smoke in common; linear: protocol digest dddddddddddd and"
    ):
        compare("a", "b", "smoke")
    text = compare("a", "b", "smoke", force=True)[0].read_text()
    assert (
        "linear top-1 ≠" in text
        and "compared by --force: protocol digest" in text
        and "precision fp32 and bf16" in text
    )
    keep("b", "b", accuracy=0.5, task="knn")
    keep("a", "a", accuracy=0.5, task="knn")
    text = compare("a", "b", "smoke")[0].read_text()
    assert "not compared: linear: protocol digest" in text and list(rows_of(text)) == ["kNN top-1"]


def test_other_data_are_not_paired(results):
    keep("a", "a", accuracy=0.8, images=100)
    keep("b", "b", accuracy=0.5, images=50, data_fingerprint="0" * 64)
    row = pd.read_csv(compare("a", "b", "smoke", force=True)[1]).iloc[0]
    assert row["levels"] == "seeds" and "data_fingerprint" in row["unlike"]


def test_a_name_without_runs_is_named_with_those_there_are(results):
    keep("a", "a", accuracy=0.8)
    with pytest.raises(InputError, match="profile smoke has no run of c: it has a"):
        compare("a", "c", "smoke")
    with pytest.raises(InputError, match="profile demo has no run of a: it has no checkpoint"):
        compare("a", "b", "demo")
