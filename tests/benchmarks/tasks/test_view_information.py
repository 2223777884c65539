"""The task on tiny runs of ours, end to end, and the checkpoints that it cannot measure."""

import dataclasses
import json
import math
from dataclasses import replace

import pytest
import torch

from benchmarks.checkpoints import EvaluatedCheckpoint
from benchmarks.data.root import DataRoot
from benchmarks.plan import Column, Plan, check_data
from benchmarks.records import ResultsStore
from benchmarks.report.cells import collect
from benchmarks.run import execute
from benchmarks.tasks import TASKS, Setup, view_information
from benchmarks.tasks.compute import view_information as compute
from benchmarks.tasks.compute.information import two_view_features
from pretrain import train
from pretrain.augment.pairs import PairConfig
from pretrain.augment.views import ViewsConfig
from pretrain.common.errors import InputError
from pretrain.config import PretrainConfig
from pretrain.information import shared
from pretrain.information.two_views import InformationConfig, Pairing
from pretrain.methods.random import RandomConfig
from pretrain.methods.simclr import SimCLRConfig
from pretrain.runtime.metrics import read_metrics
from tests.benchmarks.contexts import tiny_root
from tests.benchmarks.tasks.small import checkpoint, spec_of
from transfer.checkpoints.backbone import backbone_of
from transfer.checkpoints.reading.read import load_checkpoint
from transfer.checkpoints.store import import_checkpoint

TASK = TASKS["view-information"]
PLAIN = ViewsConfig(crop_scale=(0.2, 0.2), flip=0.0, jitter=0.0, grayscale=0.0, blur=0.0)


TINY = PretrainConfig(
    method=SimCLRConfig(dim=16, hidden_dim=32),
    backbone="resnet18",
    image_size=32,
    batch_size=8,
    steps=20,
    optimizer="adamw",
    learning_rate=1e-3,
    lr_scaling="none",
    views=PLAIN,
    workers=0,
)


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("RESULTS_DIR", str(tmp_path / "results"))
    return tiny_root(tmp_path / "toy", val=16, size=48)


@pytest.fixture
def pretrained(root):
    def run(**changes):
        path = train.run("x", replace(TINY, **changes), root.path / "imagenet" / "train")
        return EvaluatedCheckpoint(label="ours", stored=import_checkpoint(path.parent))

    return run


def record_of(root, one):
    (saved,) = execute(one, root.path, [spec_of(root, one, TASK.name)], 0, root.path.parent / "log.txt", False)
    return ResultsStore().load(saved.path)


def test_a_run_is_measured_on_its_own_views(root, pretrained):
    pair = PairConfig(crop_distance=0.25, frequency_split=0.05)
    one = pretrained(pair=pair, views2=replace(PLAIN, solarize=0.3))
    record = record_of(root, one)
    assert record.error is None and record.test_images == 48 and record.config["cap"] == math.log(48)
    views = record.config["run_views"]
    assert views["pairing"]["pair"] == dataclasses.asdict(pair) and views["pairing"]["views2"]["solarize"] == 0.3
    assert views["image_size"] == 32 and views["pairing"]["crop_backend"] == "torch"
    found = record.config["view_information"]
    assert found["bound"]["value"] == record.metrics["shared"] and found["layer"] in ("h", "z")
    last = [row["predictive"] for row in read_metrics(one.stored.source.parent / "metrics.jsonl")][-2:]
    assert record.metrics["log"] == pytest.approx(sum(last) / 2)
    # By hand, from the same features.
    backbone = backbone_of(load_checkpoint(one.stored.source))
    images = sorted((root.path / "imagenet" / "val").rglob("*.png"))
    config = InformationConfig(images=200, image_size=32, seed=0, views=PLAIN)
    pairing = Pairing(views2=replace(PLAIN, solarize=0.3), pair=pair)
    h = two_view_features(backbone, images, record.spec.data_fingerprint, config, pairing)
    layers = {"h": h, "z": compute.load_embedding(one.stored.source.parent)(h.flatten(0, 1)).unflatten(0, (96, 2))}
    assert dataclasses.asdict(shared.measure_shared(layers)) == found
    assert TASK.settings(Setup(profile="smoke")).values.items() <= record.config.items()
    cells = {cell.metric.label: cell.metric.shown for cell in collect([(record.label, record.spec)])}
    assert cells == {"I(v1;v2) ≥": True, "training log ≥": False}


def test_identical_views_are_at_the_cap_and_a_note_says_so(root, pretrained):
    record = record_of(root, pretrained(pair=PairConfig(crop_distance=0.0)))
    assert record.metrics["shared"] > 0.9 * record.config["cap"]
    assert record.notes == ("I(v1; v2) is near 3.87 nats, the most that the estimate can show",)


def test_the_two_views_are_those_of_training(root, pretrained):
    """Crops that are the same box and colours that are left alone: what differs is the band alone."""
    one = pretrained(pair=PairConfig(crop_distance=0.0, frequency_split=0.1))
    found, backbone = compute.run_views(one.stored), backbone_of(load_checkpoint(one.stored.source))
    images = sorted((root.path / "imagenet" / "val").rglob("*.png"))[:8]
    split = compute.layers_of(one.stored, backbone, images, "f" * 64, found, 8, 0)["h"]
    whole = replace(found, pairing=Pairing(pair=PairConfig(crop_distance=0.0)))
    same = compute.layers_of(one.stored, backbone, images, "f" * 64, whole, 8, 0)["h"]
    torch.testing.assert_close(same[:, 0], same[:, 1], rtol=1e-4, atol=1e-4)
    assert (split[:, 0] - split[:, 1]).abs().amax(1).min() > 0.01


def test_checkpoints_without_two_known_views_are_refused_in_a_line(root, pretrained, tmp_path):
    foreign = record_of(root, checkpoint(tmp_path))
    assert foreign.status == "failed"
    assert foreign.error.endswith("its views are unknown, since it is no pretraining run of this project")
    random = record_of(root, pretrained(method=RandomConfig(), steps=0))
    assert random.error.endswith("its views are unknown, since random does not compare two views of an image")
    broken = pretrained()
    path = broken.stored.source.parent / "meta.json"
    meta = json.loads(path.read_text())
    meta["config"]["raw"]["views"]["hue"] = "much"
    path.write_text(json.dumps(meta))
    with pytest.raises(InputError, match=r"meta.json: its views cannot be read \(hue is 'much', not a number\)"):
        compute.run_views(broken.stored)


def test_a_run_without_a_log_or_a_head_is_measured_all_the_same(root, pretrained):
    one = pretrained()
    folder = one.stored.source.parent
    (folder / "metrics.jsonl").unlink()
    meta = json.loads((folder / "meta.json").read_text())
    del meta["head"]
    (folder / "meta.json").write_text(json.dumps(meta))
    record = record_of(root, one)
    assert record.metrics["log"] is None and record.config["view_information"]["layer"] == "h"


def test_too_few_images_are_refused_before_anything_starts(tmp_path):
    assert view_information.LEAST == shared.LEAST
    for count, refused in ((63, True), (64, False)):
        section = {"classes": ["a"], "counts": {"train": 2, "val": count}, "fingerprint": "f" * 64}
        values = {"path": tmp_path, "name": "toy", "synthetic": True, "description": "", "config": {}}
        root = DataRoot(**values, sections={"imagenet": section})
        plan = Plan(profile="smoke", num_gpus=0, columns=(Column(task=TASK.name, root=root, seeds=(0,)),))
        if refused:
            with pytest.raises(InputError, match="63 val images, and view-information takes at least 64"):
                check_data(plan, "")
        else:
            check_data(plan, "")


def test_the_cap_is_above_the_logarithm_of_the_training_batch():
    batches = {"demo": 64, "paper": 4096}  # of demo-simclr, and the largest of the presets
    for profile, batch in batches.items():
        assert TASK.settings(Setup(profile=profile)).values["images"] // 2 > batch
