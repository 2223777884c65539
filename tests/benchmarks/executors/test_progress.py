"""The time left, and a progress line."""

import pytest

from benchmarks.executors.progress import count_and_time_left, minutes, time_left


def test_time_left_is_of_the_jobs_that_are_known():
    # Running: 10 − 4 = 6 s and 1 s left; waiting: 2 + 2 = 4 s; 11 s on two workers, but one job needs 6.
    assert time_left([(10.0, 4.0), (2.0, 1.0)], [2.0, 2.0], 2) == pytest.approx(6)
    assert time_left([(10.0, 9.0), (2.0, 1.0)], [2.0, 2.0], 2) == pytest.approx(3)  # 6 s on two workers
    assert time_left([(10.0, 4.0)], [], 2) == pytest.approx(6)  # one job cannot be shared
    assert time_left([], [5.0], 3) == pytest.approx(5)
    assert time_left([], [], 2) == 0


def test_time_left_is_never_negative():
    assert time_left([(2.0, 7.0)], [], 1) == 0  # slower than thought
    assert time_left([(2.0, 7.0)], [3.0], 1) == pytest.approx(3)  # nor does it shorten the others


@pytest.mark.parametrize(
    ("running", "waiting"), [([(None, 4.0)], []), ([(9.0, 4.0)], [None]), ([(9.0, 4.0), (None, 1.0)], [1.0])]
)
def test_time_left_is_unknown_with_one_job_that_is(running, waiting):
    assert time_left(running, waiting, 2) is None


def test_the_count_has_the_time_left_where_it_is_known_and_something_is_left():
    assert count_and_time_left(3, 1, 12, 720.0) == "3/16 · about 12.0 min left"
    assert count_and_time_left(3, 1, 12, None) == "3/16"
    assert count_and_time_left(16, 0, 0, 0.0) == "16/16"


def test_seconds_as_people_read_them():
    assert (minutes(89.4), minutes(90.0)) == ("89 s", "1.5 min")
