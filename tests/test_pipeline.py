"""The real thing, small, with a crash."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import torch
import torchvision
from PIL import Image

from benchmarks.data.emoji.generate import generate
from benchmarks.data.emoji.scenes import EmojiConfig
from benchmarks.records import ResultsStore

CHECKOUT = Path(__file__).resolve().parent.parent
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """RESULTS_DIR with a tiny emoji root, and a stock torchvision ResNet-50 with fresh BatchNorm."""
    folder = tmp_path_factory.mktemp("pipeline")
    before = os.environ.get("RESULTS_DIR")
    os.environ["RESULTS_DIR"] = str(folder)
    config = EmojiConfig(train_images=200, val_images=40, train_scenes=40, val_scenes=20, image_size=48, scene_size=96)
    generate(config, "tiny", 2)
    torch.manual_seed(0)
    torch.save(torchvision.models.resnet50(weights=None).state_dict(), folder / "stock.pth")
    yield folder
    os.environ.pop("RESULTS_DIR") if before is None else os.environ.update(RESULTS_DIR=before)


def command(folder, *tasks, opts=("SOLVER.MAX_ITER", "3"), more=()):
    root = next((folder / "data").glob("tiny*"))
    return [
        *(sys.executable, "-m", "benchmarks", "run", "--task", *tasks, "--checkpoint", f"stock={folder / 'stock.pth'}"),
        *("--data", str(root), "--profile", "smoke", "--workers", "2", "--opts", *opts, *more),
    ]


def run(*arguments, **more):
    return subprocess.run(command(*arguments, **more), cwd=CHECKOUT, capture_output=True, text=True)


def test_every_task_leaves_a_record_and_the_second_call_runs_nothing(place):
    tasks = ("linear", "low-shot", "knn", "voc-c4-24k", "coco-fpn-1x", "coco-det-fpn-1x")
    done = run(place, *tasks)
    assert done.returncode == 0, done.stderr
    records = list(ResultsStore(place / "runs").load_all())
    assert sorted(record.spec.task for record in records) == sorted(tasks)
    for record in records:
        assert record.status == "ok" and record.label == "stock" and record.test_images
        assert all(value is None or 0 <= value <= 100 for value in record.metrics.values())
        assert record.git and record.environment["detectron2"]["version"] and record.environment["device"]
        assert (place / record.log).exists()
    detector = next(record for record in records if record.spec.task == "voc-c4-24k")
    assert detector.config["facts"]["tensors_equal"] == 265 and detector.config["SOLVER"]["MAX_ITER"] == 3
    tested = {record.spec.task: record.config.get("facts", {}).get("classes_tested") for record in records}
    assert (tested["voc-c4-24k"], tested["coco-fpn-1x"]) == (20, 20)
    table = pd.read_csv(next((place / "tables").glob("*.csv")))
    assert set(table["checkpoint"]) == {"stock"} and table["mean"].notna().sum() >= 8

    again = run(place, *tasks)
    assert again.returncode == 0 and "0 new runs" in again.stderr
    assert len(list(ResultsStore(place / "runs").load_all())) == len(records)


def test_one_failure_is_recorded_the_rest_goes_on_and_the_status_says_so(place):
    before = len(list(ResultsStore(place / "runs").load_all()))
    done = run(place, "knn", "voc-c4-24k", opts=("SOLVER.BASE_LR", "1e30"), more=("--rerun", "always"))
    assert done.returncode == 1
    assert "failed: stock voc-c4-24k" in done.stderr and "2 new runs" in done.stderr and "Traceback" not in done.stderr
    records = list(ResultsStore(place / "runs").load_all())
    (failed,) = [record for record in records if record.status == "failed"]
    assert len(records) == before + 2 and "Lower SOLVER.BASE_LR" in failed.error and failed.wall_seconds > 0


def test_an_option_that_does_not_exist_is_refused_before_any_run(place):
    done = run(place, "knn", "voc-c4-24k", opts=("MODEL.NO_SUCH_KEY", "1"))
    assert done.returncode == 2 and "MODEL.NO_SUCH_KEY" in done.stderr.splitlines()[-1], done.stderr


def test_predictions_are_shown_beside_the_truth(place):
    kept = next(iter(sorted(place.glob("runs/*/*/predictions.json"))))
    record = kept.parent.with_suffix(".json")
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "show", str(record)], cwd=CHECKOUT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    pictures = [Path(line) for line in done.stdout.splitlines() if line.endswith(".png")]
    assert {path.name for path in pictures} >= {"images.png", "errors-boxes.png", "curves-boxes.png", "classes.png"}
    with Image.open(next(path for path in pictures if path.name == "images.png")) as picture:
        assert picture.width > 1000 and len(picture.getcolors(2**24) or ()) > 1000


def test_a_damaged_conversion_heals_and_part_of_a_failed_job_counts(place):
    (pkl,) = (place / "backbones").glob("*/model.pkl")
    pkl.write_bytes(pkl.read_bytes()[:1000])
    done = run(place, "knn", "voc-fpn-24k", opts=("SOLVER.MAX_ITER", "2"), more=("--rerun", "always"))
    assert done.returncode == 0 and "2 new runs" in done.stderr, done.stderr


def test_killed_in_the_middle_of_a_detector_the_same_command_finishes(place):
    arguments = {"opts": ("SOLVER.MAX_ITER", "20")}
    logs = set(place.glob("runs/*/log.txt"))
    first = subprocess.Popen(
        command(place, "voc-fpn-24k", **arguments), cwd=CHECKOUT, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 120
    while not any("/20" in log.read_text() for log in set(place.glob("runs/*/log.txt")) - logs):
        assert time.monotonic() < deadline and first.poll() is None, "the detector did not start"
        time.sleep(0.5)
    os.kill(first.pid, signal.SIGKILL)  # the suite's own process alone: its workers must not outlive it
    first.wait()
    before = len(list(ResultsStore(place / "runs").load_all()))
    done = run(place, "voc-fpn-24k", **arguments)
    assert done.returncode == 0 and "1 new runs" in done.stderr, done.stderr
    assert "another process" not in "".join(log.read_text() for log in set(place.glob("runs/*/log.txt")) - logs)
    records = list(ResultsStore(place / "runs").load_all())
    assert len(records) == before + 1 and sum(r.config.get("SOLVER", {}).get("MAX_ITER") == 20 for r in records) == 1
