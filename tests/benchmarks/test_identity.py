"""What makes two runs the same."""

import dataclasses
import errno
import shutil
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.models import resnet18

from benchmarks.data.root import DataRoot
from benchmarks.plan import Cell, Plan, resolve_columns
from benchmarks.records import InputConvention
from benchmarks.suites import SUITES
from benchmarks.tasks import TASKS
from benchmarks.tasks.compute import features
from pretrain.common.errors import InputError, RunError
from pretrain.common.pixels import PixelInput
from tests.benchmarks.doubles import IMAGENET_INPUT, make_spec
from transfer.checkpoints.backbone import backbone_of
from transfer.checkpoints.reading.read import load_checkpoint
from transfer.detection import config


@pytest.fixture
def yaml_file(tmp_path, monkeypatch):
    """A copy of a protocol that may be edited."""
    shutil.copytree(config.PROTOCOLS, tmp_path / "protocols")
    monkeypatch.setattr(config, "PROTOCOLS", tmp_path / "protocols")
    return tmp_path / "protocols" / "voc_fpn_24k.yaml"


def resolved(profile="demo", num_gpus=0, opts=()):
    return detection.resolve("voc-det", "voc_fpn_24k", profile, num_gpus, opts)


def test_a_detection_protocol_is_known_by_its_content(yaml_file):
    before = resolved("paper").digest
    yaml_file.write_text("# a comment\n" + yaml_file.read_text())
    assert resolved("paper").digest == before
    yaml_file.write_text(yaml_file.read_text().replace("WARMUP_ITERS: 100", "WARMUP_ITERS: 101"))
    assert resolved("paper").digest != before


def test_profile_gpus_and_options_are_in_the_digest_and_keeping_files_is_not():
    digests = [
        resolved().digest,
        resolved("paper", 0).digest,
        resolved("paper", 4).digest,
        resolved("paper", 8).digest,
        resolved(opts=("SOLVER.BASE_LR", "0.5")).digest,
    ]
    assert len(set(digests)) == 5
    assert resolved(opts=("TRANSFER.KEEP_FILES", "True", "TRANSFER.RESUME", "True")).digest == digests[0]


def test_the_precision_is_the_machines(monkeypatch):
    for has, word in ((True, "bf16"), (False, "fp32")):
        monkeypatch.setattr("transfer.detection.trainer.has_bf16", lambda device, has=has: has)
        assert resolved().precision == word
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (8, 0))
    assert resolved("paper", 8).precision == "tf32"
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (7, 0))
    assert resolved("paper", 8).precision == "fp32"
    assert resolved("paper", 8, ("SOLVER.AMP.ENABLED", "True")).precision == "fp16"


@pytest.mark.parametrize("change", [{"protocol_digest": "0" * 64}, {"precision": "fp16"}])
def test_a_protocol_that_was_edited_since_the_plan_is_not_trained(monkeypatch, tmp_path, change):
    now, trained = resolved(), []
    cfg = config.resolved_protocol("voc_fpn_24k", "demo", 0, [])
    monkeypatch.setattr(detection, "_converted", lambda pkl: None)
    monkeypatch.setattr(detection, "register", lambda root, kind: SimpleNamespace(test_images=1, num_classes=2))
    monkeypatch.setattr(detection, "_config", lambda *rest: cfg)
    monkeypatch.setattr(detection, "train_and_test", lambda *rest: trained.append(rest) or {"bbox/AP": 1.0})
    (tmp_path / "facts.json").write_text('{"classes_tested": 1}')
    good = {"protocol_digest": now.digest, "precision": now.precision}
    spec = make_spec(task="voc-fpn-24k", profile="demo", num_gpus=0, **good)
    context = SimpleNamespace(spec=spec, root=None, converted=None, folder=tmp_path, num_gpus=0)
    detection._work(context)
    assert len(trained) == 1 and "1 of 2 classes" in (tmp_path / "outcome.json").read_text()
    context.spec = dataclasses.replace(spec, **change)
    with pytest.raises(RunError, match="voc_fpn_24k has changed since this run was planned"):
        detection._work(context)
    assert len(trained) == 1


def test_an_ap_over_all_classes_needs_no_note():
    assert detection.notes(20, 20) == []
    assert detection.notes(19, 20) == ["AP is the mean over the 19 of 20 classes with a test object"]


def test_every_cell_of_a_suite_is_a_protocol_of_its_task():
    for suite in SUITES.values():
        assert all(cell.protocol in TASKS[cell.task].protocols for cell in suite.cells)


def test_a_protocol_that_its_task_does_not_list_is_refused_before_anything_runs(tmp_path, monkeypatch):
    monkeypatch.setenv("RESULTS_DIR", str(tmp_path))
    plan = Plan(profile="smoke", cells=(Cell(task="knn", protocol="coco_fpn_2x", seeds=(0,)),), roots={}, num_gpus=0)
    with pytest.raises(InputError, match="coco_fpn_2x is no protocol of knn"):
        resolve_columns(plan, 1)
    assert list(tmp_path.iterdir()) == []


def test_a_plan_resolves_its_columns(tmp_path, monkeypatch):
    """In this process: a worker's server would keep this test's environment for later ones."""

    def in_process(jobs, workers, say_done):
        for job in jobs:
            module, function = job.target.split(":")
            job.then(getattr(import_module(module), function)(**job.arguments))

    monkeypatch.setenv("RESULTS_DIR", str(tmp_path))
    monkeypatch.setattr("benchmarks.plan.check_jobs", in_process)
    cells = (Cell(task="knn", seeds=(0,)), Cell(task="voc-fpn-24k", seeds=(0, 1)))
    plan = resolve_columns(Plan(profile="demo", cells=cells, roots={}, num_gpus=0), 1)
    assert plan.resolved["voc-det", "voc_fpn_24k"] == (resolved().digest, resolved().precision)
    assert plan.resolved["knn", "knn"][1] == "fp32" and len(plan.resolved) == 2


def test_statistics_that_differ_by_rounding_are_one_input():
    mean = tuple(value + 1e-12 for value in IMAGENET_INPUT.pixel_mean)
    assert InputConvention.of(PixelInput(mean=mean)) == IMAGENET_INPUT
    assert InputConvention.of(PixelInput(mean=mean, order="BGR")) != IMAGENET_INPUT


def test_features_take_their_room_first_and_a_full_disk_leaves_none(tmp_path, monkeypatch):
    """Written to mapped memory, a file with holes kills the process when the disk is full."""
    target, images = tmp_path / "train.npy", [(torch.ones(2, 3, 1, 1), torch.full((2,), i)) for i in (0, 1)]
    loader = type("Loader", (), {"dataset": range(4), "__iter__": lambda self: iter(images)})()
    monkeypatch.setattr(features, "best_device", lambda: torch.device("cpu"))
    model = torch.nn.Flatten()

    def full(file, offset, size):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.posix_fallocate", full)
    with pytest.raises(OSError, match="No space left on device"):
        features._extract(model, loader, target)
    assert list(tmp_path.iterdir()) == []
    monkeypatch.undo()
    features._extract(model, loader, target)
    assert (np.load(target) == 1).all() and np.load(tmp_path / "train.labels.npy").tolist() == [0, 0, 1, 1]
    assert target.stat().st_blocks * 512 >= target.stat().st_size


def test_features_are_computed_in_fp32_whatever_the_processor_is_fast_at(tmp_path, monkeypatch):
    monkeypatch.setenv("RESULTS_DIR", str(tmp_path / "results"))
    rng, classes = np.random.default_rng(0), ["a", "b"]
    for split in ("train", "val"):
        for name in classes:
            (tmp_path / "imagenet" / split / name).mkdir(parents=True)
            image = Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8))
            image.save(tmp_path / "imagenet" / split / name / "1.png")
    section = {"classes": classes, "counts": {"train": 2, "val": 2}, "fingerprint": "f" * 64}
    about = {"name": "toy", "synthetic": True, "description": "", "config": {}}
    root = DataRoot(path=Path(tmp_path), sections={"imagenet": section}, **about)
    torch.manual_seed(0)
    model = resnet18(weights=None)
    torch.save(model.state_dict(), tmp_path / "x.pth")
    backbone = backbone_of(load_checkpoint(tmp_path / "x.pth"))
    found = features.features(backbone, root, "smoke")["train"].x
    model.fc = torch.nn.Identity()
    transform = features.eval_transform(features.VIEWS["smoke"], backbone)
    images = [Image.open(path).convert("RGB") for path in sorted(tmp_path.glob("imagenet/train/*/*.png"))]
    with torch.no_grad():
        exact = model.eval().double()(torch.stack([transform(image) for image in images]).double()).numpy()
    scale = np.abs(exact).max()
    assert found.dtype == np.float32 and np.abs(found - exact).max() < 1e-5 * scale  # bf16 is off by 1e-3 and more
