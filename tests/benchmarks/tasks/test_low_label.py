"""Low-label detectors and searches run end to end on a tiny set, and their records read."""

import dataclasses
import json
import shutil
from types import SimpleNamespace

import pytest
import torch
import torchvision

from benchmarks import plan
from benchmarks.checkpoints import EvaluatedCheckpoint
from benchmarks.data import parts
from benchmarks.data.emoji.generate import generate
from benchmarks.data.emoji.scenes import EmojiConfig
from benchmarks.data.registration import register
from benchmarks.data.root import DataRoot
from benchmarks.data.subsets import draw_percent, draw_shots, hold_out, ids_digest
from benchmarks.records import ResultsStore, files_of
from benchmarks.run import execute, resolve_tasks
from benchmarks.tasks import TASKS, Result, Setup
from benchmarks.tasks.compute import detector, detector_search
from pretrain.common.errors import InputError, RunError
from transfer.checkpoints.store import import_checkpoint
from transfer.detection.search import with_search
from transfer.detection.trainer import Diverged

LOW_LABEL = [task.name for task in TASKS.values() if task.detects and task.name.endswith(("pct", "shot"))]
QUICK = ("SOLVER.MAX_ITER", "1", "TEST.PRECISE_BN.ENABLED", "False")
SCENES, TESTED = 60, 20


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A set of 60 training scenes and a random ResNet-18, imported and converted as a command does it."""
    folder = tmp_path_factory.mktemp("low-label")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RESULTS_DIR", str(folder))
        patch.setenv("DATA_DIR", str(folder / "data"))
        config = EmojiConfig(
            train_images=40, val_images=40, train_scenes=SCENES, val_scenes=TESTED, image_size=32, scene_size=64
        )
        root = DataRoot.load(generate(config, "few", 1))
        torch.manual_seed(0)
        torch.save(torchvision.models.resnet18(weights=None).state_dict(), folder / "random.pth")
        stored = import_checkpoint(folder / "random.pth")
        yield SimpleNamespace(root=root, one=EvaluatedCheckpoint(label="random", stored=stored))
    shutil.rmtree(folder)


def spec_of(place, task, seed=0, opts=QUICK):
    resolved = resolve_tasks([task], Setup(profile="smoke", opts=opts))[task]
    spec = plan.spec_of(TASKS[task], resolved, place.root, place.one, "smoke", seed)
    return dataclasses.replace(spec, overrides=opts, num_gpus=0)


def ran(place, *specs):
    saved = execute(place.one, place.root.path, list(specs), 0, place.root.path.parent / "log.txt", False)
    assert [one.error for one in saved] == [None] * len(specs)
    return [(ResultsStore().load(one.path), files_of(one.path)) for one in saved]


def pool(place, layout):
    data = register(place.root, layout)
    return parts.trainable(parts.objects(data)), data.classes


def test_there_are_four_percentages_of_coco_and_three_numbers_of_shots_of_voc():
    assert sorted(LOW_LABEL) == sorted(
        [*(f"coco-det-fpn-{one}pct" for one in (1, 2, 5, 10)), *(f"voc-fpn-{one}shot" for one in (1, 5, 10))]
    )


@pytest.mark.parametrize("task", LOW_LABEL)
def test_a_low_label_run_trains_on_its_seeds_draw_and_records_it(place, task):
    ((record, files),) = ran(place, spec_of(place, task, seed=1))
    images, classes = pool(place, TASKS[task].layout)
    amount = int("".join(filter(str.isdigit, task)))
    percent = task.endswith("pct")
    drawn = draw_percent(images, amount, 1) if percent else draw_shots(images, amount, 1, classes)
    stored = json.loads((files / "subset.json").read_text())
    assert stored["ids"] == list(drawn.images) and stored["seed"] == 1
    assert stored["percent" if percent else "shots"] == amount
    facts = {"images": len(drawn.images), "sha256": ids_digest(drawn.images)}
    assert record.config["facts"]["subset"] == facts and {key: stored[key] for key in facts} == facts
    assert record.test_images == TESTED and "subset.json" in record.files
    assert set(drawn.notes) <= set(record.notes)
    log = (files / "log.txt").read_text()
    assert all(0 <= record.metrics[metric.key] <= 100 for metric in TASKS[task].metrics)
    assert f"Removed 0 images with no usable annotations. {len(drawn.images)} images left" in log


def searched(opts, *words):
    return with_search(opts, words)


def test_a_search_tests_on_held_out_training_images_and_then_trains_on_all(place, capfd):
    opts = searched(("SOLVER.MAX_ITER", "3", *QUICK[2:]), "SOLVER.BASE_LR=1e30,1e-4")
    ((record, files),) = ran(place, spec_of(place, "voc-fpn-24k", opts=opts))
    images, _ = pool(place, "voc")
    trained, held = hold_out(images, 0)
    about = record.config["search"]
    assert about["held_out"] == {"images": 10, "sha256": ids_digest(held)} and about["metric"] == "bbox/AP"
    assert [one["opts"] for one in about["tried"]] == [["SOLVER.BASE_LR", "1e30"], ["SOLVER.BASE_LR", "1e-4"]]
    assert "Lower SOLVER.BASE_LR" in about["tried"][0]["diverged"] and about["tried"][0]["value"] is None
    assert 0 <= about["tried"][1]["value"] <= 100 and about["tried"][1]["diverged"] is None
    assert about["chosen"] == ["SOLVER.BASE_LR", "1e-4"] and record.config["SOLVER"]["BASE_LR"] == 1e-4
    assert record.test_images == TESTED and record.spec.overrides == opts
    listed = json.loads((files / "search" / "0" / "held_out.json").read_text())
    assert listed["ids"] == list(held) and not set(held) & set(trained)
    assert sorted(path.name for path in (files / "search" / "0").iterdir()) == [
        "held_out.json",
        "log.txt",
        "metrics.json",
    ]
    for folder, count in ((files / "search" / "1", len(trained)), (files, len(images))):
        assert f"Removed 0 images with no usable annotations. {count} images left" in (folder / "log.txt").read_text()
    shown = capfd.readouterr().err
    assert "search 1 of 2: SOLVER.BASE_LR 1e30: held-out AP diverged" in shown and "search 2 of 2" in shown


def test_a_search_on_a_draw_holds_out_part_of_the_draw_and_needs_enough_of_it(place):
    images, classes = pool(place, "voc")
    opts = searched(QUICK, "SOLVER.BASE_LR=1e-4,1e-5")
    ten = draw_shots(images, 10, 2, classes).images
    assert len(ten) >= 30 > len(draw_shots(images, 1, 2, classes).images)
    ((record, files),) = ran(place, spec_of(place, "voc-fpn-10shot", seed=2, opts=opts))
    listed = json.loads((files / "search" / "0" / "held_out.json").read_text())
    assert set(listed["ids"]) < set(ten) and record.config["facts"]["subset"]["images"] == len(ten)
    (failed,) = execute(
        place.one, place.root.path, [spec_of(place, "voc-fpn-1shot", seed=2, opts=opts)], 0, files / "log.txt", False
    )
    assert "a search holds out 10 training images or more and needs 30, but there are" in failed.error


class Trainings:
    """A stand-in of the training: the held-out value of each candidate, or an error."""

    def __init__(self, *outcomes):
        self.outcomes, self.done = list(outcomes), []

    def __call__(self, context, training):
        self.done.append(training)
        training.folder.mkdir(parents=True, exist_ok=True)
        (training.folder / "model_final.pth").touch()
        (training.folder / "log.txt").touch()
        outcome = self.outcomes.pop(0)
        if isinstance(outcome, BaseException):
            raise outcome
        facts = {"held_out": {"images": 10, "sha256": "0" * 64}}
        return Result(metrics={"bbox/AP": outcome}, test_images=10, config={"facts": facts}, precision="fp32")


def context(tmp_path, *words):
    spec = SimpleNamespace(overrides=searched((), *words), task="voc-fpn-24k")
    return SimpleNamespace(spec=spec, folder=tmp_path)


RATES = "SOLVER.BASE_LR=0.1,0.2,0.3"


@pytest.mark.parametrize(
    ("outcomes", "best"),
    [
        ((1.0, 3.0, 2.0), "0.2"),
        ((1.0, 2.0, 2.0), "0.2"),  # of equal ones the first
        ((0.0, Diverged("it is NaN"), Diverged("it is NaN")), "0.1"),
        ((Diverged("it is NaN"), None, 0.0), "0.3"),
    ],
)
def test_the_best_candidate_is_chosen(tmp_path, outcomes, best):
    train = Trainings(*outcomes)
    chosen, about = detector_search.choose(context(tmp_path, RATES), train)
    assert chosen == ("SOLVER.BASE_LR", best) == tuple(about["search"]["chosen"])
    assert all(one.held_out for one in train.done) and len({one.folder for one in train.done}) == 3
    assert [one["diverged"] for one in about["search"]["tried"]] == [
        str(one) if isinstance(one, Diverged) else None for one in outcomes
    ]
    assert sorted(path.name for path in (tmp_path / "search" / "0").iterdir()) == ["log.txt"]


@pytest.mark.parametrize(
    ("last", "words"), [(Diverged("NaN"), "0.1,0.2,0.3 diverged: search"), (None, "diverged or has no defined metric")]
)
def test_a_search_without_a_survivor_is_a_failure(tmp_path, last, words):
    with pytest.raises(RunError, match=words):
        detector_search.choose(context(tmp_path, RATES), Trainings(Diverged("NaN"), Diverged("NaN"), last))


def test_another_error_is_the_runs_and_a_killed_search_goes_on_with_the_candidate_it_was_in(tmp_path):
    first = Trainings(1.0, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        detector_search.choose(context(tmp_path, RATES), first)
    (tmp_path / "search" / "0" / "model_0000001.pth").touch()  # killed before it was removed
    second = Trainings(3.0, 2.0)
    chosen, about = detector_search.choose(context(tmp_path, RATES), second)
    assert chosen == ("SOLVER.BASE_LR", "0.2")
    assert [one.opts[1] for one in second.done] == ["0.2", "0.3"]
    assert [one["value"] for one in about["search"]["tried"]] == [1.0, 3.0, 2.0]
    assert [path.name for path in (tmp_path / "search" / "0").iterdir()] == ["log.txt"]
    (tmp_path / "search" / "2.json").write_text("{")  # damaged: done again
    third = Trainings(5.0)
    assert detector_search.choose(context(tmp_path, RATES), third)[0] == ("SOLVER.BASE_LR", "0.3")
    with pytest.raises(InputError, match="no such"):
        detector_search.choose(context(tmp_path / "other", RATES), Trainings(InputError("no such file")))


def test_a_run_without_a_search_trains_once(tmp_path):
    assert detector_search.choose(context(tmp_path), Trainings()) == ((), {})


@pytest.mark.parametrize("first", [True, False])
def test_a_diverged_process_of_several_says_so_to_the_one_that_started_it(monkeypatch, tmp_path, first):
    training = detector.Training(opts=(), folder=tmp_path)

    def launch(work, gpus, dist_url, args):
        try:
            work(*args)
        except Diverged:
            raise RuntimeError("process 0 ended") from None  # as torch's spawn: another type, the traceback as text

    def diverging(context, training):
        raise Diverged("the loss is NaN")

    monkeypatch.setattr(detector, "launch", launch)
    monkeypatch.setattr(detector.comm, "is_main_process", lambda: first)  # one process's images may show it alone
    monkeypatch.setattr(detector, "_work", diverging)
    with pytest.raises(Diverged, match="the loss is NaN"):
        detector.train(SimpleNamespace(num_gpus=2), training)
    monkeypatch.setattr(detector, "_work", lambda context, training: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        detector.train(SimpleNamespace(num_gpus=2), training)
