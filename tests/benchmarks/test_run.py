"""One run into one record."""

import dataclasses
import json
import math

import pytest

from benchmarks import run
from benchmarks.data.root import DataRoot
from benchmarks.records import ResultsStore
from benchmarks.run import execute, headline, lost_record, resolve_tasks
from benchmarks.tasks import TASKS, Result, Setup
from pretrain.common.errors import InputError, RunError
from tests.benchmarks.doubles import make_record, make_spec
from tests.benchmarks.plans import evaluated
from transfer.checkpoints.store import StoredBackbone

UNREADABLE = {
    20: ({"metrics": {"top1": math.nan}}, "metrics.top1 is nan, which JSON does not have"),
    21: ({"config": {"found": [{"low": -math.inf}]}}, "config.found.0.low is -inf, which JSON does not have"),
    22: ({"metrics": {"top1": 105.0}}, "metrics.top1 is 105, not a percentage from 0 to 100"),
}


@pytest.fixture
def running(root, monkeypatch):
    """``execute`` with a stand-in for kNN, whose calls it keeps."""
    monkeypatch.setenv("RESULTS_DIR", str(root.parent / "results"))
    contexts = []

    def stand_in(context):
        contexts.append(context)
        if context.spec.seed == 13:
            raise RunError("the seed is unlucky")
        if context.spec.seed == 14:
            raise KeyError("segm")
        if context.spec.seed in UNREADABLE:
            values = {"metrics": {"top1": 1.0}, "config": {}} | UNREADABLE[context.spec.seed][0]
            return Result(test_images=2, precision="fp32", **values)
        context.folder.mkdir(parents=True, exist_ok=True)
        (context.folder / "notes.txt").write_text("of this run")
        return Result(metrics={"top1": 12.5}, test_images=2, config={"k": 1}, precision="fp32", notes=("so so",))

    monkeypatch.setitem(TASKS, "knn", dataclasses.replace(TASKS["knn"], run=stand_in))

    def call(*seeds, again=False):
        specs = [make_spec(task="knn", seed=seed) for seed in seeds]
        log = root.parent / "results" / "runs" / "log.txt"
        return execute(evaluated(root), root, specs, 0, log, again)

    return call, contexts


def test_a_record_says_all_about_its_run(running, root):
    call, contexts = running
    (saved,) = call(0)
    record = ResultsStore().load(saved.path)
    assert (record.spec, record.label, record.status) == (make_spec(task="knn"), "x", "ok")
    assert record.checkpoint == {"path": str(root), "family": "torchvision", "network": "", "backbone": "b" * 16}
    assert (record.architecture, record.metrics, record.test_images) == ("resnet50", {"top1": 12.5}, 2)
    assert record.config == {"k": 1} and record.environment["precision"] == "fp32" and record.notes == ("so so",)
    assert record.data == {"description": "a toy", "synthetic": True} and record.log == "runs/log.txt"
    assert record.environment["versions"]["torch"] and record.git and record.wall_seconds >= 0
    assert record.files == ("notes.txt",) and (saved.path.with_suffix("") / "notes.txt").exists()
    assert (saved.headline, saved.error) == ("knn top-1 12.5", None)
    assert contexts[0].root.name == "toy" and contexts[0].num_gpus == 0 and contexts[0].loader_workers == 0


def test_a_failure_is_a_record_and_the_rest_goes_on(running, capfd):
    call, _ = running
    first, second, third = call(13, 14, 2)
    assert (first.error, second.error, third.error) == ("the seed is unlucky", "KeyError: 'segm'", None)
    assert first.headline == "knn: the seed is unlucky" and "Traceback" in capfd.readouterr().err
    record = ResultsStore().load(first.path)
    assert (record.status, record.error, record.metrics) == ("failed", "the seed is unlucky", {})
    assert record.test_images is None and record.files == ()


def test_a_result_that_no_record_can_hold_is_a_failure_and_the_rest_goes_on(running):
    call, _ = running
    *failed, last = call(*UNREADABLE, 2)
    for saved, (_, reason) in zip(failed, UNREADABLE.values(), strict=True):
        assert saved.error == f"its result cannot be kept: {reason}"
        assert ResultsStore().load(saved.path).error == saved.error
    assert last.error is None


def test_what_is_done_is_not_run_again_unless_asked_and_then_anew(running):
    call, contexts = running
    call(0)
    assert call(0) == [] and [one.path.exists() for one in call(0, 1)] == [True]
    ResultsStore().working_folder(make_spec(task="knn")).mkdir()
    (ResultsStore().working_folder(make_spec(task="knn")) / "left.txt").touch()  # by an attempt that was killed
    (again,) = call(0, again=True)
    assert len(contexts) == 3 and ResultsStore().load(again.path).files == ("notes.txt",)
    assert len(ResultsStore().paths(make_spec(task="knn"))) == 2


def test_a_lost_run_has_a_record_too(root, tmp_path, monkeypatch):
    monkeypatch.setenv("RESULTS_DIR", str(tmp_path / "results"))
    spec, begun = make_spec(task="knn"), "2026-01-01T00:00:00Z"
    log = tmp_path / "results" / "logs" / "x.txt"
    record = lost_record(spec, evaluated(root), DataRoot.load(root), begun, "killed", log)
    path = ResultsStore().save(record)
    assert ResultsStore().load(path) == record and json.loads(path.read_text())["start"] == begun
    assert (record.status, record.error, record.log) == ("failed", "killed", "logs/x.txt")


def test_a_headline_is_the_primary_metric_or_the_reason():
    assert headline(make_record(make_spec(), {"top1": 38.24, "top5": 70.0})) == "linear top-1 38.2"
    assert headline(make_record(make_spec(task="coco-fpn-1x"), {"bbox/AP": None})) == "coco-fpn-1x box AP undefined"
    assert headline(make_record(make_spec(), {}, error="no disk")) == "linear: no disk"


def test_settings_are_resolved_per_task():
    found = resolve_tasks(["knn", "linear"], Setup(profile="smoke"))
    assert found == {name: (TASKS[name].settings(Setup(profile="smoke")).digest, "fp32") for name in ("knn", "linear")}
    with pytest.raises(InputError, match=r"SOLVER\.NO_SUCH"):
        resolve_tasks(["voc-fpn-24k"], Setup(profile="smoke", opts=("SOLVER.NO_SUCH", "1")))


def test_a_checkpoint_is_read_once_for_all_the_tasks_of_a_job(monkeypatch, tmp_path):
    calls = []
    monkeypatch.setattr(StoredBackbone, "load", lambda stored: calls.append(stored.source) or ("read", stored.source))
    run._backbone.cache_clear()
    values = {"spec": make_spec(), "root": None, "folder": tmp_path, "num_gpus": 0, "loader_workers": 0}
    contexts = [run.Context(checkpoint=evaluated(tmp_path / name), **values) for name in ("a", "a", "b")]
    assert [context.backbone() for context in contexts] == [("read", tmp_path / name) for name in "aab"]
    assert calls == [tmp_path / "a", tmp_path / "b"]
    run._backbone.cache_clear()
