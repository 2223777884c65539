"""Hours, memory and disk that are said before a paper run; a detector that is timed for them."""

import dataclasses
import json
from types import SimpleNamespace

import pytest
import torch

from benchmarks import estimate
from benchmarks.data.emoji.generate import generate
from benchmarks.data.emoji.scenes import EmojiConfig
from benchmarks.data.root import DataRoot
from benchmarks.estimate import Timing, key, runs_left, say_forecast, store, table
from benchmarks.plan import Column, Plan, resolve_columns
from benchmarks.tasks import TASKS
from benchmarks.tasks.compute import timed
from tests.benchmarks.plans import add_layout, evaluated, plan_of
from tests.benchmarks.tasks.small import checkpoint
from tests.benchmarks.test_plan import InProcess

TIMING = Timing(
    task="voc-c4-24k",
    data="toy",
    device="H100",
    processes=2,
    iterations=96_000,
    seconds_per_iteration=0.25,
    seconds_per_test_image=0.1,
    trainings=1,
    seconds=36_000.0,
    memory_gib=11.5,
    disk_gb=5.0,
)


@pytest.fixture
def plan(root):
    add_layout(root, "voc")
    return plan_of(root, "knn", "linear", "voc-c4-24k", "voc-fpn-24k", seeds=(0, 1), profile="paper", num_gpus=2)


def timings(plan, one):
    return {key(spec, "resnet50", 2): TIMING for _, spec in plan.left(one) if spec.task == "voc-c4-24k"}


def test_the_table_says_where_each_figure_is_from(plan, root):
    one = evaluated(root)
    plan = dataclasses.replace(plan, seconds={"knn": 1800.0})
    lines = table(plan, runs_left(plan, [one]), timings(plan, one)).splitlines()
    rows = {line.split()[0]: line.split(maxsplit=1)[1].split() for line in lines[1:5]}
    assert rows["voc-c4-24k"][:6] == ["toy", "2", "96,000", "0.25", "10.0", "20.0"]
    assert rows["voc-c4-24k"][6:] == ["11.5", "GiB", "GPU", "5.0", "timed", "on", "2", "×", "H100"]
    assert rows["knn"][-2:] == ["earlier", "runs"] and rows["knn"][4:6] == ["0.5", "0.5"]
    fpn = TASKS["voc-fpn-24k"].cost
    assert rows["voc-fpn-24k"][4:6] == [f"{fpn.gpu_hours:g}", "GPU"] and rows["voc-fpn-24k"][-2:] == [
        "published",
        "cost",
    ]
    rest = 2 * fpn.gpu_hours + TASKS["linear"].cost.gpu_hours
    assert f"in all 20.5 h, one run after the other and {rest:g} GPU hours on the published hardware" in lines[-1]
    assert f"up to {10.0 + 2 * fpn.disk_gb + TASKS['linear'].cost.disk_gb:.1f} GB; " in lines[-1]


def test_a_start_says_one_line_and_its_sources(plan, root, capsys):
    one = evaluated(root)
    say_forecast(plan, [one])
    (line,) = capsys.readouterr().err.splitlines()
    gpu = 2 * (TASKS["voc-c4-24k"].cost.gpu_hours + TASKS["voc-fpn-24k"].cost.gpu_hours)
    gpu += TASKS["knn"].cost.gpu_hours + TASKS["linear"].cost.gpu_hours
    assert line.startswith(f"before it starts: 6 runs; {gpu:.3g} GPU hours on the published hardware by published cost")
    assert "GB are free · --estimate times detectors here first" in line
    store().parent.mkdir()
    store().write_text(json.dumps({name: dataclasses.asdict(found) for name, found in timings(plan, one).items()}))
    plan = dataclasses.replace(plan, seconds=dict.fromkeys(("knn", "linear", "voc-fpn-24k"), 3600.0))
    say_forecast(plan, [one])
    line = capsys.readouterr().err
    assert "; about 4.0 h by earlier runs (linear, knn, voc-fpn-24k)" in line.replace("(knn, linear", "(linear, knn")
    assert "about 20.0 h by --estimate here (voc-c4-24k)" in line and "--estimate times" not in line


def test_a_damaged_file_of_timings_is_none(plan, root, capsys):
    store().parent.mkdir()
    for text in ("no json", json.dumps({name: {"seconds": "long"} for name in timings(plan, evaluated(root))})):
        store().write_text(text)
        say_forecast(plan, [evaluated(root)])
        assert "--estimate here" not in capsys.readouterr().err


def test_other_profiles_and_finished_plans_say_nothing(plan, root, capsys):
    say_forecast(dataclasses.replace(plan, profile="demo"), [evaluated(root)])
    say_forecast(dataclasses.replace(plan, rerun="never"), [evaluated(root)])
    assert capsys.readouterr().err == ""


def test_a_checkpoints_bytes_are_the_files(tmp_path):
    model = torch.nn.Linear(1000, 300)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    model(torch.ones(1, 1000)).sum().backward()
    optimizer.step()
    trainer = SimpleNamespace(checkpointer=SimpleNamespace(model=model), optimizer=optimizer)
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, tmp_path / "x.pth")
    assert timed.checkpoint_bytes(trainer) == 2 * 4 * 300_300
    assert timed.checkpoint_bytes(trainer) == pytest.approx((tmp_path / "x.pth").stat().st_size, rel=0.01)


@pytest.mark.slow
def test_a_detector_is_timed_and_nothing_is_recorded(tmp_path, monkeypatch):
    monkeypatch.setenv("RESULTS_DIR", str(tmp_path / "results"))
    monkeypatch.setenv("DATA_DIR", str(tmp_path / "data"))
    config = EmojiConfig(train_scenes=40, train_images=40, val_images=40, image_size=32, val_scenes=20)
    root = DataRoot.load(generate(config, "few", 1))
    columns = (Column(task="voc-fpn-24k", root=root, seeds=(0, 1)),)
    size = ("INPUT.MAX_SIZE_TRAIN", "80", "INPUT.MIN_SIZE_TRAIN", "(64,)", "SOLVER.CHECKPOINT_PERIOD", "9000")
    size += ("INPUT.MAX_SIZE_TEST", "80", "INPUT.MIN_SIZE_TEST", "64", "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE", "16")
    size += ("MODEL.RPN.POST_NMS_TOPK_TEST", "20", "DATALOADER.NUM_WORKERS", "0")
    plan = resolve_columns(Plan(profile="paper", columns=columns, num_gpus=0, opts=size), InProcess())
    one = checkpoint(tmp_path)
    text = estimate.estimate(plan, [one], InProcess())
    (found,) = json.loads(store().read_text()).values()
    timing = Timing(**found)
    assert (timing.task, timing.device, timing.processes, timing.iterations) == ("voc-fpn-24k", "cpu", 1, 192_000)
    training = timing.seconds_per_iteration * (192_000 + timed.FORWARD * 1600)
    assert timing.seconds == pytest.approx(training + 20 * timing.seconds_per_test_image)
    assert timing.disk_gb == pytest.approx(22 * 0.23, rel=0.2)  # a ResNet-18's detector and its momenta
    assert timing.memory_gib > 0.5 and "192,000" in text
    assert [path.name for path in (tmp_path / "results").iterdir() if path.name == "runs"] == []
