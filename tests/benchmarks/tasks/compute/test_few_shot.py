"""Few-shot episodes, many at once, against a loop over episodes, classes and images."""

import numpy as np
import pytest

from benchmarks.tasks.compute import few_shot
from benchmarks.tasks.compute.few_shot import accuracies, draw, summary, usable_classes
from benchmarks.tasks.few_shot import FewShotConfig

CONFIG = FewShotConfig(episodes=30, queries=4)


def features(images=25, classes=7, dim=6):
    generator = np.random.default_rng(0)
    y = np.repeat(np.arange(classes), images)
    return (generator.normal(size=(classes, dim))[y] + generator.normal(size=(len(y), dim))).astype(np.float32), y


@pytest.mark.parametrize("shots", [1, 5, 20])
def test_against_a_plain_loop(shots, monkeypatch):
    x, y = features()
    expected = []
    for episode in draw(y, shots, CONFIG, 3):
        means = [np.mean([x[row] for row in rows[:shots]], axis=0) for rows in episode]
        hits = [
            int(np.argmin([((x[row] - mean) ** 2).sum() for mean in means])) == label
            for label, rows in enumerate(episode)
            for row in rows[shots:]
        ]
        expected.append(sum(hits) / len(hits))
    assert accuracies([x[:100], x[100:]], y, shots, CONFIG, 3).tolist() == pytest.approx(expected)
    assert 0.2 < np.mean(expected) < 1 and len(set(expected)) > 3
    monkeypatch.setattr(few_shot, "VALUES", 1)
    assert accuracies([x], y, shots, CONFIG, 3).tolist() == pytest.approx(expected)


def test_an_episode_has_distinct_classes_and_images_and_the_seed_draws_it():
    _, y = features()
    rows = draw(y, 5, CONFIG, 0)
    assert rows.shape == (30, 5, 9)
    for episode in rows:
        assert len(set(episode.ravel().tolist())) == 45
        assert [len(set(y[some])) for some in episode] == [1] * 5 and len(set(y[episode[:, 0]])) == 5
    assert set(y[rows].ravel().tolist()) == set(range(7))
    assert (rows == draw(y, 5, CONFIG, 0)).all() and (rows != draw(y, 5, CONFIG, 1)).any()
    assert (rows[:, :, :5] != draw(y, 1, CONFIG, 0)).any()


def test_all_classes_and_images_are_drawn_alike():
    _, y = features(images=10)
    config = FewShotConfig(episodes=3000, queries=4)
    rows = draw(y, 1, config, 0)
    times = np.bincount(rows.ravel(), minlength=len(y)) / 3000
    assert np.allclose(times, 5 / 7 * 5 / 10, atol=0.05)  # 5 of 7 classes, 5 of 10 images
    assert np.allclose(np.bincount(rows[:, :, 0].ravel(), minlength=len(y)) / 3000, 5 / 7 / 10, atol=0.025)


def test_classes_with_too_few_images_are_not_drawn():
    x, y = features()
    y = np.where((y == 6) & (np.arange(len(y)) % 2 == 0), 5, y)  # class 6 has 12 or 13 images
    assert usable_classes(y, 20, CONFIG).tolist() == list(range(6))
    assert 6 not in y[draw(y, 20, CONFIG, 0)] and 6 in y[draw(y, 5, CONFIG, 0)]
    assert accuracies([x], y, 22, CONFIG, 0) is None


def test_the_interval_is_of_the_population_deviation():
    found = np.array([0.5, 0.7, 0.9, 0.9])
    metrics = summary({5: found, 20: None}, CONFIG)
    assert metrics["shot5"] == pytest.approx(75) and metrics["shot20"] is metrics["ci95_20"] is None
    deviation = np.sqrt(np.mean((found - found.mean()) ** 2))
    assert metrics["ci95_5"] == pytest.approx(100 * 1.96 * deviation / 2)
