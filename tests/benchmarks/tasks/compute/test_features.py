"""Frozen features."""

import dataclasses
import errno

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.models import resnet18

from benchmarks.data.root import DataRoot
from benchmarks.tasks.compute import features
from pretrain.common.errors import InputError, RunError
from transfer.checkpoints.backbone import backbone_of
from transfer.checkpoints.reading.read import load_checkpoint


def toy_root(folder):
    """Two classes with one image per split."""
    rng, classes = np.random.default_rng(0), ["a", "b"]
    for split in ("train", "val"):
        for name in classes:
            (folder / "imagenet" / split / name).mkdir(parents=True)
            image = Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8))
            image.save(folder / "imagenet" / split / name / "1.png")
    section = {"classes": classes, "counts": {"train": 2, "val": 2}, "fingerprint": "f" * 64}
    about = {"name": "toy", "synthetic": True, "description": "", "config": {}}
    return DataRoot(path=folder, sections={"imagenet": section}, **about)


def random_network(folder):
    torch.manual_seed(0)
    model = resnet18(weights=None)
    torch.save(model.state_dict(), folder / "x.pth")
    return model, backbone_of(load_checkpoint(folder / "x.pth"))


def test_features_take_their_room_first_and_a_full_disk_leaves_none(tmp_path, monkeypatch):
    """Written to mapped memory, a file with holes kills the process when the disk is full."""
    target, images = tmp_path / "train.npy", [torch.ones(2, 3, 1, 1) for _ in (0, 1)]
    monkeypatch.setattr(features, "best_device", lambda: torch.device("cpu"))
    model = torch.nn.Flatten()

    def full(file, offset, size):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.posix_fallocate", full)
    with pytest.raises(OSError, match="No space left on device"):
        features.extract(model, images, 4, target)
    assert list(tmp_path.iterdir()) == []
    monkeypatch.undo()
    features.extract(model, images, 4, target)
    assert (np.load(target) == 1).all() and np.load(target).shape == (4, 3)
    assert target.stat().st_blocks * 512 >= target.stat().st_size


def test_features_are_computed_in_fp32_whatever_the_processor_is_fast_at(tmp_path, monkeypatch):
    monkeypatch.setenv("RESULTS_DIR", str(tmp_path / "results"))
    root = toy_root(tmp_path)
    model, backbone = random_network(tmp_path)
    train = features.features(backbone, root, "smoke")["train"]
    found = train.x
    assert train.y.tolist() == [0, 1] and train.classes == 2
    model.fc = torch.nn.Identity()
    transform = features.eval_transform(features.profile_view("smoke"), backbone)
    images = [Image.open(path).convert("RGB") for path in sorted(tmp_path.glob("imagenet/train/*/*.png"))]
    with torch.no_grad():
        exact = model.eval().double()(torch.stack([transform(image) for image in images]).double()).numpy()
    scale = np.abs(exact).max()
    assert found.dtype == np.float32 and np.abs(found - exact).max() < 1e-5 * scale  # bf16 is off by 1e-3 and more


def test_features_are_extracted_once_for_each_data_and_part(tmp_path, monkeypatch):
    monkeypatch.setenv("RESULTS_DIR", str(tmp_path / "results"))
    toy_root(tmp_path)
    _, backbone = random_network(tmp_path)
    images = sorted(tmp_path.glob("imagenet/*/*/*.png"))
    first = features.features_of(backbone, images, "d" * 64, "all", "smoke")
    backward = features.features_of(backbone, images[::-1], "e" * 64, "all", "smoke")
    np.testing.assert_allclose(first, backward[::-1], rtol=1e-5, atol=1e-6)  # in the order of the images
    monkeypatch.setattr(features, "build_backbone", lambda backbone: pytest.fail("extracted again"))
    assert (features.features_of(backbone, images, "d" * 64, "all", "smoke") == first).all()
    monkeypatch.undo()
    monkeypatch.setenv("RESULTS_DIR", str(tmp_path / "results"))
    features.features_of(backbone, images[:1], "d" * 64, "some", "smoke")
    found = sorted(
        path.relative_to(tmp_path / "results" / "features") for path in tmp_path.glob("results/features/*/*.npy")
    )
    assert [path.name for path in found] == ["all.npy", "some.npy", "all.npy"]
    assert all(str(path.parent).endswith("-48-48-fp32") for path in found)


def test_a_split_that_is_not_as_prepared_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("RESULTS_DIR", str(tmp_path / "results"))
    root = toy_root(tmp_path)
    (tmp_path / "imagenet" / "train" / "a" / "2.png").write_bytes(b"")
    _, backbone = random_network(tmp_path)
    with pytest.raises(InputError, match=r"train is not what was prepared \(3 images, not 2\)"):
        features.features(backbone, root, "smoke")
    assert not list((tmp_path / "results").rglob("*.npy"))
    for path in (tmp_path / "imagenet" / "train" / "a").iterdir():
        path.unlink()
    with pytest.raises(InputError, match=r"train is not what was prepared \(a class has no image\)"):
        features.features(backbone, root, "smoke")


@pytest.mark.parametrize("order", ["RGB", "BGR"])
def test_features_of_bytes_are_those_of_normalised_images_bit_for_bit(tmp_path, monkeypatch, order):
    """Also with a last batch that is smaller, and read by other processes."""
    monkeypatch.setenv("RESULTS_DIR", str(tmp_path / "results"))
    monkeypatch.setattr(features, "BATCH", 4)
    rng, images = np.random.default_rng(0), []
    for number in range(10):
        images.append(tmp_path / f"{number}.png")
        Image.fromarray(rng.integers(0, 256, (50 + number, 60, 3), dtype=np.uint8)).save(images[-1])
    _, backbone = random_network(tmp_path)
    backbone = dataclasses.replace(
        backbone, input=dataclasses.replace(backbone.input, order=order, std=(0.3, 0.2, 0.1))
    )
    one_by_one = features.Images(images, features.eval_transform(features.profile_view("smoke"), backbone))
    whole = [torch.stack([one_by_one[row] for row in range(begun, min(begun + 4, 10))]) for begun in (0, 4, 8)]
    features.extract(features.build_backbone(backbone), whole, 10, tmp_path / "expected.npy")
    expected = np.load(tmp_path / "expected.npy")
    for workers in (0, 2):
        found = features.features_of(backbone, images, "d" * 64, f"by{workers}", "smoke", workers=workers)
        assert (found == expected).all() and found.shape == (10, 512)


@pytest.mark.parametrize("workers", [0, 1])
def test_an_image_that_cannot_be_read_is_one_line_from_every_process(tmp_path, monkeypatch, workers):
    monkeypatch.setenv("RESULTS_DIR", str(tmp_path / "results"))
    root = toy_root(tmp_path)
    _, backbone = random_network(tmp_path)
    (root.folder("imagenet") / "val" / "b" / "1.png").write_bytes(b"no image")
    with pytest.raises(InputError, match=r"^cannot read image .*/val/b/1\.png") as caught:
        features.features(backbone, root, "smoke", workers=workers)
    assert "\n" not in str(caught.value) and "Traceback" not in str(caught.value)
    assert [path.name for path in tmp_path.rglob("*.npy")] == ["train.npy"]


def test_features_that_are_not_finite_end_the_extraction(tmp_path):
    batches = iter([torch.ones(2, 3, 1, 1), torch.full((2, 3, 1, 1), float("nan")), None])
    with pytest.raises(RunError, match="features are not finite"):
        features.extract(torch.nn.Flatten(), batches, 6, tmp_path / "x.npy")
    assert not list(tmp_path.iterdir())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("workers", [0, 2])
def test_a_gpu_one_batch_ahead_writes_every_image_in_its_place(tmp_path, monkeypatch, workers):
    monkeypatch.setenv("RESULTS_DIR", str(tmp_path / "results"))
    rng, images = np.random.default_rng(0), []
    for number in range(150):
        images.append(tmp_path / f"{number}.png")
        Image.fromarray(rng.integers(0, 256, (60, 60, 3), dtype=np.uint8)).save(images[-1])
    _, backbone = random_network(tmp_path)
    found = np.array(features.features_of(backbone, images, "d" * 64, "gpu", "smoke", workers=workers))
    monkeypatch.setattr(features, "best_device", lambda: torch.device("cpu"))
    expected = features.features_of(backbone, images, "d" * 64, "cpu", "smoke")
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("damage", [lambda content: content[:200], lambda content: b"", lambda content: b"x" * 300])
def test_features_of_a_broken_copy_are_named(tmp_path, damage):
    path = tmp_path / "train.npy"
    np.save(path, np.arange(600.0).reshape(20, 30))
    assert (features.mapped(path)[3] == np.arange(90, 120)).all()
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(InputError, match=r"train\.npy is damaged \(.*\): remove it"):
        features.mapped(path)
