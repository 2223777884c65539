"""One list of image suffixes: what pretraining, preparing and detectors find and read is the same."""

import numpy as np
import pytest
import torchvision
from detectron2.data.detection_utils import read_image
from PIL import Image

from benchmarks.data.checks import Picture, images_under, look_at
from pretrain import data
from pretrain.common.errors import InputError


def test_the_suffixes_are_pillows_and_hold_torchvisions():
    assert set(Image.registered_extensions()) >= data.IMAGE_SUFFIXES >= set(torchvision.datasets.folder.IMG_EXTENSIONS)


@pytest.mark.parametrize("suffix", sorted(data.IMAGE_SUFFIXES))
def test_every_suffix_is_found_and_decoded_alike_everywhere(suffix, tmp_path):
    ramp = np.linspace(0, 255, 48, dtype=np.uint8)
    Image.fromarray(np.stack([np.tile(ramp, (32, 1))] * 3, 2)).save(tmp_path / f"a{suffix.upper()}")
    (path,) = images_under(tmp_path)
    assert data.list_images(tmp_path).paths == (path.name,) and look_at([path]) == {path: Picture(size=(48, 32))}
    pixels = np.asarray(data.decode(path))
    assert np.array_equal(pixels, read_image(str(path), "RGB"))  # what a detector reads
    assert pixels.shape == (32, 48, 3) and np.abs(pixels.astype(int) - ramp[:, None]).mean() < 4
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(InputError, match="cannot read image"):
        data.decode(path)
    with pytest.raises(InputError, match="unreadable image"):
        look_at([path])


@pytest.mark.parametrize("suffix", [".gif", ".tif", ".webp", ".avif", ".png"])
def test_of_several_frames_the_first_counts(suffix, tmp_path):
    red, blue = (Image.new("RGB", (48, 32), colour) for colour in ((250, 10, 10), (10, 10, 250)))
    path = tmp_path / f"moving{suffix}"
    red.save(path, save_all=True, append_images=[blue], lossless=True)
    with Image.open(path) as image:
        assert image.n_frames == 2
    for pixels in (np.asarray(data.decode(path)), read_image(str(path), "RGB")):
        assert pixels.shape == (32, 48, 3) and np.abs(pixels.astype(int) - (250, 10, 10)).max() < 6
    assert look_at([path]) == {path: Picture(size=(48, 32))}
