"""The commands as a user meets them."""

import json
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.__main__ import _cells, _gpus, _opts, main
from benchmarks.arguments import RunArguments, default_gpus
from benchmarks.data.root import DataRoot
from benchmarks.executors.local import Ran
from benchmarks.plan import Cell, Plan, check_data, parse_checkpoints
from benchmarks.run import Source
from benchmarks.suites import run_suite
from benchmarks.tasks import TASKS
from pretrain.common.errors import InputError
from tests.benchmarks.doubles import IMAGENET_INPUT

CHECKOUT = Path(__file__).resolve().parents[2]


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A data root with an imagenet section only, and a file that is no checkpoint."""
    monkeypatch.setenv("RESULTS_DIR", str(tmp_path / "results"))
    folder = tmp_path / "toy"
    folder.mkdir()
    section = {"classes": ["a", "b"], "counts": {"train": 4, "val": 2}, "fingerprint": "f" * 64}
    record = {"name": "toy", "synthetic": True, "description": "a toy", "config": {}, "imagenet": section}
    (folder / "data.json").write_text(json.dumps(record))
    for name, count in (("a", 10), ("b", 9)):
        (folder / "imagenet" / "train" / name).mkdir(parents=True)
        for number in range(count):
            (folder / "imagenet" / "train" / name / f"{number}.JPG").touch()
        (folder / "imagenet" / "train" / name / "notes.txt").touch()
    (tmp_path / "x.pth").write_text("<html>404 not found</html>")
    return folder


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
        ({"--task": ["segmentation"]}, "unknown task segmentation: choose from linear"),
        ({"--task": ["voc-det"]}, "has no voc layout"),
        ({"--protocol": ["voc_c4_24k"]}, "unknown protocol voc_c4_24k"),
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
    ],
)
def test_wrong_input_is_one_line_that_names_it_and_nothing_is_written(root, changes, words):
    with pytest.raises(InputError) as caught:
        main(run_arguments(root, **changes))
    assert words in str(caught.value) and "\n" not in str(caught.value)
    assert not (root.parent / "results").exists()


@pytest.mark.parametrize("more", [{}, {"--protocol": ["coco_c4_1x"]}])
def test_data_without_masks_is_refused_with_the_command_for_boxes(root, more):
    values = json.loads((root / "data.json").read_text())
    values["coco"] = {"classes": ["a"], "counts": {}, "fingerprint": "f" * 64, "masks": "none"}
    (root / "data.json").write_text(json.dumps(values))
    arguments = run_arguments(root, **{"--task": ["coco-seg"], **more})
    with pytest.raises(InputError, match="data set toy has boxes alone") as caught:
        main(arguments)
    command = shlex.split(str(caught.value).split("`")[1])
    assert command[:3] == ["python", "-m", "benchmarks"]
    expected = {"coco-seg": "coco-det", "coco_c4_1x": "coco_det_c4_1x"}
    assert command[3:] == [expected.get(word, word) for word in arguments]
    check_data(plan_of(root, "coco-det"), "")


def plan_of(root, *tasks, seeds=(0,)):
    data = DataRoot.load(root)
    cells = tuple(Cell(task=task, protocol=next(iter(TASKS[task].protocols)), seeds=seeds) for task in tasks)
    resolved = {(cell.task, cell.protocol): ("d" * 64, "fp32") for cell in cells}
    roots = {TASKS[task].needs: data for task in tasks}
    return Plan(profile="smoke", cells=cells, roots=roots, num_gpus=0, resolved=resolved)


def test_tasks_protocols_and_seeds_that_are_given_twice_run_once(root):
    values = {"task": ("knn", "linear", "knn"), "protocol": ("knn", "knn"), "checkpoint": (), "data": root}
    assert _cells(RunArguments(**values)) == [("knn", "knn"), ("linear", "lbfgs")]


def test_a_file_that_is_no_checkpoint_stops_the_run_before_any_record(root):
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", *run_arguments(root)], cwd=CHECKOUT, capture_output=True, text=True
    )
    assert done.returncode == 2
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("error: ") and "x.pth" in line
    assert not (root.parent / "results").exists()


@pytest.mark.parametrize("flag", ["--sede", "--profile=huge", "--workers=two"])
def test_unknown_flags_and_wrong_types_are_named_and_exit_with_2(root, flag, capfd):
    with pytest.raises(SystemExit) as caught:
        main([*run_arguments(root), flag])
    assert caught.value.code == 2
    assert flag.split("=")[-1] in capfd.readouterr().err


def test_nothing_to_run_needs_no_folder_that_can_be_written_and_a_run_does(root, monkeypatch):
    """Up to the table, with workers and detectron2 left out."""
    source = Source(label="x", path=root, converted=root, sha256="a" * 64, input=IMAGENET_INPUT, architecture="a")
    resolved = plan_of(root, "knn").resolved
    monkeypatch.setattr("benchmarks.plan.resolve_columns", lambda plan, workers: replace(plan, resolved=resolved))
    monkeypatch.setattr("benchmarks.plan.convert_first", lambda checkpoints, workers: [source])
    monkeypatch.setattr(
        "benchmarks.executors.local.run_jobs", lambda jobs, workers: pytest.fail("started") if jobs else Ran()
    )
    monkeypatch.setattr("benchmarks.report.summary.finish", lambda expected, *rest: len(expected))
    (root.parent / "results").touch()
    with pytest.raises(NotADirectoryError, match="results"):
        main(run_arguments(root))
    assert main([*run_arguments(root), "--rerun", "never"]) == 1  # one spec to show


def test_unknown_command():
    with pytest.raises(InputError, match="unknown command plot: choose from prepare"):
        main(["plot"])


def test_checkpoints_by_name_by_stem_and_by_folder(tmp_path):
    file, folder = tmp_path / "moco.pth", tmp_path / "run"
    folder.mkdir()
    for path in (file, folder / "backbone.safetensors"):
        path.write_bytes(b"x")
    found = parse_checkpoints((f"mine={file}", str(file), f"own={folder}"))
    assert found == {"mine": file, "moco": file, "own": folder / "backbone.safetensors"}


LIGHTNING = "epoch=99-step=500400"


@pytest.mark.parametrize(
    ("item", "label", "file"),
    [
        (f"{LIGHTNING}.ckpt", LIGHTNING, f"{LIGHTNING}.ckpt"),
        (f"mine={LIGHTNING}.ckpt", "mine", f"{LIGHTNING}.ckpt"),
        (f"{LIGHTNING}={LIGHTNING}.ckpt", LIGHTNING, f"{LIGHTNING}.ckpt"),
        ("lr=0.1/x.pth", "x", "lr=0.1/x.pth"),
        ("./lr=0.1/x.pth", "x", "lr=0.1/x.pth"),
        ("a=lr=0.1/x.pth", "a", "lr=0.1/x.pth"),
        ("lr=0.1", "lr=0.1", "lr=0.1/backbone.safetensors"),
        ("best=lr=0.1", "best", "lr=0.1/backbone.safetensors"),
        ("mein Lauf #1 (50%)=x y.pth", "mein Lauf #1 (50%)", "x y.pth"),
        ("a=b.pth", "a=b", "a=b.pth"),  # what exists is a path, though b.pth exists too
        ("c=b.pth", "c", "b.pth"),
    ],
)
def test_a_path_may_hold_an_equals_sign(item, label, file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lr=0.1").mkdir()
    for name in (f"{LIGHTNING}.ckpt", "lr=0.1/x.pth", "lr=0.1/backbone.safetensors", "x y.pth", "a=b.pth", "b.pth"):
        (tmp_path / name).write_bytes(b"x")
    assert parse_checkpoints((item,)) == {label: tmp_path / file}


@pytest.mark.parametrize(
    ("item", "missing"),
    [
        ("lr=0.2/x.pth", "0.2/x.pth"),
        ("runs/lr=0.2/x.pth", "runs/lr=0.2/x.pth"),  # no name has a slash in it
        ("mine=nowhere.pth", "nowhere.pth"),
        (f"{LIGHTNING}.ckpt", "99-step=500400.ckpt"),
        ("=b.pth", "b.pth"),
        ("mine=", "mine="),
        ("x" * 5000, "x" * 5000),
    ],
)
def test_a_checkpoint_that_is_not_there(item, missing, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError) as caught:
        parse_checkpoints((item,))
    assert str(caught.value) == f"--checkpoint {item}: {missing} is not a file; give a PATH, or NAME=PATH"


@pytest.mark.parametrize("name", ["two\nlines", "\x1b[2J", "caf\udce9", "a" * 201])
def test_a_name_that_no_table_can_show_is_refused_and_a_file_of_that_name_is_not(tmp_path, name):
    file = tmp_path / f"{name}.pth"
    file.write_bytes(b"x")
    if name.isascii() and len(name) < 200:
        assert list(parse_checkpoints((str(file),))) == [name.encode("unicode_escape").decode()]
    with pytest.raises(InputError, match="give a"):
        parse_checkpoints((f"{name}={file}",))


def test_a_checkpoint_may_not_take_a_row_of_the_suite(tmp_path):
    with pytest.raises(InputError, match="simclr"):
        run_suite("smoke", {"simclr": tmp_path}, 1, 0, ())


def test_paper_lists_what_is_missing_and_where_it_looked(tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("RESULTS_DIR", str(tmp_path))
    monkeypatch.setenv("IMAGENET_DIR", "/data/in1k")
    monkeypatch.delenv("DETECTRON2_DATASETS", raising=False)
    with pytest.raises(InputError, match="needs imagenet, voc, coco"):
        run_suite("paper", {"mine": tmp_path / "x.pth"}, 1, 0, ())
    said = capfd.readouterr().err
    assert "/data/in1k is not there" in said and "DETECTRON2_DATASETS is not set" in said
    assert "python -m benchmarks prepare imagenet /data/in1k" in said
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    with pytest.raises(InputError):
        run_suite("paper", {"mine": tmp_path / "x.pth"}, 1, 0, ())
    assert (
        f"{tmp_path} is there; prepare it with: python -m benchmarks prepare voc {tmp_path}" in capfd.readouterr().err
    )


def test_paper_does_not_take_a_root_of_that_name_for_the_standard_set(root, monkeypatch, capfd):
    monkeypatch.setenv("DATA_DIR", str(root.parent / "data"))
    (root.parent / "data").mkdir()
    root.rename(root.parent / "data" / "imagenet")
    with pytest.raises(InputError, match="needs imagenet"):
        run_suite("paper", {"mine": root}, 1, 0, ())
    assert "NOT THE STANDARD SET ImageNet-1k" in capfd.readouterr().err


@pytest.mark.parametrize(("visible", "count"), [("", 0), ("-1", 0), ("0", 1), ("0,1", 2), ("1,-1,2", 1)])
def test_gpus_that_may_be_used(monkeypatch, visible, count):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert default_gpus() == count
    assert _gpus(None, "demo") == min(1, count) and _gpus(None, "paper") == count


def test_the_same_options_in_another_order_are_the_same_run():
    assert _opts(("B", "2", "A", "1")) == _opts(("A", "1", "B", "2")) == ("A", "1", "B", "2")


def test_a_deterministic_task_has_one_spec_whatever_the_seeds(root):
    source = Source(
        label="x", path=root, converted=root, sha256="a" * 64, input=IMAGENET_INPUT, architecture="resnet50"
    )

    def specs(*seeds):
        plan = plan_of(root, "linear", "low-shot", "knn", seeds=seeds)
        return [(spec.task, spec.seed) for spec in plan.specs(source)]

    assert specs(1, 2) == [("linear", 0), ("low-shot", 1), ("low-shot", 2), ("knn", 0)]
    assert set(specs(0)) & set(specs(5)) == {("linear", 0), ("knn", 0)}


def test_tables_without_records_says_so(tmp_path, monkeypatch):
    monkeypatch.setenv("RESULTS_DIR", str(tmp_path))
    with pytest.raises(InputError, match="no recorded run of profile demo"):
        main(["tables", "demo"])


def test_tables_stay_in_their_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("RESULTS_DIR", str(tmp_path))
    with pytest.raises(InputError, match="without folders"):
        main(["tables", "demo", "--name", "../escaped"])
