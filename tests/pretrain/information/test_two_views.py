"""Two augmented views of each image, as a network takes them."""

import numpy as np
import pytest
import torch
from PIL import Image

from pretrain.augment.views import ViewsConfig, normalize
from pretrain.common.errors import InputError
from pretrain.common.pixels import PixelInput
from pretrain.common.ranges import ranges, require_ranges
from pretrain.information.two_views import (
    InformationConfig,
    draw_images,
    network_views,
    normalise_as,
    two_view_crops,
)

BGR = PixelInput(mean=(0.5, 0.4, 0.3), std=(1.0, 0.5, 0.25), order="BGR")


def picture(seed, size=32):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 255, (size, size, 3), dtype=np.uint8))


def test_pixels_arrive_as_the_checkpoint_was_trained():
    x = torch.rand(2, 3, 4, 4)
    wanted = (x.flip(1) - torch.tensor(BGR.mean).view(3, 1, 1)) / torch.tensor(BGR.std).view(3, 1, 1)
    torch.testing.assert_close(normalise_as(normalize(x), BGR), wanted, atol=1e-5, rtol=1e-5)
    assert torch.equal(normalise_as(normalize(x), PixelInput()), normalize(x))


def test_features_are_those_of_two_views_of_each_image():
    """With whole-image crops and no colours the two views of an image are its resized pixels."""
    views = ViewsConfig(crop_scale=(1.0, 1.0), flip=0.0, jitter=0.0, grayscale=0.0, blur=0.0)
    crops = torch.stack([two_view_crops(picture(seed), 0, seed, views, 8) for seed in range(5)])
    assert crops.shape == (5, 2, 3, 8, 8) and crops.dtype == torch.uint8
    h = torch.stack(network_views(crops, views, PixelInput(), torch.Generator()).flatten(1).chunk(2), 1)
    assert h.shape == (5, 2, 192) and torch.equal(h[:, 0], h[:, 1]) and len(h[:, 0].unique(dim=0)) == 5


def test_crops_depend_on_seed_and_index_alone():
    views, image = ViewsConfig(), picture(0)
    first = two_view_crops(image, 0, 3, views, 8)
    assert torch.equal(first, two_view_crops(image, 0, 3, views, 8)) and not torch.equal(first[0], first[1])
    for seed, index in ((1, 3), (0, 4)):
        assert not torch.equal(first, two_view_crops(image, seed, index, views, 8))


def test_the_images_drawn():
    drawn = draw_images(50, InformationConfig(images=20))
    assert len(drawn) == len(set(drawn)) == 20 and set(drawn) <= set(range(50))
    assert sorted(draw_images(5, InformationConfig())) == list(range(5))
    assert drawn != draw_images(50, InformationConfig(images=20, seed=1))


def test_settings_out_of_range():
    assert set(ranges(InformationConfig)) == {"images", "image_size", "dim", "noise", "resamples", "seed"}
    for changes, said in (({"noise": 0.0}, "--noise 0.0"), ({"images": 1}, "--images 1"), ({"dim": 1}, "--dim 1")):
        with pytest.raises(InputError, match=said):
            require_ranges(InformationConfig(**changes))
