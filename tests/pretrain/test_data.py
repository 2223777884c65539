"""Folders, crops and their order: ``python -m pytest tests/pretrain/test_data.py``."""

import json
import os

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import RandomResizedCrop

from pretrain import data
from pretrain.errors import InputError
from tests.pretrain.conftest import write_images


def batches(folder, *, start=0, stop=6, workers=0, seed=0):
    images = data.list_images(folder)
    dataset = data.CropDataset(images, size=16, views=2, scale=(0.2, 1.0), seed=seed)
    sampler = data.StepSampler(len(images), 8, seed=seed, start=start, stop=stop)
    return list(data.load_batches(dataset, sampler, workers=workers, pin=False))


def same(left, right):
    return len(left) == len(right) and all(
        torch.equal(a, b) for x, y in zip(left, right, strict=True) for a, b in zip(x, y, strict=True)
    )


def test_class_folders_and_flat_folder(class_folders, flat_folder):
    images = data.list_images(class_folders)
    assert images.classes == ("cat", "dog") and len(images) == 24
    assert all(images.classes[n] == p.split("/")[0] for n, p in zip(images.labels, images.paths, strict=True))
    assert data.list_images(flat_folder).labels is None


def test_shapes_and_labels(class_folders):
    crops, index, label = batches(class_folders, stop=1)[0]
    assert crops.shape == (8, 2, 3, 16, 16) and crops.dtype == torch.uint8
    assert torch.equal(label, torch.tensor(data.list_images(class_folders).labels)[index])
    assert not torch.equal(crops[:, 0], crops[:, 1])


def test_every_image_once_an_epoch_in_an_order_of_its_own():
    first, second = (
        [i for batch in data.StepSampler(24, 8, seed=0, start=3 * e, stop=3 * e + 3) for _, i in batch] for e in (0, 1)
    )
    assert sorted(first) == sorted(second) == list(range(24)) and first != second


def test_any_step_and_any_number_of_workers_give_the_same_batches(class_folders):
    whole = batches(class_folders)
    assert same(whole[4:], batches(class_folders, start=4))
    assert same(whole, batches(class_folders, workers=2))
    assert not same(whole, batches(class_folders, seed=1))


def test_crops_of_two_epochs_differ(flat_folder):
    dataset = data.CropDataset(data.list_images(flat_folder), size=16, views=1, scale=(0.2, 1.0), seed=0)
    assert not torch.equal(dataset[0, 0][0], dataset[1, 0][0])


@pytest.mark.parametrize("size", [(100, 80), (300, 20)])
def test_crop_boxes_are_distributed_as_torchvisions(size):
    width, height = size
    rng = np.random.default_rng(0)
    ours = np.array([data.random_crop_box(width, height, (0.2, 1.0), rng) for _ in range(4000)])
    torch.manual_seed(0)
    blank = torch.zeros(1, height, width)
    theirs = np.array([RandomResizedCrop.get_params(blank, [0.2, 1.0], [3 / 4, 4 / 3]) for _ in range(4000)])
    top, left, h, w = theirs.T
    reference = np.stack([left, top, left + w, top + h], 1)
    assert (ours[:, :2] >= 0).all() and (ours[:, 2] <= width).all() and (ours[:, 3] <= height).all()
    np.testing.assert_allclose(ours.mean(0), reference.mean(0), atol=0.03 * max(size))
    np.testing.assert_allclose(ours.std(0), reference.std(0), atol=0.03 * max(size))


def test_images_of_any_mode_and_size(tmp_path):
    write_images(tmp_path, 1, sizes=((700, 3),))
    Image.new("L", (1, 1), 9).save(tmp_path / "one-pixel.png")
    Image.new("RGBA", (5, 90), (1, 2, 3, 4)).save(tmp_path / "alpha.png")
    Image.new("P", (20, 20)).save(tmp_path / "palette.gif")
    Image.new("CMYK", (20, 20)).save(tmp_path / "UPPER.JPG", format="JPEG")
    images = data.list_images(tmp_path)
    dataset = data.CropDataset(images, size=16, views=2, scale=(0.2, 1.0), seed=0)
    assert len(images) == 5 and all(dataset[0, i][0].shape == (2, 3, 16, 16) for i in range(5))


@pytest.mark.parametrize("workers", [0, 1])
def test_unreadable_image_is_named_in_one_line(flat_folder, workers):
    (flat_folder / "003.jpg").write_bytes((flat_folder / "004.jpg").read_bytes()[:300])
    with pytest.raises(InputError, match=r"003\.jpg") as caught:
        batches(flat_folder, workers=workers)
    assert "\n" not in str(caught.value)


def test_folders_that_cannot_be_used(tmp_path, class_folders):
    with pytest.raises(InputError, match="not a folder"):
        data.list_images(tmp_path / "absent")
    (tmp_path / "empty" / "cat").mkdir(parents=True)
    with pytest.raises(InputError, match="no images"):
        data.list_images(tmp_path / "empty")
    with pytest.raises(InputError, match="splits train, not classes"):
        write_images(tmp_path / "root" / "train" / "cat", 1)
        data.list_images(tmp_path / "root")
    write_images(class_folders, 1)
    with pytest.raises(InputError, match="both images"):
        data.list_images(class_folders)


def test_prepared_root_gives_its_name_and_fingerprint(tmp_path):
    write_images(tmp_path / "root" / "imagenet" / "train" / "cat", 2)
    train = tmp_path / "root" / "imagenet" / "train"
    before = data.describe(data.list_images(train))
    assert before["name"] == "train" and len(before["fingerprint"]) == 64
    record = {"name": "emoji-smoke", "synthetic": True, "config": {}, "imagenet": {"fingerprint": "abc"}}
    (tmp_path / "root" / "data.json").write_text(json.dumps(record))
    after = data.describe(data.list_images(train))
    assert after == {
        "name": "emoji-smoke", "size": 2, "fingerprint": "abc", "folder": "imagenet/train", "synthetic": True
    }  # fmt: skip


@pytest.mark.parametrize(
    "content", ["[1]", "{not json", '{"images": {"fingerprint": "x"}}', '{"name": "n", "images": {"fingerprint": "x"}}']
)
def test_somebody_elses_data_json_is_ignored(tmp_path, content):
    write_images(tmp_path / "images", 2)
    alone = data.describe(data.list_images(tmp_path / "images"))
    (tmp_path / "data.json").write_text(content)
    assert data.describe(data.list_images(tmp_path / "images")) == alone


def test_files_without_a_target_or_a_proper_name_are_one_line(flat_folder):
    (flat_folder / "gone.jpg").symlink_to("nowhere.jpg")
    with pytest.raises(InputError, match=r"cannot read .*gone\.jpg \(No such file or directory\)"):
        data.describe(data.list_images(flat_folder))
    (flat_folder / "gone.jpg").unlink()
    (flat_folder / "003.jpg").rename(flat_folder / os.fsdecode(b"caf\xe9.jpg"))
    with pytest.raises(InputError, match=r"caf\\udce9\.jpg' is not UTF-8"):
        data.describe(data.list_images(flat_folder))
