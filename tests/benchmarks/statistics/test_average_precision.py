"""Weighted AP against the matches' own, which is the evaluators' to the last bit."""

import numpy as np
import pytest

from benchmarks.statistics.average_precision import WeightedAP
from transfer.detection.evaluation.matches import FALSE, TRUE, UNCOUNTED, Matches


def random_matches(rng, rule, *, images=40, classes=5, detections=600, thresholds=3, coarse=True):
    """Detections and objects without any geometry: of each class no more true detections than objects that count."""
    category = rng.integers(classes, size=detections)
    image = np.sort(rng.integers(images, size=detections))
    score = rng.random(detections)
    score = np.round(score, 1 if coarse else 9).astype(np.float32)  # coarse: many equal scores
    object_image = rng.integers(images, size=90)
    object_category = rng.integers(classes - 1, size=90)  # the last class has no object
    counts = rng.random((90, 2)) < 0.8
    outcome = rng.choice([UNCOUNTED, FALSE], size=(2, detections, thresholds), p=[0.2, 0.8]).astype(np.uint8)
    for area in range(2):
        for number in range(thresholds):
            for one in range(classes):
                own = np.flatnonzero(category == one)
                for place in range(images):  # an object is found in its own image
                    free = int((counts[:, area] & (object_image == place) & (object_category == one)).sum())
                    here = own[image[own] == place]
                    outcome[area, rng.permutation(here)[: rng.integers(0, free + 1)], number] = TRUE
    return Matches(
        ids=np.arange(images),
        image=image,
        category=category,
        score=score,
        outcome=outcome,
        object_image=object_image,
        object_category=object_category,
        object_counts=counts,
        thresholds=np.linspace(0.5, 0.95, thresholds),
        areas=("all", "small"),
        classes=tuple(f"class{number}" for number in range(classes)),
        rule=rule,
    )


@pytest.mark.parametrize("rule", ["coco", "voc2007", "voc2012"])
@pytest.mark.parametrize("seed", range(4))
def test_every_draw_has_the_ap_of_the_matches(rule, seed):
    rng = np.random.default_rng(seed)
    matches = random_matches(rng, rule, coarse=seed % 2 == 0)
    for area in range(2):
        sampler = WeightedAP(matches, area)
        for number in range(6):
            weights = np.bincount(rng.integers(40, size=40), minlength=40) if number else np.ones(40, dtype=int)
            expected = np.stack([matches.ap(category, area, weights) for category in range(5)])
            np.testing.assert_allclose(sampler(weights), expected, rtol=0, atol=1e-12)
        assert np.isnan(sampler(np.ones(40, dtype=int))[4]).all()
        assert np.isnan(sampler(np.zeros(40, dtype=int))).all()


def test_some_thresholds_are_those_of_all():
    matches = random_matches(np.random.default_rng(9), "coco")
    weights = np.ones(40, dtype=int)
    np.testing.assert_array_equal(WeightedAP(matches, 0, (2,))(weights), WeightedAP(matches)(weights)[:, 2:])


def test_without_detections_or_objects_there_is_no_error():
    matches = random_matches(np.random.default_rng(3), "coco")
    none = Matches(
        **{
            **matches.__dict__,
            "image": matches.image[:0],
            "category": matches.category[:0],
            "score": matches.score[:0],
            "outcome": matches.outcome[:, :0],
        }
    )
    found = WeightedAP(none)(np.ones(40, dtype=int))
    assert (found[:4] == 0).all() and np.isnan(found[4]).all()


def test_recalls_are_reached_as_in_the_evaluators_floats():
    """With 29 of 100 objects found, recall 0.29 is reached in floats where the quotient is not below the recall."""
    from benchmarks.statistics.average_precision import RECALLS, _needed

    for total in (1, 3, 7, 29, 100, 1000, 36781):
        needed = _needed(RECALLS["coco"], np.array([total]))[0]
        shares = np.arange(total + 2) / total
        assert needed.tolist() == np.searchsorted(shares, RECALLS["coco"]).tolist()
