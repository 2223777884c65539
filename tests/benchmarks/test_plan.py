"""The runs that are left to do."""

import dataclasses
import json
from importlib import import_module
from types import SimpleNamespace

import pytest

from benchmarks.executors.base import Outcome
from benchmarks.plan import Column, Plan, check_data, check_detectors, resolve_columns, seconds_by_task
from benchmarks.records import ResultsStore
from benchmarks.run import Saved
from benchmarks.tasks import TASKS, Setup, named
from pretrain.common.errors import InputError
from tests.benchmarks.doubles import make_record, make_spec
from tests.benchmarks.plans import add_layout, evaluated, plan_of


class InProcess:
    """An executor that calls: a worker's server would keep this test's environment for later ones."""

    def run(self, jobs, **more):
        for job in jobs:
            module, function = job.target.split(":")
            job.then(getattr(import_module(module), function)(**job.arguments))
        return Outcome()


def test_a_plan_resolves_its_columns_and_knows_the_seconds_of_earlier_runs(tmp_path, monkeypatch):
    monkeypatch.setenv("RESULTS_DIR", str(tmp_path))
    ResultsStore().save(make_record(make_spec(task="knn", profile="demo"), {"top1": 1.0}))
    data = SimpleNamespace(path="/data", sections={})
    columns = tuple(Column(task=task, root=data, seeds=(0, 1)) for task in ("knn", "voc-fpn-24k", "knn"))
    plan = resolve_columns(Plan(profile="demo", columns=columns, num_gpus=0), InProcess())
    detector = TASKS["voc-fpn-24k"].settings(Setup(profile="demo"))
    assert plan.resolved["voc-fpn-24k", "/data"] == (detector.digest, detector.precision)
    assert plan.resolved["knn", "/data"][1] == "fp32" and len(plan.resolved) == 2
    assert plan.seconds == {"knn": 1.0}


def test_a_detector_is_checked_on_each_of_its_data_sets(root):
    add_layout(root, "voc")
    plan = plan_of(root, "voc-fpn-24k")
    (column,) = plan.columns
    other = dataclasses.replace(column, root=dataclasses.replace(column.root, path=root / "other"))
    resolved = {("voc-fpn-24k", one.root.path): ("d" * 64, "fp32") for one in (column, other)}
    plan = dataclasses.replace(plan, columns=(column, other), resolved=resolved)
    given = []
    executor = SimpleNamespace(run=lambda jobs, **more: given.extend(jobs) or Outcome())
    check_detectors(plan, [evaluated(root, label=name) for name in "ab"], executor)
    checked = [data.path for _, _, data in given[0].arguments["detectors"]]
    assert checked == [column.root.path, root / "other"]  # once for both checkpoints, of one network


def test_a_deterministic_task_has_one_spec_whatever_the_seeds(root):
    def specs(*seeds):
        plan = plan_of(root, "linear", "low-shot", "knn", seeds=seeds)
        return [(spec.task, spec.seed) for spec in plan.specs(evaluated(root))]

    assert specs(1, 2) == [("linear", 0), ("low-shot", 1), ("low-shot", 2), ("knn", 0)]
    assert set(specs(0)) & set(specs(5)) == {("linear", 0), ("knn", 0)}


def test_a_checkpoint_that_was_not_converted_has_no_detectors(root):
    add_layout(root, "voc")
    plan = plan_of(root, "linear", "voc-fpn-24k")
    assert [spec.task for spec in plan.specs(evaluated(root))] == ["linear", "voc-fpn-24k"]
    assert [spec.task for spec in plan.specs(evaluated(root, detectron2=None))] == ["linear"]


def test_options_and_gpus_identify_detection_runs_alone(root):
    add_layout(root, "voc")
    plan = plan_of(root, "linear", "voc-fpn-24k", opts=("A", "1"), num_gpus=2)
    frozen, detector = plan.specs(evaluated(root))
    assert (frozen.overrides, frozen.num_gpus) == ((), None)
    assert (detector.overrides, detector.num_gpus) == (("A", "1"), 2)
    assert [job.gpus for job in plan.jobs(evaluated(root), [])] == [1, 2]
    assert [job.gpus for job in plan_of(root, "linear", "voc-fpn-24k").jobs(evaluated(root), [])] == [0, 0]


def test_tasks_on_the_same_images_share_a_job_and_finished_runs_have_none(root):
    add_layout(root, "voc")
    tasks = ("linear", "low-shot", "knn", "voc-fpn-24k")
    plan, one = plan_of(root, *tasks, seeds=(0, 1)), evaluated(root)

    def planned(**changes):
        jobs = plan_of(root, *tasks, seeds=(0, 1), **changes).jobs(one, [])
        return [[(spec.task, spec.seed) for spec in job.arguments["specs"]] for job in jobs]

    features = [("linear", 0), ("low-shot", 0), ("low-shot", 1), ("knn", 0)]
    detectors = [[("voc-fpn-24k", 0)], [("voc-fpn-24k", 1)]]
    assert planned() == [features, *detectors] and plan.jobs_per_row() == 3
    specs = {(spec.task, spec.seed): spec for spec in plan.specs(one)}
    for done in (("linear", 0), ("low-shot", 1), ("voc-fpn-24k", 0)):
        ResultsStore().save(make_record(specs[done], {"top1": 1.0}))
    ResultsStore().save(make_record(specs["knn", 0], {}, error="no disk"))  # counts as missing
    assert planned() == [[("low-shot", 0), ("knn", 0)], detectors[1]]
    assert planned(rerun="always") == [features, *detectors] and planned(rerun="never") == []


def test_a_job_says_which_data_it_reads_where_there_are_several(root):
    one = plan_of(root, "linear-sgd-moco", seeds=(0, 1))
    assert [job.name for job in one.jobs(evaluated(root), [])] == [
        "x linear-sgd-moco seed 0",
        "x linear-sgd-moco seed 1",
    ]
    (root.parent / "other").mkdir()
    values = json.loads((root / "data.json").read_text()) | {"name": "other"}
    (root.parent / "other" / "data.json").write_text(json.dumps(values))
    two = dataclasses.replace(one, columns=one.columns[:1] + plan_of(root.parent / "other", "knn").columns)
    two = dataclasses.replace(two, resolved=two.resolved | plan_of(root.parent / "other", "knn").resolved)
    names = [job.name for job in two.jobs(evaluated(root), [])]
    assert names == ["x linear-sgd-moco on toy seed 0", "x linear-sgd-moco on toy seed 1", "x knn on other"]


def test_a_job_of_a_group_is_named_by_it_whole_or_counted(root):
    styles = [task.name for task in named("linear-sgd")]
    plans = [plan_of(root, *some) for some in (styles, styles[1:], styles[:2])]
    found = [[job.stage for job in one.jobs(evaluated(root), [])] for one in plans]
    assert found == [["linear-sgd"], [f"linear-sgd ({len(styles) - 1} tasks)"], [" ".join(styles[:2])]]


def test_runs_whose_process_was_killed_get_a_record_that_says_so(root):
    plan, one, saved = plan_of(root, "linear", "knn"), evaluated(root), []
    (job,) = plan.jobs(one, saved)
    kept = ResultsStore().save(make_record(plan.specs(one)[0], {"top1": 1.0}))  # it had ended before
    job.crashed("killed")
    assert saved[0] == kept and len(saved) == 2
    record = ResultsStore().load(saved[1])
    assert (record.spec.task, record.status, record.error, record.label) == ("knn", "failed", "killed", "x")
    assert record.checkpoint == {"path": str(root), "family": "torchvision", "network": "", "backbone": "b" * 16}


def test_the_reason_of_a_job_is_its_first_error(root):
    add_layout(root, "voc")
    good = Saved(path=root, task="linear", seconds=1.0, headline="linear top-1 1.0", error=None)
    bad = Saved(path=root, task="knn", seconds=1.0, headline="knn: no disk", error="no disk")
    shared, detector = plan_of(root, "linear", "knn", "voc-fpn-24k").jobs(evaluated(root), [])
    assert shared.failure([good, bad]) == "knn: no disk" and shared.failure([good]) == "" == shared.failure([])
    assert detector.failure([bad]) == "no disk"  # whose name has the task
    assert shared.report([good, bad]) == "linear top-1 1.0, knn: no disk"
    assert shared.report([]) == "done by another process"


def test_every_run_of_a_shared_job_tells_how_long_its_task_takes(root):
    plan, saved = plan_of(root, "linear", "knn"), []
    (job,) = plan.jobs(evaluated(root), saved)
    first = Saved(path=root / "1", task="linear", seconds=3.0, headline="", error=None)
    failed = Saved(path=root / "2", task="knn", seconds=9.0, headline="", error="no disk")
    assert job.then([first, failed]) == [] and saved == [root / "1", root / "2"]
    assert plan.seconds == {"linear": 3.0} and job.estimate() is None


def test_a_job_takes_as_long_as_its_tasks_have_taken_before(root):
    (job,) = plan_of(root, "linear", "knn", seconds={"linear": 3.0, "knn": 4.0}).jobs(evaluated(root), [])
    assert job.estimate() == 7.0
    plan = plan_of(root, "linear", "knn", seconds={"linear": 3.0})
    (job,) = plan.jobs(evaluated(root), [])
    assert job.estimate() is None  # nothing is known of kNN
    plan.seconds["knn"] = 2.0  # another row's, of this command
    assert job.estimate() == 5.0


def test_seconds_are_the_mean_of_ok_runs_of_the_profile(tmp_path):
    store = ResultsStore(tmp_path)
    paths = [
        store.save(make_record(make_spec(**changes), {"top1": 1.0}, error=error))
        for changes, error in (
            ({}, None),
            ({"seed": 1}, None),
            ({"seed": 2}, "no disk"),
            ({"profile": "demo"}, None),
            ({"task": "knn"}, None),
        )
    ]
    paths[1].write_text(paths[1].read_text().replace('"wall_seconds": 1.0', '"wall_seconds": 4.0'))
    assert seconds_by_task(paths, "smoke") == {"linear": 2.5, "knn": 1.0}
    paths[4].write_text("{")
    assert seconds_by_task(paths, "smoke") == {"linear": 2.5}


def test_a_task_that_cannot_run_on_its_data_is_refused(root):
    with pytest.raises(InputError, match="class b of data set toy has 9 training images, and low-shot takes 10"):
        check_data(plan_of(root, "knn", "low-shot"), "")
    add_layout(root, "coco", masks="none")
    with pytest.raises(InputError, match="coco-fpn-1x needs masks, and data set toy has only boxes: run `this`"):
        check_data(plan_of(root, "coco-fpn-1x"), "this")
    check_data(plan_of(root, "knn", "coco-det-fpn-1x"), "")
    add_layout(root, "coco", masks="polygon")
    check_data(plan_of(root, "coco-fpn-1x"), "")
