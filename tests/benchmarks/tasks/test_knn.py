"""k-nearest-neighbour classification of features."""

import numpy as np
import pytest
import torch

from benchmarks.tasks import Setup, knn
from pretrain.common import knn as vote
from pretrain.common.knn import KnnConfig, knn_predict


@pytest.mark.parametrize(("profile", "neighbours", "crop"), [("smoke", 20, 48), ("demo", 20, 64), ("paper", 200, 224)])
def test_its_settings_are_the_vote_and_the_crop(profile, neighbours, crop):
    found = knn.settings(Setup(profile=profile, num_gpus=8, opts=("A", "1")))
    assert found.precision == "fp32" and {"resize", "crop", "k", "temperature"} == set(found.values)
    assert (found.values["k"], found.values["temperature"], found.values["crop"]) == (neighbours, 0.1, crop)
    assert found.digest == knn.settings(Setup(profile=profile)).digest


def test_knn_against_a_double_loop(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    train, test = torch.randn(40, 6, generator=generator), torch.randn(30, 6, generator=generator)
    labels = torch.randint(0, 3, (40,), generator=generator)
    config = KnnConfig(k=7, temperature=0.3)
    expected = []
    for row in test:
        cosines = [float(row @ other / row.norm() / other.norm()) for other in train]
        votes = [0.0, 0.0, 0.0]
        for i in sorted(range(40), key=lambda i: -cosines[i])[:7]:
            votes[int(labels[i])] += float(np.exp(cosines[i] / 0.3))
        expected.append(int(np.argmax(votes)))
    assert knn_predict(train, labels, test, 3, config).tolist() == expected
    monkeypatch.setattr(vote, "SIMILARITIES", 100)  # two rows at once, then one
    assert knn_predict(train, labels, test, 3, config).tolist() == expected


def test_knn_with_fewer_images_than_neighbours():
    train = torch.eye(2)
    assert knn_predict(train, torch.tensor([0, 1]), train, 2, KnnConfig(k=200)).tolist() == [0, 1]
