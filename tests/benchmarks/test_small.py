"""Profile small end to end on a tiny root: its settings follow the data, are said beforehand, and survive a kill."""

import dataclasses
import os
import signal
import subprocess
import sys
import time

import pytest

from benchmarks.budget import hours, say_budget
from benchmarks.data.emoji.generate import generate
from benchmarks.data.emoji.scenes import EmojiConfig
from benchmarks.data.facts import facts_of_records, training_facts
from benchmarks.data.root import DataRoot
from benchmarks.plan import Column, Plan, resolve_columns
from benchmarks.records import ResultsStore, files_of
from benchmarks.run import execute
from benchmarks.tasks import TASKS, Setup
from benchmarks.tasks.compute import budget, timed
from pretrain.common.errors import InputError
from tests.benchmarks.tasks.small import checkpoint, executed, image_root
from tests.benchmarks.test_plan import InProcess
from transfer.detection.fitted import FROM_DATA, anchor_sizes, iterations, shorter_side

TASK = "voc-fpn-24k"
QUICK = (
    *("INPUT.MAX_SIZE_TEST", "80", "INPUT.MIN_SIZE_TEST", "64", "INPUT.MIN_SIZE_TRAIN", "(64,)"),
    *("MODEL.FPN.OUT_CHANNELS", "16", "MODEL.ROI_BOX_HEAD.FC_DIM", "16"),
    *("SOLVER.CHECKPOINT_PERIOD", "2", "SOLVER.IMS_PER_BATCH", "2", "SOLVER.MAX_ITER", "8", "SOLVER.WARMUP_ITERS", "1"),
    *("TEST.PRECISE_BN.NUM_ITER", "1"),
)


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    """Two embedded sets of a few scenes: objects of other sizes, in other numbers."""
    sizes = {"train_images": 40, "val_images": 40, "image_size": 32, "val_scenes": 20}
    few = EmojiConfig(train_scenes=40, **sizes)
    many = EmojiConfig(train_scenes=44, scene_objects=(0.1, 0.3), **sizes)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DATA_DIR", str(tmp_path_factory.mktemp("data")))
        return [DataRoot.load(generate(config, name, 1)) for config, name in ((few, "few"), (many, "many"))]


@pytest.fixture
def roots(sets, tmp_path, monkeypatch):
    """The two sets, and a folder for results."""
    monkeypatch.setenv("RESULTS_DIR", str(tmp_path / "results"))
    return sets


def plan_of(*roots, opts=QUICK):
    columns = tuple(Column(task=TASK, root=root, seeds=(0,)) for root in roots)
    return resolve_columns(Plan(profile="small", columns=columns, num_gpus=0, opts=opts), InProcess())


def test_settings_depend_on_the_data_and_say_so_without_any(roots):
    few, many = (TASKS[TASK].settings(Setup(profile="small", root=root)) for root in roots)
    none = TASKS[TASK].settings(Setup(profile="small"))
    assert len({few.digest, many.digest, none.digest}) == 3
    facts = training_facts(roots[1], "voc")
    assert facts.images == 44 and facts.sides[1] < training_facts(roots[0], "voc").sides[1]
    assert many.values["INPUT"]["MIN_SIZE_TEST"] == shorter_side(facts)
    assert many.values["MODEL"]["ANCHOR_GENERATOR"]["SIZES"] == anchor_sizes(facts, (1,) * 5)
    assert many.values["SOLVER"]["MAX_ITER"] == iterations(facts) == 240
    assert none.values["INPUT"]["MIN_SIZE_TEST"] == none.values["SOLVER"]["MAX_ITER"] == FROM_DATA
    assert TASKS[TASK].settings(Setup(profile="demo", root=roots[0])) == TASKS[TASK].settings(Setup(profile="demo"))


@pytest.mark.parametrize("name", TASKS)
def test_every_task_has_settings_of_its_own_under_small(name):
    found = {profile: TASKS[name].settings(Setup(profile=profile)).digest for profile in ("smoke", "demo", "small")}
    assert len(set(found.values())) == 3


def test_only_training_objects_that_are_trained_on_count(roots):
    coco, voc = (training_facts(roots[0], kind) for kind in ("coco", "voc"))
    assert coco == voc  # COCO's tiny crowds, which VOC lacks, are left out
    empty = [{"width": 9, "height": 9, "annotations": [{"bbox": [0, 0, 3, 3], "bbox_mode": 1, "iscrowd": 1}]}]
    with pytest.raises(InputError, match="data set mine has no training object"):
        facts_of_records(empty, "mine")


def test_frozen_tasks_run_at_its_size(tmp_path, monkeypatch):
    root = image_root(tmp_path, monkeypatch, {"dark": 60, "light": 190}, train=25, val=3)
    found = executed(root, "linear", "knn", profile="small")
    for record in found.values():
        assert record.metrics["top1"] == 100 and (record.config["resize"], record.config["crop"]) == (183, 160)
    assert found["knn"].config["k"] == 20 and found["linear"].spec.profile == "small"


@pytest.mark.slow
def test_a_plan_on_two_roots_says_what_each_gave_and_its_time(roots, capsys):
    plan, one = plan_of(*roots), checkpoint(roots[0].path.parent)
    specs = plan.specs(one)
    assert len({spec.protocol_digest for spec in specs}) == 2
    say_budget(plan, [one], InProcess(), 2)
    first, second, total = capsys.readouterr().err.splitlines()[-3:]
    assert first.startswith(f"{TASK} on few: images of 64 px, anchors of ")
    assert "0.4 epochs of 40 images = 8 iterations (instead of 8 epochs), " in first
    assert first.endswith(" min per run, 1 to do")
    assert second.startswith(f"{TASK} on many: ") and "0.364 epochs of 44 images = 8 iterations" in second
    assert total == f"detectors: about {hours(plan.seconds[TASK])} with 2 at a time" and 0 < plan.seconds[TASK] < 600
    assert not ResultsStore().root.exists()
    say_budget(Plan(profile="demo", columns=plan.columns, num_gpus=0), [one], InProcess(), 2)
    assert capsys.readouterr().err == ""


def test_a_search_and_a_draw_are_said(roots, monkeypatch):
    monkeypatch.setattr(timed, "seconds_per_iteration", lambda trainer, most: 0.5)
    monkeypatch.setattr(timed, "seconds_per_image", lambda trainer: 0.1)
    one, data = checkpoint(roots[0].path.parent), roots[0]
    searched = (*QUICK, "TRANSFER.SEARCH", "SOLVER.BASE_LR=0.1,0.2")
    (spec,), (again,) = plan_of(data).specs(one), plan_of(data, opts=searched).specs(one)
    plain, search = budget.budgets([(one.detectron2, spec, data), (one.detectron2, again, data)], 0)
    assert plain.seconds == pytest.approx(0.5 * (8 + 1 / 3) + 20 * 0.1) and search.seconds == 3 * plain.seconds
    assert search.text == f"{plain.text}, 3 trainings (lr of 2)"
    (drawn,) = budget.budgets([(one.detectron2, dataclasses.replace(spec, task="voc-fpn-5shot"), data)], 0)
    assert "0.4 epochs of 40 images, of which it draws some, = 8 iterations" in drawn.text


def test_hours_are_words():
    assert [hours(seconds) for seconds in (1, 100, 359, 360, 5400)] == ["1 min", "2 min", "6 min", "0.1 h", "1.5 h"]


@pytest.mark.slow
def test_a_killed_run_continues_and_leaves_no_checkpoint(roots):
    one = checkpoint(roots[0].path.parent)
    (spec,) = plan_of(roots[0]).specs(one)
    working = ResultsStore().working_folder(spec)
    _killed_at_its_first_checkpoint(roots[0].path, working)
    assert list(working.glob("model_*.pth"))
    (saved,) = execute(one, roots[0].path, [spec], 0, roots[0].path.parent / "log.txt", False)
    assert saved.error is None
    record = ResultsStore().load(saved.path)
    assert record.resumed_at in (2, 4, 6) and record.config["facts"]["resumed_at"] == record.resumed_at
    assert 0 <= record.metrics["bbox/AP50"] <= 100 and record.test_images == 20
    kept = {path.name for path in files_of(saved.path).iterdir()}
    assert kept == {"detections", "log.txt", "matches-bbox.npz", "metrics.json", "predictions.json"}
    config = record.config
    facts = training_facts(roots[0], "voc")
    assert config["MODEL"]["ANCHOR_GENERATOR"]["SIZES"] == anchor_sizes(facts, (1,) * 5)
    assert (config["SOLVER"]["MAX_ITER"], config["INPUT"]["MIN_SIZE_TEST"]) == (8, 64)
    assert ResultsStore().has(spec) and plan_of(roots[0]).left(one) == []


CHILD = """
import sys
from pathlib import Path
from benchmarks.checkpoints import evaluated
from benchmarks.data.root import DataRoot
from benchmarks.run import execute
from tests.benchmarks.test_small import plan_of
root = Path(sys.argv[1])
one = evaluated("random", root.parent / "random.pth")
execute(one, root, plan_of(DataRoot.load(root)).specs(one), 0, root.parent / "log.txt", False)
"""


def _killed_at_its_first_checkpoint(root, working):
    child = subprocess.Popen([sys.executable, "-c", CHILD, str(root)], start_new_session=True)
    try:
        while not (working / "last_checkpoint").exists():
            assert child.poll() is None, "it ended before the first checkpoint"
            time.sleep(0.01)
    finally:
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()
