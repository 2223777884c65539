"""Batches, their order and what happens to unreadable images."""

import re
from contextlib import closing

import pytest
import torch
from PIL import Image

from pretrain import data, loader
from pretrain.augment.crops import Crop
from pretrain.common.errors import InputError
from tests.pretrain.conftest import write_images

CROPS = (Crop(size=16, scale=(0.2, 1.0)),) * 2


def batches(folder, *, start=0, stop=6, workers=0, seed=0, crops=CROPS, **slices):
    images = data.list_images(folder)
    dataset = loader.CropDataset(images, crops, seed=seed, crop_backend="pillow")
    sampler = loader.StepSampler(len(images), 8, seed=seed, start=start, stop=stop, **slices)
    with closing(loader.load_batches(dataset, sampler, workers=workers, pin=False)) as found:
        return list(found)


def same(left, right):
    return len(left) == len(right) and all(
        torch.equal(a, b)
        for x, y in zip(left, right, strict=True)
        for a, b in zip([*x.crops, x.index, x.label], [*y.crops, y.index, y.label], strict=True)
    )


def test_shapes_and_labels(class_folders):
    batch = batches(class_folders, stop=1, crops=(*CROPS, Crop(size=20, scale=(0.6, 1.0))))[0]
    assert [crop.shape for crop in batch.crops] == [(8, 3, 16, 16), (8, 3, 16, 16), (8, 3, 20, 20)]
    assert all(crop.dtype == torch.uint8 for crop in batch.crops) and batch.failures == []
    assert torch.equal(batch.label, torch.tensor(data.list_images(class_folders).labels)[batch.index])
    assert not torch.equal(batch.crops[0], batch.crops[1])


def test_every_image_once_an_epoch_in_an_order_of_its_own():
    first, second = (
        [i for batch in loader.StepSampler(24, 8, seed=0, start=3 * e, stop=3 * e + 3) for _, i in batch]
        for e in (0, 1)
    )
    assert sorted(first) == sorted(second) == list(range(24)) and first != second


def test_any_step_and_any_number_of_workers_give_the_same_batches(class_folders):
    whole = batches(class_folders)
    assert same(whole[4:], batches(class_folders, start=4))
    assert same(whole, batches(class_folders, workers=2))
    assert not same(whole, batches(class_folders, seed=1))


def test_the_ranks_slices_are_the_global_batch(class_folders):
    whole, *parts = batches(class_folders), *(batches(class_folders, rank=rank, world=4) for rank in range(4))
    for step, batch in enumerate(whole):
        assert all(len(part[step].index) == 2 for part in parts)
        assert torch.equal(batch.index, torch.cat([part[step].index for part in parts]))
        assert torch.equal(batch.crops[1], torch.cat([part[step].crops[1] for part in parts]))


def test_crops_of_two_epochs_differ(flat_folder):
    dataset = loader.CropDataset(data.list_images(flat_folder), CROPS[:1], seed=0, crop_backend="pillow")
    assert not torch.equal(dataset[0, 0][0][0], dataset[1, 0][0][0])


@pytest.mark.parametrize("crop_backend", ["pillow", "torch"])
def test_images_of_any_mode_and_size(tmp_path, crop_backend):
    write_images(tmp_path, 1, sizes=((700, 3),))
    Image.new("L", (1, 1), 9).save(tmp_path / "one-pixel.png")
    Image.new("RGBA", (5, 90), (1, 2, 3, 4)).save(tmp_path / "alpha.png")
    Image.new("P", (20, 20)).save(tmp_path / "palette.gif")
    Image.new("CMYK", (20, 20)).save(tmp_path / "UPPER.JPG", format="JPEG")
    images = data.list_images(tmp_path)
    dataset = loader.CropDataset(images, CROPS, seed=0, crop_backend=crop_backend)
    assert len(images) == 5 and all(dataset[0, i][0][1].shape == (3, 16, 16) for i in range(5))


@pytest.fixture
def hundred(tmp_path):
    write_images(tmp_path / "hundred", 100)
    return tmp_path / "hundred"


def damage(folder, *numbers):
    for number in numbers:
        path = folder / f"{number:03d}.jpg"
        path.write_bytes(path.read_bytes()[:300])


@pytest.mark.parametrize("workers", [0, 1])
def test_the_next_readable_image_takes_the_place_of_one_that_is_not(hundred, workers):
    before, step, row = batches(hundred, stop=12), 3, 2
    broken = int(before[step].index[row])
    damage(hundred, broken)
    after = batches(hundred, stop=12, workers=workers)
    for number, (old, new) in enumerate(zip(before, after, strict=True)):
        kept = [i for i in range(8) if (number, i) != (step, row)]
        assert torch.equal(old.index[kept], new.index[kept]) and torch.equal(old.crops[0][kept], new.crops[0][kept])
    assert after[step].index[row] == (broken + 1) % 100 and after[step].crops[0].shape == (8, 3, 16, 16)
    assert [index for index, _ in after[step].failures] == [broken]
    assert f"{broken:03d}.jpg" in after[step].failures[0][1] and "\n" not in after[step].failures[0][1]


def test_unreadable_images_are_named_once_counted_and_more_than_one_percent_ends_the_run(capsys):
    unreadable = loader.Unreadable(200)
    unreadable.add([(3, "cannot read image a.jpg (broken)")])
    unreadable.add([(3, "cannot read image a.jpg (broken)"), (5, "cannot read image b.jpg (broken)")])
    said = capsys.readouterr().err
    assert said.count("a.jpg") == 1 and said.count("b.jpg") == 1 and "2 of 200" in said
    resumed = loader.Unreadable(200)
    resumed.load_state_dict(unreadable.state_dict())
    with pytest.raises(InputError, match=re.escape("3 of 200 images could not be read, more than 1%: can")) as caught:
        resumed.add([(5, "known"), (9, "cannot read image c.jpg (broken)")])
    assert "\n" not in str(caught.value)


def test_a_row_of_unreadable_images_does_not_hang_or_crash_a_loader(hundred):
    damage(hundred, *range(100))
    batch = batches(hundred, stop=1, workers=1)[0]
    unreadable = loader.Unreadable(100)
    with pytest.raises(InputError, match="2 of 100"):
        unreadable.add(batch.failures)
