"""Information in frozen features, and the command."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import nn

from pretrain.__main__ import main
from pretrain.augment.views import ViewsConfig, normalise
from pretrain.checkpoint import save_checkpoint
from pretrain.common.errors import InputError
from pretrain.data import list_images
from pretrain.information import diagnose
from pretrain.information.estimate import measure, nce_bounds
from pretrain.information.load import FrozenBackbone, load_backbone
from tests.pretrain.conftest import write_images


def gaussian_features(n, rho, seed=0, d=8, width=24):
    """(n, 2, width): d dimensions with correlation ρ between the views, linearly mixed and offset."""
    generator = torch.Generator().manual_seed(seed)
    a, b = (torch.randn(n, d, generator=generator) for _ in range(2))
    views = torch.stack([a, rho * a + math.sqrt(1 - rho**2) * b], 1)
    return views @ torch.randn(d, width, generator=generator) + 5


@pytest.fixture(scope="module")
def known():
    return measure(gaussian_features(2000, 0.8), dim=8, noise=1.0, resamples=300)


def test_predictive_is_below_the_truth_and_near_it(known):
    truth = 4 * math.log(2 / (1 + 1 - 0.8**2))
    assert truth - 0.25 < known.predictive.value < truth + 0.1
    assert known.predictive.low < known.predictive.value < known.predictive.high < known.cap == math.log(1000)


def test_superfluous_bounds_are_the_closed_forms(known):
    truth = 4 * math.log(1 + 1 - 0.8**2)
    assert known.learned.value == pytest.approx(truth, abs=0.1)
    assert known.cross_view.value == pytest.approx(8 * 0.2, abs=0.15)
    assert known.carried.value == pytest.approx(4 * math.log(2), abs=0.1) and known.prior == "normal"
    assert truth - 0.1 < known.rate.value < truth + 0.4
    assert known.rate.value == pytest.approx(known.carried.value - known.predictive.value)
    assert known.superfluous in ("learned", "rate")
    assert known.learned.low < truth + 0.1 and known.learned.high > truth - 0.1
    assert 0 < known.learned.high - known.learned.low < 0.2


def test_views_that_share_nothing_and_views_that_share_all():
    """Few images and many features: a head that only remembered its images would see information here."""
    noise = torch.randn(400, 2, 600, generator=torch.Generator().manual_seed(0))
    nothing = measure(noise, dim=8, resamples=100)
    assert nothing.predictive.value < 0.05
    same = noise[:, :1].expand(-1, 2, -1)
    everything = measure(same, dim=8, resamples=100)
    assert everything.cross_view.value == pytest.approx(0, abs=1e-9) and everything.superfluous != "rate"
    assert everything.predictive.value > 1.5


def test_a_collapsed_checkpoint_carries_nothing():
    found = measure(torch.full((200, 2, 32), 3.0), dim=4, resamples=100)
    assert found.predictive.value == pytest.approx(0, abs=1e-6) and found.learned.value == pytest.approx(0, abs=1e-6)
    assert found.carried.value == pytest.approx(0, abs=1e-6)


def test_the_same_seed_measures_the_same_and_another_another():
    h = gaussian_features(200, 0.5)
    assert measure(h, dim=4, resamples=100) == measure(h, dim=4, resamples=100)
    assert measure(h, dim=4, resamples=100) != measure(h, dim=4, resamples=100, seed=1)


def test_too_few_images():
    with pytest.raises(InputError, match=r"30 images are too few for --dim 4: give 128"):
        measure(gaussian_features(30, 0.5), dim=4)


def test_resampled_info_nce_is_the_loop_over_drawn_images():
    """Images drawn with replacement; a copy of the anchor's own image is never its negative."""
    rng = np.random.default_rng(0)
    scores, drawn = rng.normal(size=(2, 6, 6)), [[0, 1, 2, 3, 4, 5], [0, 0, 2, 3, 3, 3], [5, 5, 5, 5, 5, 1]]
    weights = torch.tensor([[images.count(i) for i in range(6)] for images in drawn], dtype=torch.float64)
    found = nce_bounds(torch.tensor(scores), weights)
    for images, value in zip(drawn, found, strict=True):
        total = 0.0
        for tower in scores:
            for i in images:
                candidates = [tower[i, i], *(tower[i, k] for k in images if k != i)]
                total += math.log(len(candidates)) + tower[i, i] - math.log(sum(math.exp(s) for s in candidates))
        assert float(value) == pytest.approx(total / 12)


def resnet18(seed=0):
    torch.manual_seed(seed)
    model = torchvision.models.resnet18(weights=None)
    model.fc = nn.Identity()
    return model.eval()


def write_run(folder, model, image_size=32):
    meta = {
        "architecture": "resnet18", "method": "random", "epoch": 0.0, "images_seen": 0, "dataset": {},
        "config": {"raw": {"image_size": image_size}}, "git": None, "versions": {}, "created": "",
    }  # fmt: skip
    save_checkpoint(folder, model.state_dict(), **meta)
    return folder


def test_a_backbone_is_read_from_a_run_and_from_plain_state_dicts(tmp_path):
    model, x = resnet18(), torch.randn(2, 3, 32, 32)
    torch.save(model.state_dict() | {"fc.weight": torch.zeros(10, 512)}, tmp_path / "plain.pth")
    save_file(model.state_dict(), tmp_path / "plain.safetensors")
    run = write_run(tmp_path / "demo-x", model)
    for path in (tmp_path / "plain.pth", tmp_path / "plain.safetensors", run, run / "backbone.safetensors"):
        found = load_backbone(path)
        assert torch.equal(found.module(x), model(x)) and not found.module.training
        own = path.name in ("demo-x", "backbone.safetensors")
        assert found.name == ("demo-x" if own else "plain") and found.image_size == (32 if own else None)
    assert len({load_backbone(path).sha256 for path in (tmp_path / "plain.pth", run)}) == 1


def test_what_is_no_backbone_is_refused_in_one_line(tmp_path):
    state = resnet18().state_dict()
    renamed = {name.replace("layer1", "res2"): value for name, value in state.items()}
    torch.save(renamed, tmp_path / "renamed.pth")
    torch.save({"state_dict": state, "epoch": 3}, tmp_path / "nested.pth")
    torch.save(nn.Linear(2, 2), tmp_path / "module.pth")
    (tmp_path / "half.safetensors").write_bytes(b"half")
    run = write_run(tmp_path / "demo-x", resnet18())
    write_run(tmp_path / "other", resnet18(1))
    (run / "meta.json").write_bytes((tmp_path / "other" / "meta.json").read_bytes())
    for path, said in (
        ("renamed.pth", "res2"),
        ("nested.pth", "not a plain state dict"),
        ("module.pth", "cannot be read"),
        ("half.safetensors", "cannot be read"),
        ("absent.pth", "is not a file"),
        ("demo-x", "describes other tensors"),
    ):
        with pytest.raises(InputError, match=said) as caught:
            load_backbone(tmp_path / path)
        assert "\n" not in str(caught.value)


def test_pixels_arrive_as_the_checkpoint_was_trained(tmp_path):
    x = torch.rand(2, 3, 4, 4)
    mean, std = (0.5, 0.4, 0.3), (1.0, 0.5, 0.25)
    backbone = FrozenBackbone(
        module=nn.Identity(), name="", sha256="", pixel_mean=mean, pixel_std=std, channel_order="BGR"
    )
    wanted = (x.flip(1) - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
    torch.testing.assert_close(diagnose._as_trained(normalise(x), backbone), wanted, atol=1e-5, rtol=1e-5)
    plain = FrozenBackbone(module=nn.Identity(), name="", sha256="")
    assert torch.equal(diagnose._as_trained(normalise(x), plain), normalise(x))


def test_features_are_those_of_two_views_of_each_image(tmp_path, results):
    """With whole-image crops and no colours the two views of an image are its resized pixels."""
    write_images(tmp_path / "images", 5, sizes=((32, 32),))
    views = ViewsConfig(crop_scale=(1.0, 1.0), flip=0.0, jitter=0.0, grey=0.0, blur=0.0)
    backbone = FrozenBackbone(module=nn.Flatten(), name="pixels", sha256="0")
    images = list_images(tmp_path / "images")
    h = diagnose.features(backbone, images, {"fingerprint": "f"}, diagnose.DiagnoseConfig(views=views), 8)
    assert h.shape == (5, 2, 192) and torch.equal(h[:, 0], h[:, 1]) and len(h[:, 0].unique(dim=0)) == 5


@pytest.mark.parametrize("count", [5, 127])
def test_too_few_images_and_a_folder_that_cannot_be_written_are_found_before_the_extraction(
    count, tmp_path, results, monkeypatch
):
    write_images(tmp_path / "images", 128, sizes=((8, 8),))
    monkeypatch.setattr(diagnose, "_extract", lambda *rest: pytest.fail("extracted"))
    backbone = FrozenBackbone(module=nn.Flatten(), name="pixels", sha256="0")
    with pytest.raises(InputError, match=f"{count} images are too few for --dim 4: give 128"):
        diagnose.diagnose(backbone, tmp_path / "images", diagnose.DiagnoseConfig(images=count, dim=4))
    results.touch()
    with pytest.raises(NotADirectoryError):
        diagnose.diagnose(backbone, tmp_path / "images", diagnose.DiagnoseConfig(images=128, dim=4))


@pytest.mark.slow
def test_the_command_writes_what_it_found_and_extracts_once(tmp_path, results, capsys, monkeypatch):
    write_images(tmp_path / "images", 64)
    run = write_run(tmp_path / "demo-x", resnet18())
    arguments = ["diagnose", str(run), "--data", str(tmp_path / "images"), "--dim", "2", "--resamples", "100"]
    assert main(arguments) == 0
    captured = capsys.readouterr()
    path = captured.out.strip()
    assert "| predictive: I_nce" in captured.err and "log K = 3.47" in captured.err and captured.out.count("\n") == 1
    found = json.loads(Path(path).read_text())
    assert found["settings"]["image_size"] == 32 and found["data"]["images_used"] == 64
    nats = found["information"]
    assert nats["candidates"] == 32 and nats["predictive"]["low"] <= nats["predictive"]["high"] <= nats["cap"]
    monkeypatch.setattr(diagnose, "_extract", None)
    assert main(arguments) == 0 and capsys.readouterr().out.strip() == path
    assert main([*arguments, "--noise", "0.5"]) == 0 and capsys.readouterr().out.strip() != path
    with pytest.raises(TypeError):
        main([*arguments, "--seed", "1"])
    refused = {
        "--noise 0": "--noise 0",
        "--images 1": "--images 1",
        "--dim 8": "too few",
        "--images 40": "40 images are",
    }
    for flags, said in refused.items():
        with pytest.raises(InputError, match=said):
            main([*arguments, *flags.split()])
