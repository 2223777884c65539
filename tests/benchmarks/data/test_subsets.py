"""Draws of few labelled images: exact, stratified, nested, a function of the seed and the images' objects alone."""

import itertools
import json
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest

from benchmarks.data.subsets import (
    LEAST_HELD,
    LEAST_SEARCHED,
    draw_percent,
    draw_shots,
    hold_out,
    ids_digest,
    read_split,
)
from pretrain.common.errors import InputError

CLASSES = tuple(f"class{number}" for number in range(20))


def scenes(count=1000, seed=0):
    """Images with one to five objects of 20 classes; class c has about 1/(c + 1) of class 0's."""
    rng = np.random.default_rng(seed)
    weights = 1 / np.arange(1, 21)
    return {
        1000 + image: rng.choice(20, rng.integers(1, 6), p=weights / weights.sum()).tolist() for image in range(count)
    }


IMAGES = scenes()


def shuffled(images, seed=1):
    keys = np.random.default_rng(seed).permutation(sorted(images)).tolist()
    return {key: images[key][::-1] for key in keys}


@pytest.mark.parametrize(
    ("count", "percent", "size"), [(1000, 1, 10), (300, 1, 3), (30, 1, 1), (7, 50, 4), (9, 100, 9)]
)
def test_a_percentage_is_exact_and_at_least_one_image(count, percent, size):
    found = draw_percent(scenes(count), percent, 3).images
    assert len(set(found)) == len(found) == size and list(found) == sorted(found) and set(found) <= set(scenes(count))


@pytest.mark.parametrize("seed", range(5))
def test_draws_of_a_seed_are_nested(seed):
    percents = [set(draw_percent(IMAGES, percent, seed).images) for percent in (1, 2, 5, 10, 50, 100)]
    shots = [set(draw_shots(IMAGES, shots, seed, CLASSES).images) for shots in (1, 5, 10)]
    for small, large in (*itertools.pairwise(percents), *itertools.pairwise(shots)):
        assert small < large


def test_a_draw_does_not_depend_on_the_order_of_images_or_objects_and_does_on_the_seed():
    for draw in (
        lambda images, seed: draw_percent(images, 5, seed),
        lambda *given: draw_shots(*given[:1], 3, given[1], CLASSES),
    ):
        assert draw(IMAGES, 4) == draw(IMAGES, 4) == draw(shuffled(IMAGES), 4)
        assert len({draw(IMAGES, seed).images for seed in range(5)}) == 5


def strata(images):
    times = Counter(kind for kinds in images.values() for kind in set(kinds))
    return {image: min(set(kinds), key=lambda kind: (times[kind], kind)) for image, kinds in images.items()}


@pytest.mark.parametrize("percent", [1, 2, 5, 10])
def test_each_stratum_has_its_share_to_within_an_image_of_the_common_level(percent):
    """The draw is {key < t} for one level t, so that of n images in a stratum t·n are drawn, to within one."""
    rarest = strata(IMAGES)
    for seed in range(3):
        drawn = Counter(rarest[image] for image in draw_percent(IMAGES, percent, seed).images)
        sizes = Counter(rarest.values())
        lowest = max((drawn[kind] - 1) / size for kind, size in sizes.items())
        highest = min((drawn[kind] + 1) / size for kind, size in sizes.items())
        assert lowest < highest  # some t explains every count


def test_more_classes_are_covered_than_by_random_subsets():
    rng, everything = np.random.default_rng(0), sorted(IMAGES)

    def covered(images):
        return len({kind for image in images for kind in IMAGES[image]})

    ours = [covered(draw_percent(IMAGES, 2, seed).images) for seed in range(40)]
    random = [covered(rng.choice(everything, 20, replace=False).tolist()) for _ in range(400)]
    assert np.mean(ours) > np.mean(random) + 2


def test_every_image_is_drawn_about_equally_often_within_its_stratum():
    counts = Counter(image for seed in range(100) for image in draw_percent(IMAGES, 5, seed).images)
    times = np.array([counts[image] for image in IMAGES])  # binomial(100, about 0.05): 5 ± 2.2
    assert 4.5 < times.mean() < 5.5 and times.max() < 5 + 6 * 2.2 and (times == 0).mean() < 0.05


def test_the_draws_are_pinned():
    assert draw_percent(IMAGES, 1, 0).images == PINNED["1 %"]
    assert draw_percent(IMAGES, 0.5, 1).images == PINNED["0.5 %"]
    assert draw_shots({"a/1": [0], "a/2": [0, 1], "b/1": [1, 1]}, 1, 0, ("x", "y")).images == PINNED["1 shot"]


PINNED = {
    "1 %": (1028, 1102, 1115, 1137, 1194, 1215, 1287, 1365, 1728, 1773),
    "0.5 %": (1288, 1495, 1523, 1849, 1937),
    "1 shot": ("a/1", "b/1"),
}


def test_every_class_has_its_shots_and_the_union_is_of_the_classes_own_draws():
    alone = {
        kind: {image: [one for one in kinds if one == kind] for image, kinds in IMAGES.items()} for kind in range(20)
    }
    for shots in (1, 5, 10):
        chosen = set(draw_shots(IMAGES, shots, 2, CLASSES).images)
        objects = Counter(kind for image in chosen for kind in IMAGES[image])
        assert all(objects[kind] >= shots for kind in range(20))
        assert chosen == {image for only in alone.values() for image in draw_shots(only, shots, 2, CLASSES).images}


@pytest.mark.parametrize("seed", range(20))
def test_a_class_takes_no_image_after_its_last_shot(seed):
    images = {1: [0, 0, 0], 2: [0], 3: [0, 0], 4: [1]}
    draws = [draw_shots(images, shots, seed, ("a",)).images for shots in (1, 2, 3)]
    counts = [[len(images[one]) for one in found] for found in draws]
    assert len(draws[0]) == 1 and all(4 not in found for found in draws)
    for shots, found in enumerate(counts, 1):
        assert sum(found) >= shots and sum(found) - max(found) < shots


def test_a_class_with_too_few_objects_is_named():
    found = draw_shots({1: [0], 2: [0, 1]}, 2, 0, ("cat", "dog", "cow"))
    assert found.images == (1, 2)
    assert found.notes == (
        "class dog has 1 training objects, fewer than 2 shots",
        "class cow has 0 training objects, fewer than 2 shots",
    )


@pytest.mark.parametrize(("count", "held"), [(30, 10), (100, 10), (400, 40), (1000, 100)])
def test_the_held_out_part_is_a_tenth_and_at_least_ten_images_and_no_training_image(count, held):
    trained, tested = hold_out(scenes(count), 0)
    assert len(tested) == held and not set(trained) & set(tested) and {*trained, *tested} == set(scenes(count))
    assert hold_out(shuffled(scenes(count)), 0) == (trained, tested) != hold_out(scenes(count), 1)


def test_the_held_out_part_is_another_choice_than_the_draw():
    held = set(hold_out(IMAGES, 0)[1])
    drawn = set(draw_percent(IMAGES, 10, 0).images)
    assert len(held & drawn) < 40  # of 100 each; the same list would share all


def test_too_few_images_to_hold_some_out_is_one_line():
    with pytest.raises(InputError, match=f"needs {LEAST_SEARCHED}, but there are 29: leave --search out") as caught:
        hold_out(scenes(29), 0)
    assert "\n" not in str(caught.value) and str(LEAST_HELD) in str(caught.value)


def split(tmp_path, content, images=IMAGES, names=None, percent=1.0, seed=0):
    path = tmp_path / "split.txt"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return read_split(path, images, names or {image: image for image in images}, percent, seed)


def test_unbiased_teachers_file_has_places_in_the_images_with_objects_not_ids(tmp_path):
    order = sorted(IMAGES)
    places = {str(seed): list(range(seed, 10 + seed)) for seed in range(3)}
    for seed in range(3):
        found = split(tmp_path, {"0.5": {}, "1.0": places}, shuffled(IMAGES), seed=seed)
        assert list(found.images) == order[seed : 10 + seed] and not found.notes


def test_lists_and_annotation_files_have_ids(tmp_path):
    assert split(tmp_path, [1003, 1001]).images == (1001, 1003)
    assert split(tmp_path, {"images": [{"id": 1005}, {"id": 1001}], "annotations": []}).images == (1001, 1005)
    names = {image: image for image in IMAGES} | {7: 7}
    found = split(tmp_path, [1001, 7], names=names)
    assert found.images == (1001,)
    assert found.notes == ("1 of the split's 2 images have no object and are not trained on",)
    voc = {"VOC2007/000001": [0], "VOC2012/2008_000008": [1]}
    aliases = {"000001": "VOC2007/000001", "2008_000008": "VOC2012/2008_000008"} | {one: one for one in voc}
    assert split(tmp_path, ["000001", "VOC2012/2008_000008"], voc, aliases, None).images == tuple(voc)


@pytest.mark.parametrize(
    ("content", "percent", "words"),
    [
        ("{", 1.0, "no list of image ids"),
        ("3", 1.0, "no list of image ids"),
        ([[]], 1.0, r"image \[\] is not in the training set"),
        ([1001, 5], 1.0, "image 5 is not in the training set"),
        ([], 1.0, "none of its 0 images has an object"),
        ({"5.0": {"0": []}}, 1.0, "no draw of 1 %: it has 5.0"),
        ({"1.0": {"1": []}}, 1.0, "no draw of seed 0 for 1 %: it has 1"),
        ({"1.0": {"0": [1, 2]}}, 1.0, "1 % of these data are 10 of 1000 images, and the file has 2"),
        ({"1.0": {"0": [*range(9), 1000]}}, 1.0, "it is of other data"),
        ({"1.0": {"0": [0, *range(9)]}}, 1.0, "the file has 9: it is of other data"),
        ({"1.0": {"0": [*range(9), "x"]}}, 1.0, "no list of image ids"),
        ({"1.0": [1]}, 1.0, "no list of image ids"),
        ({"1.0": {"0": []}}, None, "draws by shots"),
        ({"info": {}}, 1.0, "no list of image ids"),
    ],
)
def test_a_split_that_does_not_fit_is_one_line_with_its_file(tmp_path, content, percent, words):
    with pytest.raises(InputError, match=words) as caught:
        split(tmp_path, content, percent=percent)
    assert "split.txt" in str(caught.value) and "\n" not in str(caught.value)


def test_a_missing_split_is_one_line(tmp_path):
    with pytest.raises(InputError, match="nowhere"):
        read_split(tmp_path / "nowhere", IMAGES, {}, 1.0, 0)


def test_the_digest_is_that_of_the_sorted_ids():
    assert ids_digest([3, 1]) == ids_digest((1, 3)) != ids_digest([1, 4])


def test_drawing_imports_no_torch():
    code = "import sys, benchmarks.data.subsets, transfer.detection.search; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
