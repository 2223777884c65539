"""A search's words, grid and title; keys and values that detectron2 does not take; protocols with a SUBSET."""

import pytest
import yaml

from pretrain.common.errors import InputError
from transfer.detection.config import identity, protocol_cfg, resolved_protocol
from transfer.detection.protocol_files import PROTOCOLS, protocol_names, protocol_subset
from transfer.detection.search import KEY, MOST, parse, search_of, title_of, with_search, without_search

RATES = "SOLVER.BASE_LR=0.01,0.02,0.05"


def test_a_grid_has_every_combination_in_the_order_of_its_values():
    found = parse(["SOLVER.STEPS=(1, 2),(3,)", "SOLVER.BASE_LR=0.2,0.1"])
    pairs = [(lr, steps) for lr in ("0.2", "0.1") for steps in ("(1, 2)", "(3,)")]
    assert found.candidates() == [("SOLVER.BASE_LR", lr, "SOLVER.STEPS", steps) for lr, steps in pairs]
    assert found.title == "lr of 2, SOLVER.STEPS of 2"
    assert search_of(with_search(("A", "1"), found.text.split(" SOLVER.STEPS")[:1])) == parse(
        ["SOLVER.BASE_LR=0.2,0.1"]
    )
    assert search_of((KEY, found.text)) == found


def test_a_search_travels_as_one_option():
    opts = with_search(("SOLVER.MAX_ITER", "9"), [RATES])
    assert opts == ("SOLVER.MAX_ITER", "9", KEY, RATES)
    assert without_search(opts) == without_search(opts[2:] + opts[:2]) == ("SOLVER.MAX_ITER", "9")
    assert (title_of(opts), title_of(("SOLVER.MAX_ITER", "9")), title_of(())) == ("lr of 3", "", "")
    assert title_of((KEY, "<b>")) == "search" and without_search(("odd",)) == ("odd",)  # anyone's record
    assert with_search(("A", "1"), []) == ("A", "1") and search_of(()) is None


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["SOLVER.BASE_LR"], "--search SOLVER.BASE_LR: give KEY=V1,V2"),
        (["SOLVER.BASE_LR="], "--search SOLVER.BASE_LR=: give KEY=V1,V2"),
        (["=1,2"], "--search =1,2: give KEY=V1,V2"),
        (["A=1,,2"], "--search A=1,,2: give KEY=V1,V2"),
        (["A=1"], "one value is no search; give more, or --opts A 1"),
        (["A=1,2,1"], "--search A: 1 is given twice"),
        (["A=1,2", "A=3,4"], "--search A is given twice"),
        (["A=1,2,3,4,5,6", "B=1,2,3,4,5,6"], f"36 combinations, and each is a training: give {MOST} or fewer"),
        (["B=1,2"], "B is in --opts and in --search: leave it out of one"),
    ],
)
def test_unusable_words_are_one_line(words, message):
    with pytest.raises(InputError) as caught:
        with_search(("B", "1"), words)
    assert message in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("SOLVER.RATE=1,2", "--search SOLVER.RATE: detectron2's config has no such key"),
        ("SOLVER.BASE_LR=0.1,fast", "--search SOLVER.BASE_LR fast: Type mismatch"),
        ("SOLVER.BASE_LR=0.01,1e-2", "--search SOLVER.BASE_LR: 1e-2 is given twice"),
        ("SEED=1,2", "--search SEED: the checkpoint, the data or another flag sets this"),
        ("TRANSFER.NUM_GPUS=1,2", "--search TRANSFER.NUM_GPUS: the checkpoint"),
        ("TRANSFER.SEARCH=1,2", "--search TRANSFER.SEARCH: the checkpoint"),
        # The record names one precision, and a file of images is known by its content.
        ("SOLVER.AMP.ENABLED=True,False", "--search SOLVER.AMP.ENABLED: a run's identity has one precision"),
        ("TRANSFER.CPU_BF16=True,False", "--search TRANSFER.CPU_BF16: a run's identity has one precision"),
        ("TRANSFER.SUBSET.FILE=a,b", "--search TRANSFER.SUBSET.FILE: a run's identity has one precision and one file"),
    ],
)
def test_what_detectron2_does_not_take_is_one_line(text, message):
    with pytest.raises(InputError) as caught:
        resolved_protocol("voc_fpn_24k", "smoke", 0, [KEY, text])
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_a_searched_protocol_has_another_identity_and_others_know_of_no_search():
    fixed, few, many = (
        identity(resolved_protocol("voc_fpn_24k", "demo", 0, opts))
        for opts in ([], [KEY, "SOLVER.BASE_LR=0.1,0.2"], [KEY, RATES])
    )
    assert "SEARCH" not in fixed["TRANSFER"] and few["TRANSFER"]["SEARCH"] == "SOLVER.BASE_LR=0.1,0.2"
    assert len({yaml.safe_dump(one) for one in (fixed, few, many)}) == 3
    assert few["SOLVER"] == fixed["SOLVER"]


def test_a_subset_is_part_of_the_identity_of_its_protocols_alone():
    subsets = {name: identity(protocol_cfg(name))["TRANSFER"].get("SUBSET") for name in protocol_names()}
    found = {name: one for name, one in subsets.items() if one}
    empty = {"PERCENT": 0.0, "SHOTS": 0, "FILE_SHA256": ""}
    assert found == {
        **{f"coco_det_fpn_{percent}pct": empty | {"PERCENT": float(percent)} for percent in (1, 2, 5, 10)},
        **{f"voc_fpn_{shots}shot": empty | {"SHOTS": shots} for shots in (1, 5, 10)},
    }


def test_a_published_draw_is_known_by_its_content_not_by_its_path(tmp_path):
    for name, text in (("a", "[1]"), ("b", "[1]"), ("c", "[2]")):
        (tmp_path / name).write_text(text)
    one, same, other = (
        identity(resolved_protocol("coco_det_fpn_1pct", "paper", 8, ["TRANSFER.SUBSET.FILE", str(tmp_path / name)]))
        for name in "abc"
    )
    assert one == same != other
    for protocol, file, words in (
        ("voc_fpn_24k", tmp_path / "a", "voc_fpn_24k trains on all images"),
        ("voc_fpn_1shot", tmp_path / "nowhere", "nowhere is not a file"),
    ):
        with pytest.raises(InputError, match=words):
            resolved_protocol(protocol, "paper", 8, ["TRANSFER.SUBSET.FILE", str(file)])


@pytest.mark.parametrize(
    "subset", ["{}", "{PERCENT: 0}", "{PERCENT: 101}", "{PERCENT: yes}", "{SHOTS: 1.5}", "{SHOTS: 0}", "{SHOT: 1}", "3",
               "{PERCENT: 1, SHOTS: 1}", "{PERCENT: .nan}", "[1]"]
)  # fmt: skip
def test_an_unusable_subset_is_one_line_with_its_file(tmp_path, subset):
    path = tmp_path / "own.yaml"
    path.write_text(f"TRANSFER: {{SUBSET: {subset}}}")
    with pytest.raises(InputError, match=r"own\.yaml: TRANSFER\.SUBSET is .*: give \{PERCENT: 0 to 100\} or \{SHOTS"):
        protocol_subset(path)


def test_the_nested_draws_are_of_one_detector():
    """1, 2 and 5 % differ in nothing else; 10 % in its published schedule."""
    for percent in (1, 2, 10):
        one, five = protocol_cfg(f"coco_det_fpn_{percent}pct"), protocol_cfg("coco_det_fpn_5pct")
        for cfg in (one, five):
            cfg.TRANSFER.clear()
        if percent == 10:
            one.SOLVER.clear(), five.SOLVER.clear()
        assert one == five
    assert (PROTOCOLS / "coco_det_fpn_1pct.yaml").is_file()
