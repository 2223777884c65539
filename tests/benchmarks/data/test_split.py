"""The seeded split against every possible split of small sets, and in its proportions on larger ones."""

import itertools
import random
from collections import Counter

import hypothesis
import pytest
from hypothesis import strategies as st

from benchmarks.data import split as module
from benchmarks.data.split import split_seeded

KINDS = "abcdef"
FRACTIONS = st.floats(0.01, 0.99)
SEEDS = st.integers(0, 1000)
SMALL = st.dictionaries(st.integers(0, 99), st.sets(st.sampled_from(KINDS), max_size=4), min_size=2, max_size=8)


def wanted(classes, fraction):
    """Images in val where no class has a say."""
    return min(max(1, round(len(classes) * fraction)), len(classes) - 1)


def absent(classes, val):
    """Classes on two or more images that one half is without."""
    every = Counter(kind for kinds in classes.values() for kind in kinds)
    there = Counter(kind for item in val for kind in classes[item])
    return {kind for kind, count in every.items() if count > 1 and there[kind] in (0, count)}


@hypothesis.settings(deadline=None)
@hypothesis.given(SMALL, FRACTIONS, SEEDS)
def test_no_other_split_has_more_classes_in_both_halves_or_as_many_and_a_nearer_size(classes, fraction, seed):
    train, val = split_seeded(classes, fraction, seed)
    assert sorted(train + val) == sorted(classes) and train == sorted(train) and val == sorted(val) and train and val
    aim = wanted(classes, fraction)
    every = [part for size in range(1, len(classes)) for part in itertools.combinations(classes, size)]
    best = min((len(absent(classes, part)), abs(len(part) - aim)) for part in every)
    assert (len(absent(classes, val)), abs(len(val) - aim)) == best


@hypothesis.settings(deadline=None)
@hypothesis.given(SMALL, FRACTIONS, SEEDS)
def test_the_same_for_a_seed_in_whatever_order_the_images_come(classes, fraction, seed):
    shuffled = list(classes.items())
    random.Random(seed).shuffle(shuffled)
    lists = {item: sorted(kinds, reverse=True) * 2 for item, kinds in shuffled}
    assert split_seeded(lists, fraction, seed) == split_seeded(classes, fraction, seed)


@hypothesis.settings(deadline=None)
@hypothesis.given(st.lists(st.integers(2, 30), min_size=2, max_size=12), st.floats(0.05, 0.95), SEEDS)
def test_images_of_one_class_each_are_split_class_by_class(counts, fraction, seed):
    """Val has at least one and at most all but one image of each class; with these, its size is the nearest."""
    classes = {f"{kind}/{number}": [str(kind)] for kind, count in enumerate(counts) for number in range(count)}
    _, val = split_seeded(classes, fraction, seed)
    there = Counter(item.split("/")[0] for item in val)
    assert all(1 <= there[str(kind)] <= count - 1 for kind, count in enumerate(counts))
    assert len(val) == min(max(wanted(classes, fraction), len(counts)), len(classes) - len(counts))


def long_tail(seed, images, kinds, power):
    """Zipf's classes, several on an image: number of the image -> its classes."""
    rng = random.Random(seed)
    weights = [rank**-power for rank in range(1, kinds + 1)]
    return {n: {str(k) for k in rng.choices(range(kinds), weights, k=rng.randrange(12))} for n in range(images)}


@pytest.mark.parametrize("fraction", [0.1, 0.2, 0.5])
@pytest.mark.parametrize("seed", range(3))
def test_classes_are_in_their_proportions_and_the_size_is_exact(fraction, seed):
    """A random split has √(n · f · (1 − f)) as its error for a class on n images: about 10 for the commonest here."""
    classes = long_tail(seed, 1500, 40, 1.0)
    every = Counter(kind for kinds in classes.values() for kind in kinds)
    _, val = split_seeded(classes, fraction, seed)
    there = Counter(kind for item in val for kind in classes[item])
    assert len(val) == round(1500 * fraction) and not absent(classes, val)
    assert max(abs(there[kind] - fraction * count) for kind, count in every.items()) <= 3


def test_another_seed_is_another_split():
    classes = {number: ["a"] for number in range(40)}
    assert len({tuple(split_seeded(classes, 0.2, seed)[1]) for seed in range(10)}) == 10


def test_a_class_on_one_image_is_trained_on():
    classes = {number: [str(number)] for number in range(5)} | {number: [] for number in range(5, 10)}
    for seed in range(10):
        train, val = split_seeded(classes, 0.3, seed)
        assert train[:5] == [0, 1, 2, 3, 4] and len(val) == 3


@pytest.mark.parametrize("seed", range(1, 5))
def test_of_many_images_those_move_that_conflict(seed, monkeypatch):
    """Twenty of 600 images may: enough only if they are the right ones."""
    monkeypatch.setattr(module, "MOVABLE", 20)
    classes = long_tail(seed, 600, 600, 1.2)
    assert not absent(classes, split_seeded(classes, 0.1, seed)[1])


def test_many_small_classes_need_no_move():
    """More images must go to val than asked for, and more than may move."""
    classes = {f"{kind}/{number}": [str(kind)] for kind in range(400) for number in range(3)}
    _, val = split_seeded(classes, 0.2, 0)
    assert not absent(classes, val) and len(val) == 400


def test_a_conflict_that_nothing_solves_costs_one_class():
    """Three classes on two of three images each."""
    for seed in range(10):
        classes = {number: [*{0: "ab", 1: "bc", 2: "ac"}.get(number, ""), "x"] for number in range(200)}
        _, val = split_seeded(classes, 0.2, seed)
        assert len(absent(classes, val)) == 1 and len(val) == 40


def test_one_image_is_trained_on():
    assert split_seeded({7: ["a"]}, 0.5, 0) == ([7], [])
