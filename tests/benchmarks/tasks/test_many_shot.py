"""The many-shot tasks: their published settings, and whole runs on tiny data roots."""

import dataclasses
import json
from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks.data.prepare import main
from benchmarks.data.root import DataRoot
from benchmarks.plan import check_data
from benchmarks.predictions import load_predictions
from benchmarks.records import ResultsStore
from benchmarks.tasks import Setup, many_shot
from benchmarks.tasks.compute import multilabel
from benchmarks.tasks.compute.many_shot import held_out_at_random, held_out_rows
from benchmarks.tasks.compute.many_shot_voc import read_parts, val_rows
from pretrain.common.errors import InputError
from tests.benchmarks.data.test_torchvision import dtd
from tests.benchmarks.plans import plan_of
from tests.benchmarks.tasks.small import executed, image_root, pictures

GREYS = {"ant": 40, "bee": 120, "cow": 220}


def test_its_settings_are_the_published_ones_and_small_profiles_shorten_the_grid_and_the_image():
    paper = many_shot.settings(Setup(profile="paper")).values
    assert paper == {
        "c_grid_points": 45,
        "wd_log10_first": -6.0,
        "wd_log10_last": 5.0,
        "solver": "lbfgs",
        "penalty": "l2",
        "max_iter": 100,
        "tol": 1e-4,
        "fit_intercept": True,
        "warm_start": True,
        "val_fraction": 0.2,
        "val_seed": 0,
        "resize": 224,
        "crop": 224,
        "interpolation": "bicubic",
    }
    for profile, size in (("smoke", 48), ("demo", 64)):
        small = many_shot.settings(Setup(profile=profile)).values
        assert {key for key in paper if paper[key] != small[key]} == {"c_grid_points", "resize", "crop"}
        assert small["crop"] == size
        view = many_shot.view_of(profile)
        assert {"resize": view.resize, "crop": view.crop, "interpolation": view.interpolation}.items() <= small.items()


def test_a_users_folder_gets_a_record(tmp_path, monkeypatch):
    root = image_root(tmp_path, monkeypatch, GREYS)
    record = executed(root, "many-shot")["many-shot"]
    predictions = load_predictions(ResultsStore().paths(record.spec)[0].with_suffix(""))
    assert record.metrics == {"score": 100.0, "top1": 100.0, "mean_per_class": 100.0} and record.test_images == 15
    assert predictions.correct.all() and predictions.target.tolist() == [0] * 5 + [1] * 5 + [2] * 5
    assert record.config["score"] == "top1" and len(record.config["tried"]) == 4
    assert record.notes[0] == "score is top-1, its decay chosen on a random 20% of train"
    assert record.files == ("predictions.npz",)
    config = many_shot.config_of("smoke")
    assert (held_out_rows(root, config) == held_out_at_random(60, config)).all()


def test_a_published_set_is_chosen_on_its_val_part_and_scored_by_its_metric(tmp_path, monkeypatch):
    monkeypatch.setenv("RESULTS_DIR", str(tmp_path / "results"))
    monkeypatch.setenv("DATA_DIR", str(tmp_path / "data"))
    expected = dtd(tmp_path / "source")
    assert main(["torchvision", "DTD", str(tmp_path / "source")]) == 0
    root = DataRoot.load(tmp_path / "data" / "dtd")
    (root.path / "data.json").write_text((root.path / "data.json").read_text().replace('"top1"', '"mean-per-class"'))
    record = executed(root, "many-shot")["many-shot"]
    assert record.metrics["score"] == record.metrics["mean_per_class"]
    assert "mean per-class accuracy, its decay chosen on the published val part" in record.notes[0]
    root.section("imagenet")["score"] = "top-5"
    with pytest.raises(InputError, match="has the score 'top-5', not top1 or mean-per-class: prepare it again"):
        many_shot.run(SimpleNamespace(spec=record.spec, root=root))
    names = sorted(expected["train"] + expected["val"])
    mask = held_out_rows(root, many_shot.config_of("smoke"))
    assert [name for name, out in zip(names, mask, strict=True) if out] == sorted(expected["val"])
    listed = root.folder("imagenet") / "held_out.txt"
    for text in ("banded/gone.jpg\n", ""):
        listed.write_text(text)
        with pytest.raises(InputError, match=r"held_out\.txt, the published val part, is not of .*: prepare"):
            held_out_rows(root, many_shot.config_of("smoke"))
    listed.unlink()
    with pytest.raises(InputError, match=r"held_out\.txt, the published val part, cannot be read"):
        held_out_rows(root, many_shot.config_of("smoke"))


def voc(tmp_path, monkeypatch, lists=True):
    """A root of 30 training and 12 test images: grey tells cat from dog, some have a difficult cow."""
    monkeypatch.setenv("RESULTS_DIR", str(tmp_path / "results"))
    monkeypatch.setenv("DATA_DIR", str(tmp_path / "data"))
    base = tmp_path / "VOCdevkit" / "VOC2007"
    pictures(base / "cat", 40, 21, suffix=".jpg")
    pictures(base / "dog", 200, 21, suffix=".jpg")
    ids = {"train": [], "val": [], "test": []}
    for name in ("cat", "dog"):
        for number in range(21):
            one = f"{name}{number}"
            ids["train" if number < 10 else "val" if number < 15 else "test"].append(one)
            (base / "JPEGImages").mkdir(exist_ok=True)
            (base / name / f"{number:03d}.jpg").rename(base / "JPEGImages" / f"{one}.jpg")
            box = "<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>20</xmax><ymax>20</ymax></bndbox>"
            cow = f"<object><name>cow</name><difficult>1</difficult>{box}</object>" if number % 2 else ""
            text = f"<annotation><object><name>{name}</name>{box}</object>{cow}</annotation>"
            (base / "Annotations").mkdir(exist_ok=True)
            (base / "Annotations" / f"{one}.xml").write_text(text)
    ids["trainval"] = ids["train"] + ids["val"]
    for split, some in ids.items() if lists else ():
        (base / "ImageSets" / "Main").mkdir(parents=True, exist_ok=True)
        (base / "ImageSets" / "Main" / f"{split}.txt").write_text("".join(f"{one}\n" for one in some))
    assert main(["voc", str(tmp_path / "VOCdevkit"), "--name", "pets"]) == 0
    return DataRoot.load(tmp_path / "data" / "pets"), ids


def test_a_voc_root_gets_a_record_of_many_labels(tmp_path, monkeypatch):
    root, ids = voc(tmp_path, monkeypatch)
    record = executed(root, "many-shot-voc07")["many-shot-voc07"]
    assert record.metrics == {"map": pytest.approx(100)} and record.test_images == 12
    assert record.config["AP"] == {"cat": pytest.approx(100), "cow": None, "dog": pytest.approx(100)}
    assert record.notes[0] == "mean over 2 of 3 classes, without cow"
    assert record.config["val_part"] == "the source's val list"
    predictions = load_predictions(ResultsStore().paths(record.spec)[0].with_suffix(""))
    assert predictions.target[:, 0].sum() == 6 and predictions.correct[:, [0, 2]].all()
    assert not predictions.target[:, 1].any()  # difficult objects alone do not count
    part = read_parts(root)["train"]
    mask, _ = val_rows(root, part, many_shot.config_of("smoke"))
    assert {one for one, out in zip(part.ids, mask, strict=True) if out} == set(ids["val"])


@pytest.mark.parametrize("lists", [False, True])
def test_a_voc_root_without_lists_or_a_source_is_chosen_on_a_random_fifth(lists, tmp_path, monkeypatch):
    root, _ = voc(tmp_path, monkeypatch, lists=lists)
    if lists:
        monkeypatch.chdir(tmp_path)  # which has VOCdevkit/VOC2007
        root = dataclasses.replace(root, config={})  # the embedded set
    part = read_parts(root)["train"]
    mask, about = val_rows(root, part, many_shot.config_of("smoke"))
    assert mask.sum() == int(0.2 * len(part.ids)) and about == "a random 20% of train"


def test_of_voc_2007_and_2012_only_2007_is_trained_on(tmp_path, monkeypatch):
    root, ids = voc(tmp_path, monkeypatch)
    section = root.sections["voc"]
    section["train"] = [["VOC2012", "trainval"], *section["train"]]
    assert set(read_parts(root)["train"].ids) == set(ids["trainval"])


def test_a_root_on_which_no_class_can_be_tested_is_refused_before_a_run(tmp_path, monkeypatch):
    root, _ = voc(tmp_path, monkeypatch)
    check_data(plan_of(root.path, "many-shot-voc07"), "")
    for path in (root.folder("voc") / "VOC2007" / "Annotations").iterdir():
        path.write_text(path.read_text().replace("dog", "cat"))
    multilabel._labelled.cache_clear()  # of the files as they were prepared
    with pytest.raises(InputError, match="pets has no class that is on some training images, not on all of them"):
        check_data(plan_of(root.path, "many-shot-voc07"), "")


def test_the_parts_of_a_voc_root_are_files_and_labels(tmp_path, monkeypatch):
    root, _ = voc(tmp_path, monkeypatch)
    part = read_parts(root)["test"]
    assert [path.stem for path in part.files] == list(part.ids) and all(path.is_file() for path in part.files)
    assert part.y.shape == (12, 3) and set(np.unique(part.y)) == {0, 1}


def test_an_imagenet_is_refused_before_anything_starts(root):
    values = json.loads((root / "data.json").read_text())
    values["imagenet"]["counts"]["train"] = 1_281_167
    (root / "data.json").write_text(json.dumps(values))
    with pytest.raises(InputError, match=r"toy has 1,281,167 training images, .* use linear or linear-sgd there"):
        check_data(plan_of(root, "many-shot"), "")
