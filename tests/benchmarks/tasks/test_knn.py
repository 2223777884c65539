"""k-nearest-neighbour classification of features, in its published styles."""

import numpy as np
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier

from benchmarks.predictions import load_predictions
from benchmarks.records import ResultsStore
from benchmarks.tasks import TASKS, Setup, knn
from pretrain.common import knn as vote
from pretrain.common.knn import KnnConfig, knn_predict, knn_votes
from tests.benchmarks.tasks.small import executed, image_root


@pytest.mark.parametrize(
    ("profile", "neighbours", "crop"), [("smoke", 20, 48), ("demo", 20, 64), ("small", 20, 160), ("paper", 200, 224)]
)
def test_its_settings_are_the_vote_and_the_crop(profile, neighbours, crop):
    found = knn.settings(Setup(profile=profile, num_gpus=8, opts=("A", "1")))
    assert found.precision == "fp32" and {"resize", "crop", "k", "temperature"} == set(found.values)
    assert (found.values["k"], found.values["temperature"], found.values["crop"]) == (neighbours, 0.1, crop)
    assert found.digest == knn.settings(Setup(profile=profile)).digest


@pytest.mark.parametrize(("name", "interpolation"), [("knn-dino", "bicubic"), ("knn-mmselfsup", "bilinear")])
def test_the_styles_of_several_k_differ_in_the_resize(name, interpolation):
    found = TASKS[name].settings(Setup(profile="paper")).values
    assert found == {
        "k": (10, 20, 100, 200),
        "temperature": 0.07,
        "similarity": "cosine",
        "resize": 256,
        "crop": 224,
        "interpolation": interpolation,
    }
    assert TASKS[name].metrics[0].key == "top1_k20" and TASKS[name].deterministic
    assert {metric.key for metric in TASKS[name].metrics} == {f"top1_k{k}" for k in (10, 20, 100, 200)}


def test_knn_against_a_double_loop(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    train, test = torch.randn(40, 6, generator=generator), torch.randn(30, 6, generator=generator)
    labels = torch.randint(0, 3, (40,), generator=generator)
    config = KnnConfig(k=7, temperature=0.3)
    expected, shares = [], []
    for row in test:
        cosines = [float(row @ other / row.norm() / other.norm()) for other in train]
        votes = [0.0, 0.0, 0.0]
        for i in sorted(range(40), key=lambda i: -cosines[i])[:7]:
            votes[int(labels[i])] += float(np.exp(cosines[i] / 0.3))
        expected.append(int(np.argmax(votes)))
        shares.append(max(votes) / sum(votes))
    assert knn_predict(train, labels, test, 3, config).tolist() == expected
    assert np.allclose(knn_votes(train, labels, test, 3, [config])[0].share, shares, atol=1e-5)
    monkeypatch.setattr(vote, "SIMILARITIES", 100)  # two rows at once, then one
    assert knn_predict(train, labels, test, 3, config).tolist() == expected


def test_several_k_from_one_pass_are_those_of_a_pass_each():
    generator = torch.Generator().manual_seed(1)
    train, test = torch.randn(300, 5, generator=generator), torch.randn(400, 5, generator=generator)
    labels = torch.randint(0, 4, (300,), generator=generator)
    configs = [KnnConfig(k=k, temperature=t) for k, t in ((200, 0.07), (1, 0.07), (20, 0.1), (1000, 0.5))]
    several = knn_votes(train, labels, test, 4, configs)
    predicted = [one.predicted.tolist() for one in several]
    assert predicted == [knn_predict(train, labels, test, 4, config).tolist() for config in configs]
    assert len(set(map(tuple, predicted))) == len(configs)
    nearest = KNeighborsClassifier(1, metric="cosine").fit(train, labels).predict(test)
    assert predicted[1] == nearest.tolist() and torch.allclose(several[1].share, torch.ones(400))


def test_knn_with_fewer_images_than_neighbours():
    train = torch.eye(2)
    assert knn_predict(train, torch.tensor([0, 1]), train, 2, KnnConfig(k=200)).tolist() == [0, 1]


def test_runs_of_all_styles_are_records_with_predictions(tmp_path, monkeypatch):
    root = image_root(tmp_path, monkeypatch, {"ant": 40, "bee": 120, "cow": 220})
    found = executed(root, "knn", "knn-dino", "knn-mmselfsup")
    for name, record in found.items():
        predictions = load_predictions(ResultsStore().paths(record.spec)[0].with_suffix(""))
        primary = TASKS[name].metrics[0].key
        assert record.metrics[primary] == pytest.approx(100 * predictions.correct.mean()) == 100
        assert record.test_images == 15 and set(record.metrics) == {one.key for one in TASKS[name].metrics}
        assert ((predictions.confidence > 1 / 3) & (predictions.confidence <= 1)).all()
    assert found["knn-dino"].config["interpolation"] == "bicubic"
