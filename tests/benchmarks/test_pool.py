"""Jobs in processes: python -m pytest tests/benchmarks/test_pool.py"""

import os
import re
import signal
import time

import pytest

from benchmarks import pool
from benchmarks.pool import Job, run_jobs
from pretrain.errors import RunError


def touch(path, text):
    path.write_text(text)
    print("said", text)
    return text.upper()


def fail(known):
    raise RunError("weights did not load") if known else ZeroDivisionError("by zero")


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def mumble():
    print("step 1/9\rstep 2/9", end="", flush=True)
    time.sleep(1)


def results_dir():
    return os.environ.get("RESULTS_DIR")


def nap(seconds):
    time.sleep(seconds)
    return time.monotonic()


@pytest.fixture(autouse=True)
def no_preload(monkeypatch):
    monkeypatch.setattr(pool, "PRELOAD", [])


def job(tmp_path, function, **more):
    name = more.pop("name", function.__name__)
    arguments = more.pop("arguments", {})
    return Job(name=name, target=f"{__name__}:{function.__name__}", arguments=arguments, log=tmp_path / name, **more)


def test_a_job_has_the_environment_of_the_moment_and_not_of_the_servers_start(tmp_path, monkeypatch):
    found = []
    for folder in ("a", "b"):
        monkeypatch.setenv("RESULTS_DIR", folder)
        run_jobs([job(tmp_path, results_dir, then=lambda value: found.append(value) or [])], 1)
    assert found == ["a", "b"]


def test_value_log_follow_up_and_progress_line(tmp_path, capfd):
    later = job(tmp_path, touch, name="later", arguments={"path": tmp_path / "b", "text": "second"})
    seen = []
    first = job(
        tmp_path,
        touch,
        name="first",
        arguments={"path": tmp_path / "a", "text": "one"},
        then=lambda value: seen.append(value) or [later],
        report=lambda value: f"gave {value}",
        follows=(1.0,),
    )
    ran = run_jobs([first], 1)
    assert ran.failed == []
    assert seen == ["ONE"] and (tmp_path / "b").read_text() == "second"
    assert "said one" in (tmp_path / "first").read_text()
    lines = capfd.readouterr().err.splitlines()
    assert lines[0].startswith("[1/2] first: gave ONE") and "left" in lines[0]
    assert lines[1].startswith("[2/2] later: done") and "left" not in lines[1]


def test_time_left_goes_by_weight():
    # 2 s a unit. Running: 10 − 4 = 6 s and 1 s left; waiting: 2 units = 4 s; together 11 s, but one job needs 6.
    assert pool.time_left([(1, 3), (2, 3)], [(5, 4), (1, 1)], [1, 1], 2) == pytest.approx(6)
    assert pool.time_left([(1, 2)], [(5, 4)], [], 2) == pytest.approx(6)  # one job cannot be shared
    assert pool.time_left([(1, 2)], [(1, 7)], [], 1) == 0  # slower than thought: no negative time
    assert pool.time_left([(1, 2)], [], [10, 10], 2) is None  # a twentieth is not yet done


def test_one_failure_is_reported_and_the_rest_goes_on(tmp_path):
    lost = []
    jobs = [
        job(tmp_path, fail, name="known", arguments={"known": True}, lost=lost.append, follows=(1.0,) * 3),
        job(tmp_path, fail, name="bug", arguments={"known": False}),
        job(tmp_path, die),
        job(tmp_path, touch, arguments={"path": tmp_path / "c", "text": "ok"}),
    ]
    failed = {item.name: reason for item, reason in run_jobs(jobs, 2).failed}
    assert failed["known"] == "weights did not load" and lost == ["weights did not load"]
    assert failed["bug"] == "ZeroDivisionError: by zero"
    assert "status -9" in failed["die"] and "killed" in failed["die"]
    assert (tmp_path / "c").exists() and set(failed) == {"known", "bug", "die"}
    assert "Traceback" in (tmp_path / "bug").read_text()


def test_follow_ups_run_before_the_rest_in_the_order_they_came(tmp_path):
    order = []

    def named(name, follow=()):
        note = lambda value: order.append(name) or ""  # noqa: E731
        return job(tmp_path, nap, name=name, arguments={"seconds": 0}, report=note, then=lambda v: list(follow))

    last = named("a2", [named("a2.1")])
    run_jobs([named("a", [named("a1"), last, named("a3")]), named("b", [named("b1")])], 1)
    assert order == ["a", "a1", "a2", "a3", "a2.1", "b", "b1"]


def test_no_more_than_the_workers_run_at_once(tmp_path):
    ends = []
    jobs = [
        job(tmp_path, nap, name=str(i), stage="rest", arguments={"seconds": 0.5}, report=lambda v: ends.append(v) or "")
        for i in range(4)
    ]
    ran = run_jobs(jobs, 2)
    assert len(ran.seconds["rest"]) == 4 and min(ran.seconds["rest"]) >= 0.5
    ends.sort()
    assert ends[2] - ends[0] >= 0.45  # the third had to wait for the first


def test_a_long_job_shows_what_its_log_says(tmp_path, capfd, monkeypatch):
    monkeypatch.setattr(pool, "HEARTBEAT_SECONDS", 0.2)
    run_jobs([job(tmp_path, mumble)], 1)
    assert re.search(r"mumble \(\d+ s\): step 2/9$", capfd.readouterr().err, re.MULTILINE)


def test_an_error_in_one_line():
    class ProcessRaisedException(Exception):
        """As torch's, by name."""

    assert pool.one_line(ProcessRaisedException("\n\n-- Process 0\nTraceback\nValueError: no GPU\n")).endswith(
        "ValueError: no GPU"
    )
    assert pool.one_line(AssertionError()) == "AssertionError"
    assert pool.one_line(KeyError("segm")) == "KeyError: 'segm'"
    assert pool.one_line(RunError("did not load")) == "did not load"


def test_a_job_has_one_thread(tmp_path):
    threads = []
    check = Job(
        name="env",
        target="os:getenv",
        arguments={"key": "OMP_NUM_THREADS"},
        log=tmp_path / "log",
        report=threads.append,
    )
    run_jobs([check], 1)
    assert threads == ["1"]
