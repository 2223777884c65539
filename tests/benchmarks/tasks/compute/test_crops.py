"""Random crops: their distribution, what they depend on, and the cached features of them."""

import dataclasses

import numpy as np
import pytest
import torch
from torchvision.transforms import v2

from benchmarks.tasks.compute import crops
from benchmarks.tasks.compute.crops import CachedCrops, Crops, OnlineCrops, Training, extract_views, shard_files
from benchmarks.tasks.compute.features import labelled_images
from benchmarks.tasks.compute.frozen import Frozen
from pretrain.common.errors import InputError, RunError
from pretrain.data import decode
from tests.benchmarks.contexts import tiny_root
from tests.benchmarks.tasks.small import checkpoint

CPU = torch.device("cpu")
WIDE, NARROW = (0.08, 1.0), (0.2, 1.0)


@pytest.fixture
def training(tmp_path, monkeypatch):
    monkeypatch.setenv("RESULTS_DIR", str(tmp_path / "results"))
    paths, labels = labelled_images(tiny_root(tmp_path / "toy"), "train")
    return Training(paths=paths, labels=labels, size=32, seed=0, chunk=16, workers=0)


@pytest.fixture
def frozen(tmp_path, training):
    return Frozen(checkpoint(tmp_path).stored.load(), CPU, "fp32")


def test_an_epoch_has_every_image_once_in_an_order_of_its_own(training):
    first, second = (np.concatenate(training.rows(epoch)) for epoch in (0, 1))
    assert sorted(first) == sorted(second) == list(range(72)) and (first != second).any()
    assert [len(rows) for rows in training.rows(0)] == [16, 16, 16, 16, 8] and training.chunks() == 5
    assert (np.concatenate(dataclasses.replace(training, seed=1).rows(0)) != first).any()


def test_a_crop_does_not_depend_on_the_other_ranges_but_on_seed_epoch_and_image(training):
    def crop(seed=0, epoch=0, image=3, scales=(WIDE,)):
        return Crops(dataclasses.replace(training, seed=seed))[epoch, image, scales]

    both = crop(scales=(NARROW, WIDE))
    assert torch.equal(both[1], crop()[0]) and torch.equal(both[0], crop(scales=(NARROW,))[0])
    for other in (crop(seed=1), crop(epoch=1), crop(image=4)):
        assert not torch.equal(other[0], crop()[0])


def test_crops_are_those_of_torchvision_in_distribution(training):
    """Means over many crops of an image with a gradient: position, area and flip show in them."""
    path = training.paths[0]
    image = decode(path).resize((64, 48))
    x, y = np.meshgrid(np.arange(64), np.arange(48))
    pixels = np.stack([4 * x, 5 * y, 0 * x], 2).astype(np.uint8)
    image.frombytes(pixels.tobytes())
    ours = Crops(training)
    found = torch.stack([ours._crop(image, epoch, 0, WIDE) for epoch in range(1500)]).float()
    torch.manual_seed(0)
    theirs = v2.Compose([v2.RandomResizedCrop(32, scale=WIDE, antialias=True), v2.RandomHorizontalFlip()])
    tensor = torch.from_numpy(pixels).permute(2, 0, 1)
    expected = torch.stack([theirs(tensor) for _ in range(1500)]).float()
    for channel in (0, 1):
        one, other = found[:, channel], expected[:, channel]
        # Means within five standard errors; the slope from left to right changes sign by flips.
        error = 5 * (one.mean((1, 2)).std() + other.mean((1, 2)).std()) / 1500**0.5
        assert abs(one.mean() - other.mean()) < error
        assert one.std((1, 2)).mean() == pytest.approx(other.std((1, 2)).mean().item(), rel=0.05)
    flipped = [(one[0, :, -1].mean() < one[0, :, 0].mean()).float().mean().item() for one in (found, expected)]
    share = np.mean([float(one[0, 16, -1] < one[0, 16, 0]) for one in found])
    assert 0.45 < share < 0.55 and len(flipped) == 2


def test_cached_views_are_the_crops_of_the_first_epochs(training, frozen, tmp_path):
    folders = {scale: tmp_path / name for scale, name in ((WIDE, "wide"), (NARROW, "narrow"))}
    extract_views(frozen, training, folders, 2)
    cached, online = CachedCrops(folders, training, 2, CPU), OnlineCrops(frozen, training)
    assert np.load(shard_files(folders[WIDE], 0, 72)[0]).dtype == np.float16
    for epoch in (0, 1):
        pairs = list(zip(cached.epoch(epoch, 0, [WIDE, NARROW]), online.epoch(epoch, 0, [WIDE, NARROW]), strict=True))
        for one, other in pairs:
            assert (one.rows == other.rows).all() and torch.equal(one.labels, other.labels)
            for scale in folders:
                torch.testing.assert_close(one.features[scale], other.features[scale], rtol=2e-3, atol=1e-3)
    third = next(cached.epoch(2, 0, [WIDE]))  # epoch 2 reads view 0 in an order of its own
    view = np.load(shard_files(folders[WIDE], 0, 72)[0])
    assert (third.features[WIDE].numpy() == view[third.rows].astype(np.float32)).all()


def test_missing_shards_alone_are_computed_and_large_features_stay_in_fp32(training, frozen, tmp_path, monkeypatch):
    monkeypatch.setattr(crops, "SHARD", 32)
    folders = {WIDE: tmp_path / "wide"}
    extract_views(frozen, training, folders, 2)
    files = [path for view in (0, 1) for path in shard_files(folders[WIDE], view, 72)]
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in files}
    files[1].unlink()
    extract_views(frozen, training, folders, 2)
    assert files[1].read_bytes() == before[files[1]][0]
    assert all(path.stat().st_mtime_ns == before[path][1] for path in files if path != files[1])
    monkeypatch.setattr(crops, "HALF", 1e-3)
    files[0].unlink()
    extract_views(frozen, training, folders, 2)
    assert np.load(files[0]).dtype == np.float32


def test_small_features_are_not_rounded_to_nothing(training, frozen, tmp_path, monkeypatch):
    """Below 6e-8 float16 has only 0."""
    features = frozen.features
    for scale, kept in ((1.0, np.float16), (1e-3, np.float32), (1e-9, np.float32)):
        monkeypatch.setattr(frozen, "features", lambda images, scale=scale: features(images) * scale)
        folder = tmp_path / f"{scale}"
        extract_views(frozen, training, {WIDE: folder}, 1)
        (path,) = shard_files(folder, 0, len(training.paths))
        found = np.load(path)
        keys = [[(0, row, (WIDE,)) for row in range(16)]]
        ((expected,),) = crops._forward(frozen, training, keys)
        np.testing.assert_allclose(found[:16], expected.numpy(), rtol=1e-3, atol=scale * 1e-4)
        assert found.dtype == kept


def test_an_unreadable_image_is_named_in_one_line(training, frozen):
    training.paths[5].write_bytes(b"no image")
    with pytest.raises(InputError, match=r"cannot read image .*class0/05\.png"):
        list(OnlineCrops(frozen, training).epoch(0, 0, [WIDE]))
    workers = dataclasses.replace(training, workers=1)
    with pytest.raises(InputError, match=r"^cannot read image .*class0/05\.png"):
        list(OnlineCrops(frozen, workers).epoch(0, 0, [WIDE]))


def test_a_changed_backbone_is_found(frozen):
    assert frozen.require_unchanged() == "100 tensors have the checkpoint's sha256 after training"
    frozen.model.layer1[0].bn1.running_mean[0] += 1e-6
    with pytest.raises(RunError, match="the frozen backbone has changed"):
        frozen.require_unchanged()


def test_features_that_are_not_finite_end_the_epoch_with_the_reason(training, frozen):
    frozen.model.bn1.running_mean[0] = float("nan")
    chunks = OnlineCrops(frozen, training).epoch(0, 0, [WIDE])
    for _ in range(training.chunks()):
        next(chunks)
    with pytest.raises(RunError, match="features are not finite in fp32: the checkpoint's weights or statistics"):
        next(chunks)
    with pytest.raises(RunError, match="features are not finite"):
        extract_views(frozen, training, {WIDE: training.paths[0].parent / "views"}, 1)
