"""Profile small's sizes, anchors and schedule against the closed forms on made-up sets."""

import math
from itertools import pairwise

import numpy as np
import pytest
from detectron2.data.transforms import ResizeShortestEdge
from detectron2.modeling.anchor_generator import DefaultAnchorGenerator

from tests.transfer.detection.test_trainer import cfg_of
from transfer.detection import fitted
from transfer.detection.config import identity, resolved_protocol
from transfer.detection.fitted import DataFacts, anchor_sizes, facts_of, iterations, shorter_side
from transfer.detection.profiles import FITTED
from transfer.detection.protocol_files import protocol_names


def facts(images=100, sides=(0.1, 0.2, 0.4), ratios=(0.5, 1.0, 2.0)):
    return DataFacts(images=images, sides=sides, ratios=ratios)


def of_sides(*sides, size=(100, 100)):
    return facts_of([size] * len(sides), [[(side, side)] for side in sides])


def test_facts_are_those_of_the_objects_as_they_are_resized():
    # 1 to 101 pixels of 200: the percentiles of a uniform series are its own values.
    found = of_sides(*range(1, 102), size=(200, 260))
    assert found == facts(images=101, sides=(0.03, 0.255, 0.48), ratios=(1.0, 1.0, 1.0))
    assert facts_of([(200, 260)] * 3, [[(30.0, 60.0), (60.0, 30.0)], [], [(50.0, 50.0)]]) == facts(
        images=2, sides=(round(np.quantile([50, math.sqrt(1800), math.sqrt(1800)], 0.05) / 200, 4),
                         round(math.sqrt(1800) / 200, 4),
                         round(np.quantile([50, math.sqrt(1800), math.sqrt(1800)], 0.95) / 200, 4)),
        ratios=(round(0.5 + 0.5 / 3, 4), 1.0, round(2 - 1 / 3, 4)),
    )  # fmt: skip


@pytest.mark.parametrize("size", [(300, 200), (640, 480), (500, 100), (100, 1600), (331, 331)])
def test_an_objects_side_is_the_one_that_detectron2s_resize_gives(size):
    width, height = size
    side = 256
    resize = ResizeShortestEdge(side, round(fitted.ASPECT * side)).get_transform(np.zeros((height, width, 3), np.uint8))
    box = resize.apply_box(np.array([[0, 0, width / 4, height / 8]]))[0]
    seen = math.sqrt((box[2] - box[0]) * (box[3] - box[1]))
    found = facts_of([size], [[(width / 4, height / 8)]])
    assert found.sides[1] * side == pytest.approx(seen, rel=0.01)


@pytest.mark.parametrize(
    ("median", "side"),
    [(0.25, 256), (0.2, 320), (64 / 352, 352), (0.9, 224), (0.26, 256), (0.01, 448), (64 / 440, 448)],
)
def test_the_median_object_has_64_pixels_within_the_limits(median, side):
    assert shorter_side(facts(sides=(median / 2, median, 0.95))) == side


def test_anchors_span_the_sides_in_equal_ratios():
    # 320 pixels for the median: 20 to 324 pixels, of which each anchor is twice the one before.
    wide = facts(sides=(20 / 320, 0.2, 1.0))
    assert shorter_side(wide) == 320
    assert anchor_sizes(wide, (1,) * 5) == [[20], [40], [80], [160], [320]]
    assert anchor_sizes(wide, (5,)) == [[20, 40, 80, 160, 320]]
    of_retinanet = [side for level in anchor_sizes(wide, (3,) * 5) for side in level]
    assert (of_retinanet[0], of_retinanet[-1], len(of_retinanet)) == (20, 320, 15)
    for small, large in pairwise(of_retinanet):
        assert large / small == pytest.approx(16 ** (1 / 14), abs=0.04)
    assert anchor_sizes(wide, (1,)) == [[80]]


def test_alike_objects_leave_room_for_others():
    alike = of_sides(*[20] * 30)
    assert shorter_side(alike) == 320 and alike.sides == (0.2, 0.2, 0.2)
    assert anchor_sizes(alike, (1,) * 3) == [[32], [64], [128]]


def test_lines_have_anchors_that_detectron2_can_divide_by():
    lines = facts_of([(2000, 1500)] * 9, [[(1000.0, 4.0)]] * 9)
    assert lines.ratios == (0.004, 0.004, 0.004)
    values = fitted.fitted(lines, (1,) * 5)
    assert values["MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS"] == [[0.01]]
    sizes = [float(level[0]) for level in values["MODEL.ANCHOR_GENERATOR.SIZES"]]
    boxes = DefaultAnchorGenerator(sizes=[sizes], aspect_ratios=[[0.01]], strides=[4]).generate_cell_anchors(
        sizes, [0.01]
    )
    width, height = boxes[0, 2] - boxes[0, 0], boxes[0, 3] - boxes[0, 1]
    assert float(height / width) == pytest.approx(0.01) and float(height * width) == pytest.approx(sizes[0] ** 2)


@pytest.mark.parametrize(
    ("images", "expected"), [(1, 240), (120, 240), (121, 242), (160, 320), (201, 402), (10**6, 8_000)]
)
def test_epochs_become_iterations(images, expected):
    assert iterations(facts(images=images)) == expected
    if 240 < expected < 8_000:
        assert expected == math.ceil(images * fitted.EPOCHS / fitted.BATCH)


def test_keys_are_those_that_are_set():
    assert tuple(fitted.fitted(facts(), (1,) * 5)) == fitted.KEYS


@pytest.mark.parametrize("protocol", protocol_names())
def test_every_protocol_takes_the_values_and_keeps_its_number_of_anchors(protocol):
    paper, small = (
        resolved_protocol(protocol, name, 0, [], found) for name, found in (("paper", None), (FITTED, facts()))
    )
    before, after = (one.MODEL.ANCHOR_GENERATOR.SIZES for one in (paper, small))
    assert [len(level) for level in before] == [len(level) for level in after]
    assert small.INPUT.MIN_SIZE_TRAIN == (280, 320, 360) and small.INPUT.MAX_SIZE_TRAIN == 600
    assert (small.INPUT.MIN_SIZE_TEST, small.INPUT.MAX_SIZE_TEST) == (320, 533)
    assert small.MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS == [[0.5, 1.0, 2.0]]
    assert (small.SOLVER.MAX_ITER, small.SOLVER.WARMUP_ITERS, small.SOLVER.IMS_PER_BATCH) == (240, 24, 4)
    assert (small.SOLVER.CHECKPOINT_PERIOD, small.TEST.PRECISE_BN.NUM_ITER) == (30, 25)
    assert small.TRANSFER.RESUME and not small.TRANSFER.KEEP_FILES
    assert small.DATALOADER.NUM_WORKERS == 0


def test_other_data_are_other_settings_and_the_same_data_the_same():
    def known_as(**changes):
        return identity(resolved_protocol("voc_fpn_24k", FITTED, 0, [], facts(**changes)))

    assert known_as() == known_as()
    for change in (
        {"images": 121},
        {"sides": (0.1, 0.15, 0.4)},
        {"sides": (0.1, 0.2, 0.5)},
        {"ratios": (0.4, 1.0, 2.0)},
    ):
        assert known_as(**change) != known_as()


def test_a_config_that_runs_has_facts_and_only_where_they_are_used(converted, scratch):
    assert cfg_of(converted, scratch, profile=FITTED, facts=facts()).SOLVER.MAX_ITER == 240
    for profile, found in ((FITTED, None), ("demo", facts())):
        with pytest.raises(AssertionError):
            cfg_of(converted, scratch, profile=profile, facts=found)


def test_a_gpu_has_loaders_which_are_no_part_of_the_identity():
    cpu, gpu = (resolved_protocol("voc_fpn_24k", FITTED, number, [], facts()) for number in (0, 1))
    assert (cpu.DATALOADER.NUM_WORKERS, gpu.DATALOADER.NUM_WORKERS) == (0, 4)
    assert "NUM_WORKERS" not in identity(gpu)["DATALOADER"]
