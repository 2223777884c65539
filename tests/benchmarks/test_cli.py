"""The commands as a user meets them."""

import json
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.__main__ import _columns, _gpus, _opts, main
from benchmarks.arguments import RunArguments, visible_gpus
from benchmarks.executors.base import Outcome
from benchmarks.executors.local import LocalExecutor
from benchmarks.plan import check_data
from pretrain.common.errors import InputError
from tests.benchmarks.plans import add_layout, evaluated, plan_of

CHECKOUT = Path(__file__).resolve().parents[2]


def run_arguments(root, **changes):
    values = {
        "--task": ["knn"],
        "--checkpoint": [f"x={root.parent / 'x.pth'}"],
        "--data": [str(root)],
        "--profile": ["smoke"],
    } | changes
    return ["run", *(word for flag, words in values.items() for word in (flag, *words))]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"--task": ["segmentation"]}, "unknown task segmentation: `python -m benchmarks list` has all of them"),
        ({"--task": ["Linear_SGD_moco"]}, "unknown task Linear_SGD_moco: did you mean linear-sgd-moco"),
        ({"--task": [""]}, "unknown task ''"),  # not the tasks that have no group
        ({"--task": ["voc-fpn-24k"]}, "voc-fpn-24k: data set toy has no voc layout"),
        ({"--task": []}, "--task has no value"),
        ({"--checkpoint": []}, "--checkpoint has no value"),
        ({"--data": []}, "--data has no value"),
        ({"--task": ["knn", "voc_c4_24k"]}, "unknown task voc_c4_24k"),
        ({"--data": ["/nowhere"]}, "not a prepared data root"),
        ({"--seed": ["-1"]}, "--seed -1"),
        ({"--seed": ["0", "4294967296"]}, "--seed 4294967296: give 0 to 2147483647"),
        ({"--task": ["knn", "low-shot"]}, "class b of data set toy has 9 training images, and low-shot takes 10"),
        ({"--opts": ["A", "1"]}, "none of these tasks trains a detector"),
        ({"--opts": ["A", "1", "A", "2"]}, "A is given twice"),
        ({"--num-gpus": ["-1"]}, "--num-gpus -1: this machine has"),
        ({"--num-gpus": ["99"]}, "--num-gpus 99: this machine has"),
        ({"--checkpoint": ["x=/nowhere.pth"]}, "/nowhere.pth is not a file"),
        ({"--checkpoint": ["x=/etc/hostname", "x=/etc/hostname"]}, "two checkpoints are named x"),
        ({"--opts": ["SOLVER.MAX_ITER"]}, "KEY VALUE"),
        ({"--workers": ["0"]}, "--workers 0"),
        ({"--search": ["SOLVER.BASE_LR=1,2"]}, "--search applies only to detectors, and none of these tasks"),
        ({"--search": ["SOLVER.BASE_LR"]}, "--search SOLVER.BASE_LR: give KEY=V1,V2"),
        ({"--search": ["A=1,2"], "--opts": ["A", "1"]}, "A is in --opts and in --search"),
    ],
)
def test_wrong_input_is_one_line_that_names_it_and_nothing_is_written(root, changes, words):
    with pytest.raises(InputError) as caught:
        main(run_arguments(root, **changes))
    assert words in str(caught.value) and "\n" not in str(caught.value)
    assert not (root.parent / "results").exists()


@pytest.mark.parametrize(("task", "boxes"), [("coco-fpn-1x", "coco-det-fpn-1x"), ("coco-c4-1x", "coco-det-c4-1x")])
def test_data_without_masks_is_refused_with_the_command_for_boxes(root, task, boxes):
    add_layout(root, "coco", masks="none")
    arguments = run_arguments(root, **{"--task": [task, "knn"]})
    with pytest.raises(InputError, match="data set toy has only boxes") as caught:
        main(arguments)
    command = shlex.split(str(caught.value).split("`")[1])
    assert command[:3] == ["python", "-m", "benchmarks"]
    assert command[3:] == [boxes if word == task else word for word in arguments]
    check_data(plan_of(root, boxes), "")


def run_columns(*roots, **changes):
    values = {"task": ("knn", "linear", "knn"), "checkpoint": (), "data": roots, "seed": (3, 1, 3)} | changes
    return [(column.task, column.root.name, column.seeds) for column in _columns(RunArguments(**values))]


def test_tasks_data_and_seeds_that_are_given_twice_run_once(root):
    assert run_columns(root, root) == [("knn", "toy", (3, 1)), ("linear", "toy", (3, 1))]


def test_each_task_runs_on_every_root_that_has_its_layout(root):
    folder = root.parent / "scenes"
    folder.mkdir()
    values = json.loads((root / "data.json").read_text()) | {"name": "scenes"}
    values["voc"] = values.pop("imagenet")
    (folder / "data.json").write_text(json.dumps(values))
    found = run_columns(root, folder, task=("knn", "voc-fpn-24k"), seed=(0,))
    assert found == [("knn", "toy", (0,)), ("voc-fpn-24k", "scenes", (0,))]
    with pytest.raises(InputError, match="none of the tasks reads data set scenes: leave it out"):
        run_columns(root, folder)
    values["imagenet"] = values["voc"]
    (folder / "data.json").write_text(json.dumps(values))
    assert run_columns(root, folder, task=("knn",), seed=(0,)) == [("knn", "toy", (0,)), ("knn", "scenes", (0,))]


def test_a_file_that_is_no_checkpoint_stops_the_run_before_any_record(root):
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", *run_arguments(root)], cwd=CHECKOUT, capture_output=True, text=True
    )
    assert done.returncode == 2
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("error: ") and "x.pth" in line
    results = root.parent / "results"
    assert not (results / "runs").exists() and [one.name for one in (results / "backbones").iterdir()] == ["index"]


@pytest.mark.parametrize("flag", ["--sede", "--profile=huge", "--workers=two"])
def test_unknown_flags_and_wrong_types_are_named_and_exit_with_2(root, flag, capfd):
    with pytest.raises(SystemExit) as caught:
        main([*run_arguments(root), flag])
    assert caught.value.code == 2
    assert flag.split("=")[-1] in capfd.readouterr().err


def test_nothing_to_run_needs_no_folder_that_can_be_written_and_a_run_does(root, monkeypatch):
    """Up to the table, with workers and detectron2 left out."""
    resolved = plan_of(root, "knn").resolved
    monkeypatch.setattr("benchmarks.plan.resolve_columns", lambda plan, executor: replace(plan, resolved=resolved))
    monkeypatch.setattr("benchmarks.checkpoints.import_all", lambda checkpoints, executor: [evaluated(root)])
    monkeypatch.setattr(LocalExecutor, "run", lambda self, jobs: pytest.fail("started") if jobs else Outcome())
    monkeypatch.setattr("benchmarks.report.summary.finish", lambda expected, *rest, **more: len(expected))
    (root.parent / "results").touch()
    with pytest.raises(NotADirectoryError, match="results"):
        main(run_arguments(root))
    assert main([*run_arguments(root), "--rerun", "never"]) == 1  # one spec to show


def test_unknown_command():
    with pytest.raises(InputError, match="unknown command plot: choose from prepare"):
        main(["plot"])


@pytest.mark.parametrize(
    ("visible", "names"),
    [
        ("", ()),
        ("-1", ()),
        ("0", ("0",)),
        ("0,1", ("0", "1")),
        ("1,-1,2", ("1",)),
        ("GPU-8f, MIG-3a", ("GPU-8f", "MIG-3a")),
    ],
)
def test_gpus_that_may_be_used(monkeypatch, visible, names):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert visible_gpus() == names
    assert _gpus(None, "demo") == min(1, len(names)) and _gpus(None, "paper") == len(names)


def test_the_same_options_in_another_order_are_the_same_run():
    assert _opts(("B", "2", "A", "1")) == _opts(("A", "1", "B", "2")) == ("A", "1", "B", "2")


def test_tables_without_records_says_so(tmp_path, monkeypatch):
    monkeypatch.setenv("RESULTS_DIR", str(tmp_path))
    with pytest.raises(InputError, match="no recorded run of profile demo"):
        main(["tables", "demo"])


def test_tables_stay_in_their_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("RESULTS_DIR", str(tmp_path))
    with pytest.raises(InputError, match="without folders"):
        main(["tables", "demo", "--name", "../escaped"])


def test_processes_on_the_cpu_are_for_machines_without_gpus(monkeypatch):
    monkeypatch.setenv("CPU_PROCESSES", "2")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert (_gpus(None, "paper"), _gpus(None, "demo"), _gpus(0, "paper"), _gpus(2, "demo")) == (2, 1, 0, 2)
    with pytest.raises(InputError, match="--num-gpus 3: this machine has 2"):
        _gpus(3, "paper")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    with pytest.raises(InputError, match="CPU_PROCESSES=2 is for machines without GPUs, and here are 2: unset it"):
        _gpus(None, "paper")
