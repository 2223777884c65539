"""The online kNN probe."""

import dataclasses

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from pretrain import train
from pretrain.common.errors import InputError
from pretrain.data import list_images
from pretrain.runtime.probe import knn_top1, probe, split


class Colour(nn.Module):
    """Mean colour as features, with a BatchNorm that must not be touched."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm2d(3)

    def forward(self, x):
        return self.norm(x).mean((2, 3))


@pytest.fixture
def colours(tmp_path):
    """Two classes of 20 images, red and blue with noise."""
    rng = np.random.default_rng(0)
    for channel, name in ((0, "red"), (2, "blue")):
        (tmp_path / "colours" / name).mkdir(parents=True)
        for i in range(20):
            pixels = rng.integers(0, 60, (24, 20, 3), dtype=np.uint8)
            pixels[..., channel] += 150
            Image.fromarray(pixels).save(tmp_path / "colours" / name / f"{i}.png")
    return tmp_path / "colours"


def test_classes_that_are_told_apart_score_one_and_nothing_is_changed(colours):
    backbone = Colour().train()
    before = {name: value.clone() for name, value in backbone.state_dict().items()}
    seen = torch.get_rng_state()
    (colours / "red" / "0.png").write_bytes(b"not an image")
    assert probe(backbone, list_images(colours), 16, "torch") == 1.0
    assert backbone.training and torch.equal(torch.get_rng_state(), seen)
    assert all(torch.equal(before[name], value) for name, value in backbone.state_dict().items())


def test_a_tenth_of_the_images_asks_and_the_rest_votes(colours):
    votes, asking = split(list_images(colours))
    assert len(asking) == 4 and sorted(votes + asking) == list(range(40))


def test_the_split_depends_on_the_names_alone(colours):
    first = split(list_images(colours))
    (colours / "red" / "0.png").write_bytes(b"changed")
    assert split(list_images(colours)) == first


def test_the_vote_against_a_loop():
    torch.manual_seed(0)
    votes, asking = torch.randn(60, 5), torch.randn(30, 5)
    labels, truth = torch.randint(0, 3, (60,)), torch.randint(0, 3, (30,))
    right = 0
    for row, wanted in zip(asking, truth, strict=True):
        cosine = torch.stack([torch.cosine_similarity(row, vote, dim=0) for vote in votes])
        score = [0.0, 0.0, 0.0]
        for i in cosine.argsort(descending=True)[:20]:
            score[labels[i]] += float(np.exp(cosine[i] / 0.1))
        right += int(np.argmax(score)) == int(wanted)
    assert knn_top1(votes, labels, asking, truth) == pytest.approx(right / 30)


def test_a_flat_folder_has_no_labels(flat_folder):
    with pytest.raises(InputError, match="flat"):
        probe(Colour(), list_images(flat_folder), 16, "torch")


def test_a_run_that_could_not_be_probed_is_not_begun(flat_folder, results, tiny):
    with pytest.raises(InputError, match="leave out --probe-every"):
        train.run("x", dataclasses.replace(tiny, probe_every=1), flat_folder)
    assert not results.exists()
