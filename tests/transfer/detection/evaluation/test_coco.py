"""COCO's AP by the fast engine against pycocotools' own, and against detectron2's whole evaluator: equal bits."""

import copy
import json

import numpy as np
import pytest
from detectron2.evaluation import COCOEvaluator as Detectron2Evaluator

from pretrain.common.errors import InputError
from tests.transfer.detection.evaluation.scenes import outputs, registered, truth
from transfer.detection.evaluation import coco
from transfer.detection.evaluation.coco import COCOEvaluator
from transfer.detection.evaluation.matches import TRUE, load_matches
from transfer.detection.evaluation.store import Recorder, load_detections

TASKS = ("bbox", "segm", "keypoints")
CONTENTS = {
    "random": {},
    "crowds alone": {"crowds": 1.0},
    "no crowd": {"crowds": 0.0},
    "one class": {"classes": 1},
    "most images empty": {"empty": 0.85},
    "nothing annotated": {"empty": 1.0},
}


def recorded(inputs, found):
    recorder = Recorder(None)
    recorder.reset()
    recorder.add(inputs, copy.deepcopy(found))
    return recorder.join()


def evaluated(content, detections, task, engine, tmp_path, max_dets=None):
    (tmp_path / "truth.json").write_text(json.dumps(content))
    return coco.evaluate(coco.read_truth(tmp_path / "truth.json", engine), detections, task, engine, (), max_dets)


def assert_same_bits(one, other):
    if one.params.maxDets != [4]:  # pycocotools sums keypoints up at 20 detections alone
        assert np.array_equal(np.array(one.stats), np.array(other.stats)) and len(one.stats) in (10, 12)
    for name in ("precision", "recall", "scores"):
        assert one.eval[name].shape == other.eval[name].shape and np.array_equal(one.eval[name], other.eval[name])


@pytest.mark.parametrize("max_dets", [None, [1, 2, 5]])
@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("case", CONTENTS)
def test_both_engines_give_the_same_bits(case, task, max_dets, tmp_path):
    if task == "keypoints":
        max_dets = max_dets and [4]
    informative = 0
    for seed in range(3):
        content = truth(seed, **CONTENTS[case])
        detections = recorded(*outputs(seed, content))
        fast, slow = (
            evaluated(content, detections, task, engine, tmp_path, max_dets) for engine in ("ultrafast", "pycocotools")
        )
        assert_same_bits(fast, slow)
        kept = [coco.matches_of(one, detections, tuple("abcde"), coco.loaded) for one in (fast, slow)]
        for name, value in vars(kept[0]).items():
            assert np.array_equal(value, getattr(kept[1], name)), name
        informative += int((kept[0].outcome == TRUE).any())
    assert informative or "crowds" in case or "nothing" in case


@pytest.mark.parametrize("task", ["bbox", "segm"])
@pytest.mark.parametrize("seed", range(3))
def test_detections_by_descending_score_are_matched_alike(seed, task, tmp_path):
    content = truth(seed)
    detections = recorded(*outputs(seed, content))
    order = np.lexsort((-detections.score, detections.image))
    detections = detections.rows(order)
    fast, slow = (evaluated(content, detections, task, engine, tmp_path) for engine in ("ultrafast", "pycocotools"))
    kept, expected = (coco.matches_of(one, detections, tuple("abcde"), coco.loaded).outcome for one in (fast, slow))
    assert np.array_equal(kept, expected) and np.array_equal(fast.stats, slow.stats)
    assert all((one == TRUE).any() for one in kept)  # objects of every size


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("seed", range(3))
def test_precision_and_recall_follow_from_the_matches(seed, task, tmp_path):
    content = truth(seed)
    detections = recorded(*outputs(seed, content))
    whole = evaluated(content, detections, task, "pycocotools", tmp_path)
    matches = coco.matches_of(whole, detections, tuple("abcde"), coco.loaded)
    seen = 0
    for category in range(5):
        for area in range(len(matches.areas)):
            expected = whole.eval["precision"][:, :, category, area, -1]
            if matches.objects(category, area):
                assert np.array_equal(matches.interpolated(category, area), expected)
                assert matches.ap(category, area).mean() == pytest.approx(expected.mean(), abs=1e-15)
                recall, _ = matches.curve(category, 0, area)
                assert (recall[-1] if len(recall) else 0) == whole.eval["recall"][0, category, area, -1]
                seen += 1
            else:
                assert (expected == -1).all() and np.isnan(matches.ap(category, area)).all()
    assert seen > 5 and matches.mean_ap() == pytest.approx(whole.stats[0], abs=1e-15)


def both(name, content, folder, inputs, found):
    """(detectron2's results, ours) of the same outputs."""
    results = []
    for evaluator in (
        Detectron2Evaluator(name, tasks=TASKS, distributed=False, use_fast_impl=False),
        COCOEvaluator(name, TASKS, folder),
    ):
        evaluator.reset()
        for image, output in zip(inputs, copy.deepcopy(found), strict=True):
            evaluator.process([image], [output])
        results.append(evaluator.evaluate())
    return results


@pytest.mark.parametrize("engine", ["ultrafast", "pycocotools"])
@pytest.mark.parametrize("case", ["random", "most images empty", "crowds alone"])
def test_results_are_detectron2s(case, engine, tmp_path, monkeypatch):
    monkeypatch.setenv("COCO_EVAL", engine)
    content = truth(7, **CONTENTS[case])
    inputs, found = outputs(7, content, decimals=3)
    with registered(tmp_path / "data", content) as name:
        theirs, ours = both(name, content, tmp_path / "kept", inputs, found)
    assert list(theirs) == list(ours) == sorted(TASKS)
    for task in TASKS:
        assert list(theirs[task]) == list(ours[task]) and len(ours[task]) >= 10
        np.testing.assert_array_equal(list(theirs[task].values()), list(ours[task].values()))
    if case == "random":
        assert 1 < ours["segm"]["AP"] < 99
    detections = load_detections(tmp_path / "kept")
    assert len(detections) == sum(len(one["instances"]) for one in found)
    matches = load_matches(tmp_path / "kept" / "matches-segm.npz")
    assert matches.outcome.shape == (4, len(detections), 10) and matches.classes[0] == "class 2"
    if case == "random":
        assert 100 * matches.ap(0).mean() == pytest.approx(ours["segm"]["AP-class 2"], abs=1e-12)


def test_without_a_detection_the_results_are_detectron2s(tmp_path):
    content = truth(1)
    inputs, found = outputs(1, content)
    none = [{"instances": one["instances"][[]]} for one in found]
    with registered(tmp_path / "data", content) as name:
        theirs, ours = both(name, content, tmp_path / "kept", inputs, none)
    assert theirs.keys() == ours.keys() and all(np.isnan(list(one.values())).all() for one in ours.values())
    assert theirs["segm"].keys() == ours["segm"].keys() and not len(load_detections(tmp_path / "kept"))
    for task in TASKS:
        matches = load_matches(tmp_path / "kept" / f"matches-{task}.npz")
        assert matches.outcome.shape[1] == 0 and matches.ap(0).tolist() == [0.0] * 10
        assert matches.objects(0) == len([
            one
            for one in content["annotations"]
            if one["category_id"] == 2 and not one["iscrowd"] and (task != "keypoints" or one["num_keypoints"])
        ])  # fmt: skip


def test_the_engine_can_be_chosen(monkeypatch):
    monkeypatch.delenv("COCO_EVAL", raising=False)
    assert coco.engine() == "ultrafast" and coco.engine_and_version().startswith("ultrafast-pycocotools 0.")
    monkeypatch.setenv("COCO_EVAL", "pycocotools")
    assert coco.engine_and_version().startswith("pycocotools 2.")
    monkeypatch.setenv("COCO_EVAL", "faster")
    with pytest.raises(InputError, match="COCO_EVAL=faster: choose ultrafast or pycocotools"):
        coco.engine()
    monkeypatch.setattr(coco.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match="choose"):
        coco.engine()
    monkeypatch.setenv("COCO_EVAL", "ultrafast")
    with pytest.raises(InputError, match="not installed"):
        coco.engine()
    monkeypatch.delenv("COCO_EVAL")
    assert coco.engine() == "pycocotools"
