"""Distortions whose factors are known, and values of the pixels against closed forms."""

import numpy as np
import pytest
from PIL import Image

from benchmarks.tasks.compute import image_factors
from benchmarks.tasks.compute.image_factors import computed, distorted, draw


def test_values_of_the_pixels():
    grey = computed(Image.new("RGB", (32, 32), (90, 90, 90)))
    assert grey == {"brightness": [90], "contrast": [0], "colour": [128, 128], "sharpness": [0]}
    halves = np.zeros((32, 32, 3), np.uint8)
    halves[:, 16:] = 200
    found = computed(Image.fromarray(halves))
    assert found["brightness"] == [100] and found["contrast"] == [100]
    # The Laplacian is ±200 in the two columns at the edge and 0 elsewhere.
    assert found["sharpness"][0] == pytest.approx(np.log(200**2 / 16 + 1))
    red = computed(Image.new("RGB", (8, 8), (255, 0, 0)))
    assert red["brightness"] == [76] and red["colour"] == pytest.approx([85, 255], abs=1)  # ITU-R BT.601


def test_the_crop_and_the_quality_are_those_of_the_factors():
    """On a picture of two slopes the mean of a crop says where its middle is, and their range how large it is."""
    x, y = np.meshgrid(np.arange(400), np.arange(300))
    slopes = Image.fromarray(np.stack([x * 255 / 400, y * 255 / 300, np.zeros_like(x)], 2).round().astype(np.uint8))
    sizes, errors = [], []
    for index in range(40):
        seen, factors = distorted(slopes, 64, 3, 0, index)
        assert seen.shape == (64, 64, 3) and seen.dtype == np.uint8
        across, down = seen[..., 0].astype(float), seen[..., 1].astype(float)
        assert across.mean() / 255 == pytest.approx(factors["position"][0], abs=0.02)
        assert down.mean() / 255 == pytest.approx(factors["position"][1], abs=0.02)
        sizes.append((factors["crop size"][0], np.ptp(across.mean(0))))
        errors.append((factors["JPEG quality"][0], (across - across.mean(0)).std()))  # without noise a column is plain
    assert 0.5 <= min(sizes)[0] < 0.6 and 0.9 < max(sizes)[0] <= 1
    assert np.corrcoef(np.array(sizes).T)[0, 1] > 0.98
    errors.sort()
    coarse, fine = ([error for _, error in part] for part in (errors[:10], errors[-10:]))
    assert np.mean(coarse) > 1.5 * np.mean(fine)


def test_the_seed_the_split_and_the_image_draw_and_nothing_else():
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 255, (50, 60, 3), np.uint8))
    first = distorted(picture, 16, 0, 0, 5)
    again, factors = distorted(picture, 16, 0, 0, 5)
    assert (first[0] == again).all() and first[1] == factors
    for other in ((1, 0, 5), (0, 1, 5), (0, 0, 6)):
        assert distorted(picture, 16, *other)[1]["position"] != factors["position"]
    chosen = draw(100, 30, 0, 0)
    assert len(set(chosen)) == 30 and (np.diff(chosen) > 0).all() and set(draw(20, 30, 0, 1)) == set(range(20))
    assert set(draw(100, 30, 1, 0)) != set(chosen)


def test_features_are_extracted_once(tmp_path, monkeypatch):
    monkeypatch.setenv("RESULTS_DIR", str(tmp_path))
    calls = []

    def extract(model, batches, count, target):
        calls.append(count)
        images = np.concatenate([batch.numpy() for batch in batches])
        np.save(target.with_suffix(""), images.reshape(len(images), -1)[:, :7].astype(np.float32))
        target.with_suffix("").with_suffix(".npy").exists()

    paths = []
    for number in range(70):  # more than a batch
        pixels = np.random.default_rng(number).integers(0, 255, (20, 20, 3), np.uint8)
        paths.append(tmp_path / f"{number:02d}.png")
        Image.fromarray(pixels).save(paths[-1])

    class Pixels:
        def identity(self):
            return {}

    class Network:
        sha256, input = "a" * 64, Pixels()

    monkeypatch.setattr(image_factors, "extract", extract)
    monkeypatch.setattr(image_factors, "build_backbone", lambda backbone: None)
    monkeypatch.setattr(image_factors, "FromBytes", lambda model, pixels: None)
    x, found = image_factors.image_features(Network(), paths, "data", 0, 0, 66, 16)
    again, same = image_factors.image_features(Network(), paths, "data", 0, 0, 66, 16)
    assert calls == [66] and x.shape == (66, 7) and (x == again).all()
    assert {name: values.shape for name, values in found.items()}["colour"] == (66, 2)
    assert all((found[name] == same[name]).all() for name in found)
