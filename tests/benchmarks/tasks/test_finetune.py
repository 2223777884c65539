"""The styles of fine-tuning, their profiles, and whole runs on a tiny root."""

import dataclasses
import re
from pathlib import Path

import pytest
import torch
from torchvision.models import resnet18

from benchmarks.__main__ import main
from benchmarks.predictions import load_predictions
from benchmarks.profiles import PROFILES
from benchmarks.records import ResultsStore, files_of
from benchmarks.tasks import TASKS, Setup, named
from benchmarks.tasks.finetune import STYLES, settings, style_of
from pretrain.common.errors import InputError
from tests.benchmarks.report.test_published import ROWS
from tests.pretrain.conftest import write_images

CLASSES = 6


@pytest.mark.parametrize(
    ("task", "trunk", "head"),
    [
        ("semi-1-swav", 0.02, 5.0),
        ("semi-10-swav", 0.01, 0.2),
        ("semi-1-vicreg", 0.03, 0.08),
        ("semi-10-vicreg", 0.01, 0.1),
        ("semi-1-barlow", 0.005, 0.5),
        ("semi-10-barlow", 0.005, 0.5),
        ("finetune-lightly", 0.05, 0.05),
    ],
)
def test_the_paper_profile_is_the_published_style(task, trunk, head):
    found = settings(task, Setup(profile="paper", num_gpus=8, opts=("A", "1")))
    values = found.values
    assert (values["learning_rate_trunk"], values["learning_rate_head"]) == (trunk, head)
    assert (values["batch"], values["momentum"], values["weight_decay"], values["test_every"]) == (256, 0.9, 0.0, 1)
    assert (values["train_size"], values["resize"], values["crop"]) == (224, 256, 224)
    assert values["sync_batchnorm"] is ("swav" in task) and values["drop_last"] is (task == "finetune-lightly")
    assert values["epochs"] == (30 if task == "finetune-lightly" else 20)
    assert found.digest == settings(task, Setup(profile="paper")).digest
    assert found.precision in ("bf16", "fp32")


@pytest.mark.parametrize("profile", ["smoke", "demo"])
@pytest.mark.parametrize("task", STYLES)
def test_the_small_profiles_change_sizes_and_scale_the_rates(task, profile):
    style, small, sizes = STYLES[task], style_of(task, profile), PROFILES[profile].tuning
    changed = {one.name for one in dataclasses.fields(style) if getattr(style, one.name) != getattr(small, one.name)}
    rates = {"learning_rate_trunk", "learning_rate_head", "final_learning_rate"}
    assert changed <= {"epochs", "milestones", "batch", "replicas", "test_every", *rates}
    assert small.learning_rate_head == style.learning_rate_head * sizes.batch / 256
    assert small.batch % small.replicas == 0 and style.batch % style.replicas == 0
    assert len(small.milestones) == len(style.milestones) and all(0 < one < small.epochs for one in small.milestones)


def test_groups_and_published_rows():
    assert [task.name for task in named("semi")] == [name for name in STYLES if name.startswith("semi")]
    assert [task.name for task in named("finetune")] == ["finetune-lightly"]
    for task in map(TASKS.__getitem__, STYLES):
        assert task.kind == "finetune" and task.every_gpu and not task.deterministic and not task.detects
        assert (task.fingerprint is None) is (task.group == "finetune")
        ((task_name, metric),) = task.published.headings.values()
        published = [row["value"] for row in ROWS if (row["task"], row["metric"]) == (task_name, metric)]
        # The numbers that the reference quotes are the file's.
        quoted = re.findall(r"published top-1 ([\d.]+)(?: to ([\d.]+))?", task.reference)[0]
        assert quoted and set(filter(None, quoted)) <= set(published)


@pytest.fixture
def root(tmp_path, monkeypatch, capsys):
    """Six classes of ten images, one of each on the list for 1 %."""
    monkeypatch.setenv("RESULTS_DIR", str(tmp_path / "results"))
    for split, count in (("train", 10), ("val", 2)):
        for label in range(CLASSES):
            write_images(tmp_path / "toy" / split / f"c{label}", count, seed=10 * label + (split == "val"))
    (tmp_path / "list.txt").write_text("".join(f"c{label}/00{label}.jpg\n" for label in range(CLASSES)))
    torch.manual_seed(0)
    torch.save(resnet18(weights=None).state_dict(), tmp_path / "x.pth")
    assert main(["prepare", "imagenet", str(tmp_path / "toy"), "--labels-1percent", str(tmp_path / "list.txt")]) == 0
    return capsys.readouterr().out.strip()


def test_a_list_of_labels_that_has_changed_is_refused_before_anything_starts(root, tmp_path, capsys):
    (Path(root) / "labels" / "1percent.txt").write_text("c0/000.jpg\n")
    command = ["run", "--checkpoint", f"x={tmp_path / 'x.pth'}", "--data", root, "--profile", "smoke"]
    with pytest.raises(InputError, match=r"1percent.txt is not the list that was prepared: prepare imagenet-toy again"):
        main([*command, "--task", "knn", "semi"])
    assert capsys.readouterr().out == "" and not ResultsStore().all_paths()


@pytest.mark.slow
def test_runs_leave_their_records(root, tmp_path, capsys):
    command = ["run", "--checkpoint", f"x={tmp_path / 'x.pth'}", "--data", root, "--profile", "smoke", "--seed", "3"]
    tasks = ("semi-1-swav", "semi-10-barlow", "finetune-lightly")
    assert main([*command, "--workers", "1", "--task", *tasks]) == 0
    out, err = capsys.readouterr()
    paths = [Path(line) for line in out.splitlines() if "/runs/" in line]
    records = {record.spec.task: (record, path) for path in paths for record in [ResultsStore().load(path)]}
    assert set(records) == set(tasks)
    labels = {"semi-1-swav": ("list", 6), "semi-10-barlow": ("drawn", 6), "finetune-lightly": ("all", 60)}
    for name, (record, path) in records.items():
        found = record.config["labels"]
        assert (found["source"], found["images"]) == labels[name] and record.spec.seed == 3
        assert record.config["batch"] == 16 and record.config["replicas"] == 2 and record.config["processes"] == 1
        assert record.config["seconds_per_epoch"] > 0 and len(record.config["epochs_run"]) == record.config["epochs"]
        predictions = load_predictions(files_of(path))
        assert record.metrics["top1"] == pytest.approx(100 * predictions.correct.mean())
        assert len(predictions.target) == record.test_images == 2 * CLASSES
        assert record.metrics["top1"] <= record.metrics["top5"] <= 100
        assert record.metrics["top1"] >= record.metrics["top1_last"]
        assert record.files == ("predictions.npz",) and record.spec.num_gpus is None
    heading = next(line for line in err.splitlines() if line.startswith("| checkpoint"))
    assert [one.strip() for one in heading.split("|")[2:-1]] == [
        *("1 % SwAV top-1", "1 % SwAV top-5", "10 % Barlow top-1", "10 % Barlow top-5", "fine-tuned lightly top-1")
    ]
    assert "1 % SwAV: 6 labels by the root's list (x)" in err
    assert "10 % Barlow: 6 labels by a draw per class, no list was given (x)" in err
    assert "1 % SwAV, 10 % Barlow: best of 2 tested epochs, chosen on val (x)" in err
    # Nothing is left to do; other labels are other data.
    assert main([*command, "--workers", "1", "--task", *tasks]) == 0 and "/runs/" not in capsys.readouterr().out
