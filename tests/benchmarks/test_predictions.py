import numpy as np
import pytest

from benchmarks.predictions import FILE, Predictions, load_predictions
from pretrain.common.errors import InputError


def test_one_label_comes_back_with_a_bit_per_image(tmp_path):
    target, predicted = np.arange(11) % 3, np.arange(11) % 2
    kept = Predictions(target=target, predicted=predicted, confidence=np.linspace(0, 1, 11))
    kept.save(tmp_path)
    found = load_predictions(tmp_path)
    assert (found.target == target).all() and (found.predicted == predicted).all()
    assert (found.correct == (target == predicted)).all()
    with np.load(tmp_path / FILE) as stored:
        assert stored["correct"].nbytes == 2  # 11 bits
        assert (np.unpackbits(stored["correct"])[:11].astype(bool) == (target == predicted)).all()
        assert stored["target"].dtype == np.int16


def test_several_labels_are_correct_where_the_sign_is(tmp_path):
    target = np.array([[1, 0], [-1, 1], [0, 0]])
    Predictions(target=target, scores=np.array([[0.5, 0.1], [-1, 2], [-0.1, -3]])).save(tmp_path)
    assert load_predictions(tmp_path).correct.tolist() == [[True, False], [True, True], [True, True]]


def test_a_large_class_number_is_kept(tmp_path):
    Predictions(target=np.array([70_000]), predicted=np.array([70_000])).save(tmp_path)
    assert load_predictions(tmp_path).target[0] == 70_000


def test_absent_and_broken_files_are_named(tmp_path):
    with pytest.raises(InputError, match=r"has no predictions\.npz"):
        load_predictions(tmp_path)
    (tmp_path / FILE).write_bytes(b"PK broken")
    with pytest.raises(InputError, match="cannot be read"):
        load_predictions(tmp_path)


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"target": [0, 1], "predicted": [0]}, r"predicted has the shape \(1,\), not \(2,\)"),
        ({"target": [0, 1], "predicted": [0, 1], "confidence": [[0.5, 0.5]]}, r"confidence has the shape \(1, 2\)"),
        ({"target": [0, 1]}, "target with a target of 1 dimensions"),
        ({"target": [[0, 1]], "predicted": [[0, 1]]}, "target, predicted with a target of 2 dimensions"),
        ({"target": ["a"], "predicted": ["a"]}, "no class number"),
        ({"target": [[0, 2]], "scores": [[0.5, 0.5]]}, "not 1, 0 or -1"),
    ],
)
def test_arrays_that_do_not_belong_together_are_named(arrays, words, tmp_path):
    """As in an archive of somebody else's."""
    np.savez(tmp_path / FILE, **arrays)
    with pytest.raises(InputError, match=f"cannot be read .*{words}"):
        load_predictions(tmp_path)
