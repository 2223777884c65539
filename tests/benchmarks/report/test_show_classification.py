"""A classifier's mistakes as a picture."""

import dataclasses
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.models import resnet18

from benchmarks.__main__ import main
from benchmarks.data.pictures import WIDTH
from benchmarks.data.prepare import main as prepare
from benchmarks.data.root import DataRoot
from benchmarks.predictions import FILE, Predictions
from benchmarks.records import ResultsStore
from benchmarks.report import neighbours, show, show_classification
from benchmarks.tasks import TASKS
from benchmarks.tasks.compute import features
from pretrain.common.errors import InputError
from tests.benchmarks.doubles import make_record, make_spec
from transfer.checkpoints.store import import_checkpoint

LONG = "a class whose name is far longer than any picture could show " * 3
CLASSES = [LONG.strip(), "cat", "dog"]
TRAIN, VAL = 6, 5  # images per class


@pytest.fixture
def root(tmp_path, monkeypatch, capsys):
    """Three classes of one colour each, in noise."""
    monkeypatch.setenv("RESULTS_DIR", str(tmp_path / "results"))
    for split, count in (("train", TRAIN), ("val", VAL)):
        for label, name in enumerate(CLASSES):
            folder = tmp_path / "source" / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = np.random.default_rng([label, number, count]).integers(
                    0, 90, (40, 30 + 9 * number, 3), np.uint8
                )
                pixels[..., label] += 150
                Image.fromarray(pixels).save(folder / f"{number}.png")
    prepare(["imagenet", str(tmp_path / "source"), "--name", "toy"])
    return DataRoot.load(capsys.readouterr().out.strip())


@pytest.fixture
def checkpoint(tmp_path, root):
    torch.manual_seed(0)
    torch.save(resnet18(weights=None).state_dict(), tmp_path / "x.pth")
    return import_checkpoint(tmp_path / "x.pth")


LABELS = np.repeat(np.arange(3), VAL)
WRONG = {0: 1, 5: 2, 6: 2, 14: 0}  # image → predicted class


def predictions(**changes):
    predicted = LABELS.copy()
    for row, label in WRONG.items():
        predicted[row] = label
    return Predictions(**{"target": LABELS, "predicted": predicted, "confidence": np.linspace(0.2, 0.9, 15)} | changes)


def record_of(root, found, checkpoint=None, task="linear", **changes):
    """Path of a record of a run that predicted ``found``."""
    store, about = ResultsStore(), {}
    if checkpoint:
        changes |= {"checkpoint_sha256": checkpoint.sha256, "input": checkpoint.input}
        about = {"checkpoint": {"path": str(checkpoint.source)}}
    data = root.section(TASKS[task].layout)["fingerprint"]
    spec = make_spec(task=task, **{"data_fingerprint": data} | changes)
    if found:
        found.save(store.working_folder(spec))
    return store.save(dataclasses.replace(make_record(spec, {"top1": 73.3}), **about))


@pytest.fixture
def drawn(monkeypatch):
    """Every line of text of the picture."""
    texts = []
    for module in (show, show_classification):
        real = module.heading
        monkeypatch.setattr(module, "heading", lambda text, *rest, real=real: texts.append(text) or real(text, *rest))
    real = show_classification.lettered
    monkeypatch.setattr(
        show_classification,
        "lettered",
        lambda panel, lines: texts.extend(text for text, _ in lines) or real(panel, lines),
    )
    return texts


def test_the_picture_has_pairs_worst_images_and_neighbours(root, checkpoint, drawn, capsys):
    path = record_of(root, predictions(), checkpoint)
    assert main(["show", str(path), "--count", "2"]) == 0
    out, err = capsys.readouterr()
    assert out == f"{path.with_suffix('.png')}\n" and err.count("extracting them again from") == 2
    assert drawn[1] == "linear on toy, smoke, seed 0: top-1 73.3"
    assert drawn[2].startswith("15 test images of 3 classes, 4 wrong (26.7%)")
    assert any(text == "cat → dog: 2 of 5 (40.0%)" for text in drawn)
    assert drawn.count("training images of dog") == 1
    assert [text for text in drawn if text.startswith("called dog")] == [
        "called dog 0.50",
        "called dog 0.45",
        "called dog",
    ]
    long = [text for text in drawn if text.startswith("called a class")]
    assert len(long) == 1 and long[0].endswith("… 0.90")
    assert "Nearest training images, by the cosine of the frozen features (48 px of 48)" in drawn
    with Image.open(path.with_suffix(".png")) as picture:
        assert picture.width == WIDTH and picture.height > 1000
    capsys.readouterr()
    main(["show", str(path)])
    assert "extracting" not in capsys.readouterr().err  # kept now


def test_neighbours_of_a_fine_tuned_run_are_said_to_be_the_checkpoint_s(root, checkpoint, drawn):
    show.show(record_of(root, predictions(), checkpoint, task="finetune-lightly"), None, 6)
    assert any("frozen features (48 px of 48; before fine-tuning)" in text for text in drawn)


def test_neighbours_are_the_nearest_training_images(root, checkpoint):
    path = record_of(root, predictions(), checkpoint)
    record = ResultsStore().load(path)
    found = neighbours.neighbours_of(record, root, predictions(), 2)
    assert [row in WRONG for row in found.rows] == [False, False, True, True]
    x = {
        split: features.features_of(
            checkpoint.load(),
            features.labelled_images(root, split)[0],
            root.section("imagenet")["fingerprint"],
            split,
            "smoke",
        ).astype(np.float64)
        for split in ("train", "val")
    }
    for row, near, cosines in zip(found.rows, found.nearest, found.cosines, strict=True):
        exact = x["train"] @ x["val"][row] / np.linalg.norm(x["train"], axis=1) / np.linalg.norm(x["val"][row])
        np.testing.assert_allclose(cosines, np.sort(exact)[::-1][:6], atol=1e-5)
        np.testing.assert_allclose(exact[near], cosines, atol=1e-5)
    assert found.images == features.labelled_images(root, "train")[0]


def test_the_view_of_the_run_is_taken_where_its_features_are_kept(root, checkpoint):
    record = ResultsStore().load(record_of(root, predictions(), checkpoint))
    record = dataclasses.replace(record, config={"resize": 40, "crop": 32, "squash": True, "k": 3})
    assert neighbours.view_of(record, root).key == "48-48"
    view = features.FeatureView(resize=40, crop=32, squash=True)
    features.features(checkpoint.load(), root, "smoke", view=view)
    assert neighbours.view_of(record, root) == view


def test_without_the_checkpoint_the_rest_is_drawn_and_the_picture_says_why(root, checkpoint, drawn, capsys):
    path = record_of(root, predictions(confidence=None), checkpoint)
    checkpoint.source.unlink()
    main(["show", str(path)])
    assert "warning: no nearest neighbours: the features of train are not kept" in capsys.readouterr().err
    assert drawn[-1].startswith("No nearest neighbours: the features of train are not kept, and the checkpoint")
    assert "Wrong images" in drawn and "called dog" in drawn


def test_another_checkpoint_under_the_same_name_is_not_taken(root, checkpoint, drawn):
    path = record_of(root, predictions(), checkpoint)
    torch.save(resnet18(weights=None).state_dict(), checkpoint.source)
    main(["show", str(path)])
    assert "is no longer the checkpoint of this run" in drawn[-1]


@pytest.mark.parametrize("right", [True, False])
def test_all_right_or_all_wrong_has_a_picture(root, checkpoint, drawn, right):
    path = record_of(root, predictions(predicted=LABELS if right else (LABELS + 1) % 3), checkpoint)
    main(["show", str(path)])
    assert ("Most confused classes" in drawn) is not right
    assert path.with_suffix(".png").is_file()


def ends(picture):
    """Whether anything is drawn in the last column or row, where text that is cut off would be."""
    pixels = np.asarray(picture)
    return bool((pixels[:, -1] != 255).any() or (pixels[-1] != 255).any())


def test_no_text_leaves_its_panel():
    panel = Image.new("RGB", (116, 20), "white")
    for text in (LONG, "W" * 40, "short", "日本語", "a\nb"):
        assert not ends(show_classification.lettered(panel, [(text, (0, 0, 0)), (text, (0, 0, 0))]))
    text = show_classification.scored(LONG, " 0.98", 116)
    assert text.endswith("… 0.98") and show_classification.font(13).getlength(text) <= 116


@pytest.fixture
def voc(tmp_path, monkeypatch):
    """The embedded set's scenes as a VOC task of several labels per image."""
    monkeypatch.setenv("RESULTS_DIR", str(tmp_path / "results"))
    prepare(["emoji", "--workers", "1"])
    monkeypatch.setitem(
        TASKS, "svm-toy", dataclasses.replace(TASKS["linear"], name="svm-toy", layout="voc", published=None)
    )
    return DataRoot.load(tmp_path / "results" / "data" / "emoji-smoke")


def labels_of(root):
    """Image files by id with 1 and 0 per class, read from the annotations."""
    classes, devkit = root.section("voc")["classes"], root.folder("voc") / "VOC2007"
    rows = []
    for name in sorted((devkit / "ImageSets" / "Main" / "test.txt").read_text().split()):
        objects = ElementTree.parse(devkit / "Annotations" / f"{name}.xml").findall("object")
        rows.append([int(any(one.findtext("name") == label for one in objects)) for label in classes])
    return np.array(rows)


def test_several_labels_have_false_positives_and_misses_of_their_own_scores(voc, drawn):
    target = labels_of(voc)
    scores = np.where(target, 1.0, -1.0)
    person, cat = (voc.section("voc")["classes"].index(name) for name in ("person", "cat"))
    with_person, without_cat = np.flatnonzero(target[:, person])[0], np.flatnonzero(target[:, cat] == 0)[:2]
    scores[with_person, person], scores[without_cat, cat] = -0.25, (0.5, 2)
    path = record_of(
        voc, Predictions(target=target, scores=scores), task="svm-toy", data_name="emoji-smoke", profile="smoke"
    )
    main(["show", str(path)])
    assert drawn[2].startswith(f"{len(target)} test images; all classes")
    titles = [text for text in drawn if text.endswith(("predicted)", "missed)"))]
    assert titles[0] == f"cat absent, the highest scores (2 of {(target[:, cat] == 0).sum()} predicted)"
    assert f"person present, the lowest scores (1 of {target[:, person].sum()} missed)" in titles and len(titles) == 40
    scores_shown = [text for text in drawn if text[0] in "+-"]
    assert scores_shown[:3] == ["+2.00", "+0.50", "-1.00"] and scores_shown.count("-0.25") == 1
    drawn.clear()
    Predictions(target=target, scores=np.where(np.arange(20) == cat, scores, 0)).save(path.with_suffix(""))
    main(["show", str(path)])
    assert drawn[2].startswith(f"{len(target)} test images; 1 of 20 classes")
    Predictions(target=target, scores=scores).save(path.with_suffix(""))
    listed = voc.folder("voc") / "VOC2007" / "ImageSets" / "Main" / "test.txt"
    listed.write_text("\n".join(reversed(listed.read_text().split())))
    drawn.clear()
    main(["show", str(path)])  # in the order of the ids, whatever that of the list
    assert [text for text in drawn if text[0] in "+-"] == scores_shown
    other = Predictions(target=1 - target, scores=scores)
    path = record_of(voc, other, task="svm-toy", data_name="emoji-smoke", profile="smoke", seed=1)
    with pytest.raises(InputError, match=r"is damaged or of other images \(a class in the target that is not in"):
        main(["show", str(path)])


def test_a_run_without_predictions_is_one_line(root):
    path = record_of(root, None)
    with pytest.raises(InputError, match=rf"has no {FILE}: the task linear keeps none, or the run is of an earlier"):
        main(["show", str(path)])


@pytest.mark.parametrize(
    "found",
    [
        predictions(target=LABELS[::-1]),
        predictions(target=LABELS[:3], predicted=LABELS[:3], confidence=None),
        predictions(predicted=LABELS + 1),
        predictions(predicted=None, confidence=None, scores=np.ones((15, 3)), target=np.ones((15, 3), dtype=int)),
    ],
)
def test_predictions_of_other_images_are_one_line(root, found):
    path = record_of(root, found)
    with pytest.raises(InputError, match=r"predictions\.npz is damaged or of other images .*: run again") as caught:
        main(["show", str(path)])
    assert "\n" not in str(caught.value) and not path.with_suffix(".png").exists()


def test_data_that_were_prepared_again_are_refused(root):
    path = record_of(root, predictions())
    prepare(["imagenet", root.config["source"], "--name", "toy", "--drop-unreadable"])
    main(["show", str(path)])
    other = record_of(root, predictions(), data_fingerprint="0" * 64)
    with pytest.raises(InputError, match=r"toy was prepared again since this run: it holds data \w{8}, the run was"):
        main(["show", str(other)])


def test_data_that_are_elsewhere_are_one_line(root):
    path = record_of(root, predictions())
    root.path.rename(root.path.parent.parent / "toy")
    with pytest.raises(InputError, match=r"data/toy is not there, the data of this run: prepare them again, or link"):
        main(["show", str(path)])


def test_failed_runs_and_unknown_tasks_are_one_line(root, monkeypatch):
    failed = ResultsStore().save(make_record(make_spec(), {}, error="out of memory"))
    with pytest.raises(InputError, match=r"is of a run that failed \(out of memory\): show one that finished"):
        main(["show", str(failed)])
    path = record_of(root, predictions())
    monkeypatch.setattr(show, "TASKS", {})
    with pytest.raises(InputError, match="a run of the unknown task linear: give --plugin if it is yours"):
        main(["show", str(path)])
