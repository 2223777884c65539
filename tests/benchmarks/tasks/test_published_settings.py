"""Resolved paper settings of kNN, many-shot, few-shot and fine-tuning against results/reference/protocols.toml.

Those of linear heads and of VOC07's SVMs are compared in test_linear_sgd.py and test_voc07_svm.py. Every key of a
table is either a setting, or named here as one that is no setting: words, sources, results.
"""

import pytest

from benchmarks.report.published import published_settings
from benchmarks.tasks import TASKS, Setup

ABOUT = {"source", "expected", "cost", "published", "reported_source"}
PIXELS = {"normalise_mean", "normalise_std"}  # pixels are normalised as the checkpoint's own input says
WORDS = {  # keys that describe code; the tests of the task itself hold them
    "knn": {
        "voting",
        "similarity",
        "features",
        "normalised",
        "interpolation",
        "bank",
        "metric",
        "reported",
        "precision",
    },
    "manyshot": {
        *("datasets", "c_grid", "c_first", "c_last", "selection", "classifier", "multi_class", "class_weight"),
        *("convergence_warnings", "refit", "warm_start_effect", "features", "backbone_mode", "augmentation"),
        *("crop_kind", "no_norm_models", "val_rule", "voc2007", "voc2007_map", "voc2007_labels", "mean_per_class"),
        *("ece", "tested_versions"),
    },
    "fewshot": {
        *("shots_in_paper", "classifier", "normalisation", "features", "backbone_mode", "episode_sampling"),
        *("accuracy", "interval", "input", "split_many_shot_sets", "split_cropdiseases", "split_eurosat"),
        *("split_isic", "split_chestx", "seed_many_shot_sets", "seed_cdfsl_sets", "datasets"),
    },
    "semi": {"image_list", "images"},
    "finetune": {"image_list", "images", "precision"},
}
OURS = {  # settings that no source has
    "knn": set(),
    "manyshot": set(),
    "fewshot": {"squash"},
    "semi": {"percent", "replicas", "top5", "test_every", "draw_seed"},
    "finetune": {"percent", "replicas", "top5", "test_every", "draw_seed"},
}
COMPARED = [
    name
    for name, task in TASKS.items()
    if task.settings_table.split(".")[0] in WORDS and task.settings_table != "manyshot.voc2007"
]


def plain(value):
    return list(value) if isinstance(value, tuple) else value


def table_of(name):
    found = published_settings()
    for part in TASKS[name].settings_table.split("."):
        found = found[part]
    return found


@pytest.mark.parametrize("name", COMPARED)
def test_paper_settings_are_the_published_ones(name):
    published, kind = table_of(name), TASKS[name].settings_table.split(".")[0]
    found = {key: plain(value) for key, value in TASKS[name].settings(Setup(profile="paper")).values.items()}
    if kind == "knn" and not isinstance(found["k"], list):
        found |= {"k": [found["k"]]}
    if kind == "knn":
        found["temperature"] = [found["temperature"]]
    if kind == "fewshot":  # published as one square size, and one number of shots per command
        assert found.pop("squash") is True
        found["resize"] = [found["resize"]] * 2
        assert set(found["shots"]) == {1, *published["shots_in_paper"]}
        found["shots"] = published["shots"]
    if kind in ("semi", "finetune"):
        assert found["replicas"] == (published["devices"] or 8)
    for key in published.keys() & found.keys():
        assert found[key] == published[key], key
    assert published.keys() - found.keys() <= ABOUT | PIXELS | WORDS[kind] | {"devices"}
    assert found.keys() - published.keys() <= OURS[kind]


def test_every_frozen_or_finetuned_task_with_a_source_in_code_names_its_table():
    named = {name for name, task in TASKS.items() if task.settings_table}
    assert {name for name in COMPARED if name.startswith(("knn", "semi", "finetune"))} == {
        *("knn", "knn-dino", "knn-mmselfsup", "finetune-lightly"),
        *(f"semi-{percent}-{source}" for percent in (1, 10) for source in ("swav", "vicreg", "barlow")),
    }
    assert {"many-shot", "many-shot-voc07", "few-shot", "voc07-svm", "voc07-low-shot"} <= named
    for name in named:
        assert table_of(name)["source"]
    voc, images = (TASKS[name].settings(Setup(profile="paper")).values for name in ("many-shot-voc07", "many-shot"))
    assert voc == images  # [manyshot.voc2007] says only which images and which metric
