"""The task on the smoke profile's features, with the estimate's own numbers."""

import dataclasses

import numpy as np
import pytest
import torch
import torchvision

from benchmarks import run
from benchmarks.data.root import DataRoot
from benchmarks.plan import Column, Plan, check_data
from benchmarks.tasks import TASKS, Setup
from benchmarks.tasks.compute import information as compute
from benchmarks.tasks.compute.features import build_backbone
from benchmarks.tasks.information import LABELS, information_config
from pretrain.common.errors import InputError
from pretrain.data import decode
from pretrain.information import estimate
from tests.benchmarks.doubles import make_spec
from tests.benchmarks.plans import evaluated
from tests.pretrain.conftest import write_images
from transfer.checkpoints.backbone import backbone_of
from transfer.checkpoints.reading.read import load_checkpoint

TASK = TASKS["information"]


def test_metrics_are_the_estimates_and_the_config_has_the_intervals(monkeypatch, tmp_path):
    generator = torch.Generator().manual_seed(0)
    shared, rest = torch.randn(300, 1, 8, generator=generator), torch.randn(300, 2, 8, generator=generator)
    h = torch.cat([shared + 0.3 * rest, rest], 2)
    monkeypatch.setattr(run.Context, "backbone", lambda context: None)
    monkeypatch.setattr("benchmarks.tasks.compute.features.labelled_images", lambda root, split: ([], None))
    monkeypatch.setattr(compute, "two_view_features", lambda backbone, images, data, config: h)
    values = {"root": None, "folder": tmp_path, "num_gpus": 0, "loader_workers": 0}
    result = TASK.run(run.Context(spec=make_spec(task="information"), checkpoint=evaluated(tmp_path), **values))
    expected = estimate.measure(h, dim=4)
    assert set(result.metrics) == set(LABELS) and result.test_images == expected.candidates == 150
    assert result.metrics["predictive"] == expected.predictive.value
    assert result.metrics["superfluous"] == getattr(expected, expected.superfluous).value
    assert result.config["information"] == dataclasses.asdict(expected)
    assert result.config.items() >= TASK.settings(Setup(profile="smoke")).values.items()


@pytest.mark.slow
def test_two_views_per_image_whatever_family_the_file_is_of(tmp_path, monkeypatch):
    monkeypatch.setenv("RESULTS_DIR", str(tmp_path / "results"))
    write_images(tmp_path / "images", 70)  # more than a batch
    images = sorted((tmp_path / "images").rglob("*.*"))
    torch.manual_seed(0)
    state = torchvision.models.resnet18(weights=None).state_dict()
    torch.save(state, tmp_path / "plain.pth")
    moco = {f"module.encoder_q.{name}": value for name, value in state.items() if not name.startswith("fc.")}
    moco |= {"module.queue": torch.zeros(128, 8), "module.encoder_q.fc.weight": torch.zeros(128, 512)}
    torch.save({"state_dict": moco, "arch": "resnet18", "epoch": 1}, tmp_path / "moco.pth")
    config = dataclasses.replace(information_config("smoke"), image_size=32)
    found = []
    for name in ("plain.pth", "moco.pth"):
        backbone = backbone_of(load_checkpoint(tmp_path / name))
        found.append(compute.two_view_features(backbone, images, "f" * 64, config))
        assert found[-1].shape == (70, 2, 512)
    assert torch.equal(*found)
    # The first batch again, all first views before all second ones.
    drawn = compute.draw_images(70, config)[: compute.BATCH]
    crops = [compute.two_view_crops(decode(images[i]), config.seed, i, config.views, 32) for i in drawn]
    generator = torch.Generator().manual_seed(config.seed)
    views = compute.network_views(torch.stack(crops), config.views, backbone.input, generator)
    with torch.no_grad():
        expected = torch.stack(build_backbone(backbone)(views).chunk(2), 1)
    torch.testing.assert_close(found[0][: compute.BATCH], expected, rtol=1e-4, atol=1e-4)


def test_too_few_images_are_refused_before_anything_starts(tmp_path):
    plan = plan_of_images(tmp_path, 127)
    with pytest.raises(InputError, match="127 val images, and information takes at least 128"):
        check_data(plan, "")
    check_data(plan_of_images(tmp_path, 128), "")


def plan_of_images(folder, count):
    section = {"classes": ["a"], "counts": {"train": 2, "val": count}, "fingerprint": "f" * 64}
    root = DataRoot(path=folder, name="toy", synthetic=True, description="", config={}, sections={"imagenet": section})
    return Plan(profile="smoke", num_gpus=0, columns=(Column(task="information", root=root, seeds=(0,)),))


def test_seeds_draw_other_images():
    first, second = (compute.draw_images(400, information_config("smoke", seed)) for seed in (0, 1))
    assert len(first) == 200 and not np.array_equal(first, second)
