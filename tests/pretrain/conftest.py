"""Small image folders and settings for the pretraining tests."""

import math

import mpmath
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from pretrain.augment.views import ViewsConfig
from pretrain.config import PretrainConfig
from pretrain.methods.superinfo import SuperInfoConfig


def write_images(folder, count, seed=0, sizes=((40, 32), (33, 64))):
    """``count`` smooth random colour JPEGs in ``folder``, of alternating sizes."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    for i in range(count):
        blocks = Image.fromarray(rng.integers(0, 255, (4, 4, 3), dtype=np.uint8))
        blocks.resize(sizes[i % len(sizes)], Image.Resampling.BICUBIC).save(folder / f"{i:03d}.jpg")


def mean_cosine(d, kappa):
    """A_d(κ) = I_(d/2)(κ) / I_(d/2−1)(κ): the expectation of μ·z for z ~ vMF(μ, κ), and the length of the mean of z."""
    return float(mpmath.besseli(d / 2, kappa) / mpmath.besseli(d / 2 - 1, kappa))


def directions(n, d, count, seed=0, dtype=torch.float64):
    """``count`` tensors (n, d) of random unit vectors."""
    generator = torch.Generator().manual_seed(seed)
    return [F.normalize(torch.randn(n, d, generator=generator, dtype=dtype), dim=1) for _ in range(count)]


def naive_nt_xent(z1, z2, keys1, keys2, temperature):
    """Eq. 1 of SimCLR, one anchor and one candidate at a time."""
    anchors, keys = [*z1, *z2], [*keys1, *keys2]
    n, total = len(z1), 0.0
    for i, anchor in enumerate(anchors):
        positive = (i + n) % (2 * n)
        scores = [float(anchor @ key) / temperature for k, key in enumerate(keys) if k != i]
        total += math.log(sum(math.exp(s) for s in scores)) - float(anchor @ keys[positive]) / temperature
    return total / (2 * n)


@pytest.fixture
def class_folders(tmp_path):
    for seed, name in enumerate(("cat", "dog")):
        write_images(tmp_path / "images" / name, 12, seed)
    return tmp_path / "images"


@pytest.fixture
def flat_folder(tmp_path):
    write_images(tmp_path / "flat", 24)
    return tmp_path / "flat"


@pytest.fixture
def one_thread():
    """A forked process must not use the threads of this one, and equality asks for the same number."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def results(tmp_path, monkeypatch):
    monkeypatch.setenv("RESULTS_DIR", str(tmp_path / "results"))
    return tmp_path / "results"


@pytest.fixture
def tiny():
    """A SuperInfo run of ResNet-18 that takes a second or two."""
    return PretrainConfig(
        method=SuperInfoConfig(dim=16, hidden_dim=32, kappa_b=5.0, lambda_a=0.1, lambda_b=0.1),
        backbone="resnet18",
        image_size=32,
        batch_size=8,
        steps=3,
        optimizer="adamw",
        learning_rate=1e-3,
        lr_scaling="none",
        weight_decay=0.01,
        views=ViewsConfig(blur=0.0),
        workers=0,
    )
