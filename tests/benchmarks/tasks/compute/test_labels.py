"""The stratified draw and the root's list."""

import numpy as np
import pytest

from benchmarks.data.labels import names_digest
from benchmarks.data.root import DataRoot
from benchmarks.tasks.compute.labels import labelled_rows, names_below, stratified
from pretrain.common.errors import InputError

COUNTS = (1300, 732, 149, 150, 3, 1)
Y = np.repeat(np.arange(len(COUNTS)), COUNTS)


def root_with(tmp_path, listed):
    section = {"classes": ["a", "b"], "counts": {"train": 4, "val": 2}, "fingerprint": "f" * 64}
    if listed:
        (tmp_path / "labels").mkdir()
        (tmp_path / "labels" / "1percent.txt").write_text("".join(f"{name}\n" for name in listed))
        section["labels"] = {"1": {"images": len(listed), "digest": names_digest(listed)}}
    about = {"name": "toy", "synthetic": True, "description": "", "config": {}}
    return DataRoot(path=tmp_path, sections={"imagenet": section}, **about)


@pytest.mark.parametrize(("percent", "counts"), [(1, [13, 7, 1, 2, 1, 1]), (10, [130, 73, 15, 15, 1, 1])])
def test_a_draw_takes_the_share_of_each_class_and_at_least_one(percent, counts):
    order = np.random.default_rng(1).permutation(len(Y))
    rows = stratified(Y[order], percent, 0)
    assert np.bincount(Y[order][rows]).tolist() == counts
    assert (np.diff(rows) > 0).all()
    assert (stratified(Y[order], percent, 0) == rows).all()
    assert not np.array_equal(stratified(Y[order], percent, 1), rows)


def test_one_percent_is_a_part_of_ten():
    assert set(stratified(Y, 1, 0)) < set(stratified(Y, 10, 0))


def test_every_image_is_as_likely_as_the_others():
    """Of 50 images of a class 5 are drawn: over 400 seeds each some 40 times, with a deviation of 6."""
    y = np.repeat([0, 1], 50)
    drawn = np.bincount(np.concatenate([stratified(y, 10, seed) for seed in range(400)]), minlength=100)
    assert drawn.sum() == 400 * 10 and abs(drawn - 40).max() < 30
    assert 3 < drawn.std() < 9


def test_a_list_comes_first_and_has_to_fit(tmp_path):
    names, y = ["a/1.png", "a/2.png", "b/1.png", "b/2.png"], np.array([0, 0, 1, 1])
    whole = labelled_rows(root_with(tmp_path, None), names, y, 100, 0)
    drawn = labelled_rows(root_with(tmp_path, None), names, y, 1, 0)
    assert (whole.source, drawn.source) == ("all", "drawn") and whole.rows.tolist() == [0, 1, 2, 3]
    assert len(drawn.rows) == 2 and drawn.digest == names_digest([names[row] for row in drawn.rows])
    root = root_with(tmp_path, ["a/2.png", "b/1.png"])
    listed = labelled_rows(root, names, y, 1, 0)
    assert listed.summary() == {"source": "list", "images": 2, "digest": names_digest(["a/2.png", "b/1.png"])}
    assert listed.notes() == ("2 labels by the root's list",) and whole.notes() == ()
    assert drawn.notes() == ("2 labels by a draw per class, no list was given",)
    assert listed.rows.tolist() == [1, 2] and labelled_rows(root, names, y, 10, 0).source == "drawn"
    with pytest.raises(InputError, match=r"a/2.png, a listed image, is not in toy"):
        labelled_rows(root, ["a/1.png", "b/1.png"], y[[0, 2]], 1, 0)
    assert names_below([tmp_path / "a" / "1.png"], tmp_path) == ["a/1.png"]
