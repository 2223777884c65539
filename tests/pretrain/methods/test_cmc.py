"""CMC's split into luminance and chrominance, and its two encoders."""

import dataclasses

import numpy as np
import pytest
import torch
import torchvision
from skimage import color
from torch import nn

from pretrain import train
from pretrain.augment.views import normalize
from pretrain.common.errors import InputError
from pretrain.methods.cmc import CMCConfig
from pretrain.methods.cmc_encoders import TwoEncoders, converted, split, to_lab, to_ydbdr
from transfer.checkpoints.convert import convert


@pytest.fixture
def rgb():
    x = torch.rand(2, 3, 9, 7, generator=torch.Generator().manual_seed(0))
    x[0, :, 0] = torch.tensor([0.0, 1.0, 0.02]).view(3, 1)
    x[1, :, 0] = 0.5
    return x


@pytest.mark.parametrize(
    ("ours", "theirs", "close"), [(to_lab, color.rgb2lab, 0.01), (to_ydbdr, color.rgb2ydbdr, 1e-5)]
)
def test_colour_spaces_are_scikit_images(ours, theirs, close, rgb):
    truth = theirs(rgb.permute(0, 2, 3, 1).double().numpy())
    assert np.abs(ours(rgb).permute(0, 2, 3, 1).numpy() - truth).max() < close


@pytest.mark.parametrize(("space", "mean", "std"), [
    ("lab", ((0 + 100) / 2, (-86.183 + 98.233) / 2, (-107.857 + 94.478) / 2),
     ((100 - 0) / 2, (86.183 + 98.233) / 2, (107.857 + 94.478) / 2)),  # HobbitLong/CMC train_CMC.py
    ("ydbdr", (0.457, -0.082, -0.052), (0.500, 1.331, 1.333)),  # PyContrast pycontrast/datasets/util.py
])  # fmt: skip
def test_the_split_undoes_our_normalisation_and_takes_the_sources(space, mean, std, rgb):
    values = (to_lab if space == "lab" else to_ydbdr)(rgb)
    truth = (values - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
    luminance, chrominance = split(converted(normalize(rgb), space))
    assert luminance.shape[1] == 1 and chrominance.shape[1] == 2
    torch.testing.assert_close(torch.cat((luminance, chrominance), 1), truth, rtol=0, atol=2e-4)


@pytest.mark.parametrize("architecture", ["resnet18", "resnet50"])
def test_two_encoders_of_half_the_width_share_out_the_channels(architecture, rgb):
    whole = torchvision.models.get_model(architecture, weights=None, zero_init_residual=True)
    whole.fc = nn.Identity()
    both = TwoEncoders(whole, "lab")
    for channels, encoder in ((1, both.encoder1), (2, both.encoder2)):
        halves = encoder.state_dict()
        assert halves["conv1.weight"].shape == (64, channels, 7, 7)
        # The stem has 64 channels whatever the width: pycontrast/networks/resnet.py, max(64 * width, 64).
        assert halves["bn1.weight"].shape == (64,)
        assert halves["layer1.0.downsample.0.weight"].shape[:2] == (32 * (4 if architecture == "resnet50" else 1), 64)
        for name, tensor in whole.state_dict().items():
            if name.startswith("layer") and tensor.ndim:
                behind_stem = name in ("layer1.0.conv1.weight", "layer1.0.downsample.0.weight")
                inputs = [size if behind_stem else size // 2 for size in tensor.shape[1:2]]
                wanted = (tensor.shape[0] // 2, *inputs, *tensor.shape[2:])
                assert tuple(halves[name].shape) == wanted, name
    last = "bn3" if architecture == "resnet50" else "bn2"
    assert not getattr(both.encoder1.layer2[1], last).weight.any() and both.encoder1.layer2[1].bn1.weight.all()
    both.eval()
    x = normalize(torch.rand(2, 3, 32, 32))
    features = both(x)
    assert features.shape == whole.eval()(x).shape
    # Two greys differ in luminance alone, which the second half does not see.
    light, dark = (both(normalize(torch.full((1, 3, 32, 32), value))).chunk(2, 1) for value in (0.6, 0.3))
    torch.testing.assert_close(light[1], dark[1], rtol=0, atol=1e-3)
    assert (light[0] - dark[0]).abs().max() > 1e-2


def test_conversion_refuses_cmc_in_one_line_that_says_why(flat_folder, results, tiny):
    config = dataclasses.replace(tiny, method=CMCConfig(dim=16, negatives=8), steps=1)
    path = train.run("x", config, flat_folder)
    with pytest.raises(InputError, match=r"CMC.*two ResNets of half the width.*cannot become") as caught:
        convert(path)
    assert "\n" not in str(caught.value)
