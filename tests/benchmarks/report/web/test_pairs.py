"""The pairs of a report: their numbers against `compare`'s, their classes and images against the predictions."""

import base64
import csv
import dataclasses
import io
import itertools
import json

import numpy as np
import pytest
from PIL import Image

from benchmarks.__main__ import main
from benchmarks.data.registration import register
from benchmarks.predictions import FILE, Predictions
from benchmarks.records import ResultsStore
from benchmarks.report.compare import compare
from benchmarks.report.web import pair_classes, pairs
from benchmarks.report.web.album import Album, Column, Picture
from benchmarks.report.web.board import board_of
from benchmarks.report.web.command import gathered, html_of
from benchmarks.report.web.pair_images import most_different
from benchmarks.report.web.pairs import pairs_of
from benchmarks.report.web.runs import read_facts
from tests.benchmarks.contexts import tiny_root
from tests.benchmarks.doubles import make_record, make_spec
from tests.benchmarks.report.records import saved
from tests.benchmarks.report.test_compare import keep
from tests.benchmarks.report.test_show_detection import coco  # noqa: F401  a fixture
from tests.benchmarks.report.web.instances import instances_of
from transfer.detection.evaluation.coco import COCOEvaluator

CLASSES, EACH = 6, 5  # of tiny_root's test images


def pairs_here(**flags):
    facts = read_facts()
    found = gathered("smoke", facts)
    return pairs_of(board_of(found.pairs, facts.newest, found.groups), "smoke", **flags)


def predicted(label, sha, wrong, *, seed=0, task="linear", confused=1):
    """A run on tiny_root's test images that takes those of the numbers ``wrong`` for the next class."""
    target = np.repeat(np.arange(CLASSES), EACH)
    answers = target.copy()
    answers[list(wrong)] = (answers[list(wrong)] + confused) % CLASSES
    spec = make_spec(task=task, checkpoint_sha256=sha * 64, seed=seed)
    found = Predictions(target=target, predicted=answers, confidence=np.ones(len(target)))
    found.save(ResultsStore().working_folder(spec))
    record = make_record(spec, {"top1": 100 * found.correct.mean()}, label=label)
    return ResultsStore().save(dataclasses.replace(record, files=(FILE,)))


@pytest.fixture
def toy(results):
    return tiny_root(results / "data" / "toy", classes=CLASSES, val=EACH)


def test_differences_are_those_of_compare(results):
    for run, sha in enumerate("abc"):
        keep(f"ours #{run}", sha, accuracy=0.7 + 0.02 * run, seeds=(0, 1))
        keep(f"ours #{run}", sha, accuracy=0.5, seeds=(0, 1), task="knn")
    keep("theirs", "d", accuracy=0.6)
    keep("theirs", "d", accuracy=0.52, task="knn")
    saved(("theirs", {"task": "low-shot", "checkpoint_sha256": "d" * 64}, 3.0))
    made = pairs_here()
    (pair,) = made["pairs"].values()
    with compare("ours", "theirs", "smoke")[1].open() as stream:
        expected = list(csv.DictReader(stream))
    assert len(expected) == len(pair["rows"]) == 2
    for row, line in zip(pair["rows"], expected, strict=True):
        _, unit, _, a, na, b, nb, value, low, high, p, over = row
        numbers = [line[key] for key in ("mean_a", "mean_b", "difference", "low", "high", "p_holm")]
        assert unit == "%" and [a, b, value, low, high, p] == pytest.approx(list(map(float, numbers)), abs=1e-3)
        assert [na, nb, over.replace(",", "")] == [line["n_a"], line["n_b"], line["levels"]]


def test_unlike_columns_are_refused_with_the_reason(results):
    keep("a", "a", accuracy=0.8)
    keep("b", "b", accuracy=0.5, precision="bf16")
    (pair,) = pairs_here()["pairs"].values()
    assert pair["rows"] == [] and pair["refused"] == ["linear: precision fp32 and bf16"]


def test_classes_are_those_that_differ_most(toy):
    predicted("a", "a", {0, 1, 2, 10}, seed=0)
    predicted("a", "a", {0, 1}, seed=1)
    predicted("b", "b", {5}, seed=0)
    predicted("b", "b", {5, 6, 7, 8}, seed=1)
    (pair,) = pairs_here()["pairs"].values()
    (table,) = pair["classes"]
    assert table["title"] == "linear" and table["metric"] == "top-1" and table["over"] == "images, seeds"
    # Wrong of five images and two runs, a: 5 of class 0, 1 of class 2; b: 5 of class 1.
    assert [row[:3] for row in table["rows"]] == [["class0", 50, 100], ["class1", 100, 50], ["class2", 90, 100]]
    assert table["left"] == 3
    for _, a, b, low, high in table["rows"]:
        assert low < a - b < high


def test_the_classes_of_a_test_set_too_large_to_draw_have_intervals_over_seeds(toy, monkeypatch):
    monkeypatch.setattr(pair_classes, "IMAGES", 10)
    for seed, wrong in enumerate([{0, 1}, {0}]):
        predicted("a", "a", wrong, seed=seed)
        predicted("b", "b", set(), seed=seed)
    (table,) = next(iter(pairs_here()["pairs"].values()))["classes"]
    assert table["over"] == "seeds" and len(table["rows"]) == 1


def test_the_images_are_those_that_more_runs_of_a_side_have_right(toy):
    predicted("a", "a", {0, 7, 8}, seed=0)
    predicted("a", "a", {0, 7}, seed=1, confused=2)
    predicted("b", "b", {12, 8}, seed=0)
    predicted("b", "b", {13}, seed=1)
    made = pairs_here()
    (pair,) = made["pairs"].values()
    (column,) = pair["images"]
    assert column["reason"] == "" and column["left"] == 0
    found = {one["file"]: one for one in column["shown"]}
    assert set(found) == {f"imagenet/val/class{n // EACH}/{n % EACH:02d}.png" for n in (0, 7, 12, 13)}
    first = found["imagenet/val/class0/00.png"]
    assert first["truth"] == "class0" and first["right"] == [False, True] and first["said"][1] == "class0"
    assert first["said"][0] in ("class1 (1 of 2 runs)", "class2 (1 of 2 runs)")
    for one in found.values():
        uri, width, height = made["thumbs"][one["thumb"]]
        thumb = Image.open(io.BytesIO(base64.b64decode(uri.partition("base64,")[2])))
        image = Image.open(toy.path / one["file"])
        assert thumb.size == (width, height) and max(thumb.size) <= 96
        gap = np.asarray(image).mean((0, 1)) - np.asarray(thumb).mean((0, 1))
        assert abs(gap).max() < 4  # the colour of its class


def test_without_the_data_the_reason_is_shown_and_no_place_on_this_machine(toy, tmp_path):
    predicted("a", "a", {0})
    predicted("b", "b", {5})
    toy.path.rename(tmp_path / "elsewhere")
    made = pairs_here()
    (pair,) = made["pairs"].values()
    (column,) = pair["images"]
    assert column["reason"].startswith("data/toy is not there") and str(tmp_path) not in json.dumps(made)
    assert [row[0] for row in pair["classes"][0]["rows"]] == ["class 0", "class 1"] and made["thumbs"] == []
    (tmp_path / "elsewhere").rename(toy.path)
    about = json.loads((toy.path / "data.json").read_text())
    about["imagenet"]["fingerprint"] = "0" * 64
    (toy.path / "data.json").write_text(json.dumps(about))
    (column,) = next(iter(pairs_here()["pairs"].values()))["images"]
    assert "was prepared again since this run" in column["reason"]


def test_images_can_be_left_out(toy):
    predicted("a", "a", {0})
    predicted("b", "b", {1})
    page = toy.path.parent.parent / "page.html"
    for words, there in ([], True), (["--without-images"], False):
        assert main(["report", "-o", str(page), *words]) == 0
        assert ("data:image/jpeg" in page.read_text()) == there


@pytest.mark.parametrize("damage", ["predictions", "image", "others"])
def test_damaged_files_leave_the_rest(toy, damage):
    path = predicted("a", "a", {0})
    predicted("b", "b", {1})
    if damage == "predictions":
        (path.with_suffix("") / FILE).write_bytes(b"PK\3\4 no archive")
    elif damage == "image":
        (toy.path / "imagenet" / "val" / "class0" / "00.png").write_bytes(b"no image")
    else:
        keep("c", "c", accuracy=0.5, images=7)
    made = pairs_here()
    pair = list(made["pairs"].values())[-1 if damage == "others" else 0]
    assert pair["rows"][0][7] is not None
    (column,) = pair["images"]
    if damage == "image":
        assert column["left"] == 1 and len(column["shown"]) == 1
    elif damage == "others":
        assert column["reason"] == "the runs were not tested on the same images"
    else:
        assert "cannot be read" in column["reason"]


def judged(root, label, sha, move):
    """A detector's run with one box per image, its object's moved by ``move`` (number) to the right."""
    store, data = ResultsStore(), register(root, "coco")
    stored = json.loads((root.folder("coco") / "annotations" / "instances_val2017.json").read_text())
    spec = make_spec(
        task="coco-fpn-1x", checkpoint_sha256=sha * 64, data_fingerprint=root.section("coco")["fingerprint"]
    )
    evaluator = COCOEvaluator(data.test[0], ["bbox"], store.working_folder(spec))
    evaluator.reset()
    for place, image in enumerate(stored["images"]):
        (one,) = [one for one in stored["annotations"] if one["image_id"] == image["id"]]
        x, y, width, height = one["bbox"]
        box = [x + move(place), y, x + move(place) + width, y + height]
        found = instances_of(image, [box], [one["category_id"] - 1], [0.9])
        evaluator.process([{"image_id": image["id"]}], [{"instances": found}])
    metrics = evaluator.evaluate()["bbox"]
    record = make_record(spec, {f"bbox/{key}": metrics[key] for key in ("AP", "AP50", "AP75")}, label=label)
    store.save(dataclasses.replace(record, files=store.working_files(spec)))
    return [image["file_name"] for image in stored["images"]]


def test_detectors_are_compared_by_the_f1_of_each_image_with_their_boxes(coco):  # noqa: F811
    names = judged(coco, "a", "a", lambda place: 20 * (place in (2, 5)))
    judged(coco, "b", "b", lambda place: 20 * (place == 7))
    made = pairs_here()
    (pair,) = made["pairs"].values()
    (column,) = pair["images"]
    assert column["kind"] == "boxes" and column["left"] == 0
    found = {one["file"].rpartition("/")[2]: one for one in column["shown"]}
    assert set(found) == {names[place] for place in (2, 5, 7)}
    one = found[names[2]]
    truth, ours, theirs = one["boxes"]
    assert one["truth"] == "1 object" and one["said"] == ["F1 0.00", "F1 1.00"]
    assert truth[0][:4] == [5, 6, 10, 10] and [box[:4] for box in theirs] == [[5, 6, 10, 10]]
    assert [ours[0][0], ours[0][5], theirs[0][5]] == [25, "wrong", "right"]
    assert {table["metric"] for table in pair["classes"]} == {"AP of boxes"}


@pytest.mark.parametrize(("name", "words"), [("detections/*.npz", ""), ("matches-bbox.npz", "cannot be read")])
def test_a_damaged_detectors_run_leaves_the_rest(coco, name, words):  # noqa: F811
    judged(coco, "a", "a", lambda place: 20 * (place in (2, 5)))
    judged(coco, "b", "b", lambda place: 20 * (place == 7))
    for path in ResultsStore().root.glob(f"*/*/{name}"):
        path.write_bytes(path.read_bytes()[:50])
    (pair,) = pairs_here()["pairs"].values()
    (column,) = pair["images"]
    assert len(pair["rows"]) == 1 and words in column["reason"]
    assert column["shown"] == [] and column["left"] == (0 if words else 3)


def test_most_different_is_the_order_of_the_gaps():
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 9, (2, 300)) / 8
    found = most_different(a, b, 4)
    gaps = (a - b)[found]
    assert list(gaps > 0) == [True, False] * 4
    assert sorted(gaps[::2], reverse=True) == sorted(a - b, reverse=True)[:4]
    assert sorted(gaps[1::2]) == sorted(a - b)[:4]
    assert most_different(a, a, 4) == [] and len(most_different(a, a - 1, 4)) == 4


def test_an_album_is_filled_in_turns_up_to_its_limits(toy):
    paths = sorted(toy.path.glob("imagenet/val/*/*.png"))
    columns = [
        Column(about={}, pictures=[Picture(path=path, side=30, say=lambda scale: {"scale": scale}) for path in some])
        for some in (paths[:3], paths[3:6], paths[:1])
    ]
    album = Album(most=3)
    album.fill(columns)
    assert [(len(one.about["shown"]), one.about["left"]) for one in columns] == [(2, 1), (1, 2), (1, 0)]
    assert len(album.thumbs) == 3 and columns[0].about["shown"][0] == columns[2].about["shown"][0]
    sizes = [len(uri) for uri, _, _ in album.thumbs]
    small = Album(size=sizes[0] + sizes[1])  # and no room for words
    fresh = [dataclasses.replace(one, about={}) for one in columns]
    small.fill(fresh)
    assert len(small.thumbs) == 1 and sum(one.about["left"] for one in fresh) == 5


def test_of_many_rows_those_with_most_marks_are_compared(results):
    rows = pairs.ROWS + 3
    for number in range(rows):
        for seed in range(3):
            changes = {"checkpoint_sha256": f"{number:064d}", "seed": seed}
            saved((f"row {number:02d}", changes, (90.0 if number > 2 else 10.0) + 0.1 * seed))
    made = pairs_here()
    assert made["chosen"] == list(range(3, rows))
    assert set(made["pairs"]) == {f"{a} {b}" for a, b in itertools.combinations(range(3, rows), 2)}


def test_one_row_has_no_pair(results):
    saved(("alone", {}, 3.0))
    facts = read_facts()
    text = html_of(gathered("smoke", facts), facts)
    assert pairs_here()["pairs"] == {} and 'id="pairs"' not in text


def test_with_many_columns_fewer_rows_are_compared(results, monkeypatch):
    for number, task in itertools.product(range(5), ("linear", "knn")):
        saved((f"row {number}", {"checkpoint_sha256": str(number) * 64, "task": task}, 10.0 + number))
    monkeypatch.setattr(pairs, "LINES", 2 * 6)
    assert len(pairs_here()["pairs"]) == 6  # of four rows
