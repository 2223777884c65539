"""Jobs in processes."""

import dataclasses
import multiprocessing
import os
import re
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.executors import local
from benchmarks.executors.base import Job
from benchmarks.executors.local import LocalExecutor
from benchmarks.tasks.compute.features import FeatureView, byte_batches
from pretrain.common.errors import RunError
from pretrain.common.signals import signals_noted

CHECKOUT = Path(__file__).resolve().parents[3]


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


def gpus_seen(folder, name, other):
    """The GPUs that this process sees, once the job ``other`` is running too; and when it began and ended."""
    begun = time.monotonic()
    (folder / f"{name}.begun").touch()
    until(lambda: (folder / f"{other}.begun").exists())
    names = os.environ.get("CUDA_VISIBLE_DEVICES")
    return None if names is None else names.split(",") if names else [], begun, time.monotonic()


def write_pid_and_nap(path, seconds):
    lock = multiprocessing.RLock()  # noqa: F841 - as tqdm and loaders have, of which nothing is to be said at the end
    path.with_suffix(".tmp").write_text(str(os.getpid()))
    path.with_suffix(".tmp").rename(path)
    time.sleep(seconds)


def save_when_asked(path):
    """As pretraining: SIGTERM is noted, and the job ends by itself."""
    with signals_noted() as stopping:
        write_pid_and_nap(path, 0)
        while not stopping():
            time.sleep(0.02)
        time.sleep(0.3)
        path.with_suffix(".saved").touch()
    raise SystemExit(143)


def allocate():
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + 2**26, used + 2**26))
    np.ones(2**30)


def fill_the_log():
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
    print("x" * 1000)
    print("y" * 1000)


def read_images(images):
    """As tasks of profile paper read them."""
    view = FeatureView(resize=16, crop=16)
    return [len(batch) for batch in byte_batches(images, view, workers=2, batch=2)]


@pytest.fixture(autouse=True)
def no_preload(monkeypatch):
    monkeypatch.setattr(local, "PRELOAD", [])


def job(tmp_path, function, **more):
    name = more.pop("name", function.__name__)
    arguments = more.pop("arguments", {})
    return Job(name=name, target=f"{__name__}:{function.__name__}", arguments=arguments, log=tmp_path / name, **more)


def test_a_job_has_the_environment_of_the_moment_and_not_of_the_servers_start(tmp_path, monkeypatch):
    found = []
    for folder in ("a", "b"):
        monkeypatch.setenv("RESULTS_DIR", folder)
        LocalExecutor(workers=1).run([job(tmp_path, results_dir, then=lambda value: found.append(value) or [])])
    assert found == ["a", "b"]


def test_a_job_reads_images_in_loader_processes(tmp_path):
    """Loader processes of a server's would end at once: their parent is not the job."""
    images = [tmp_path / f"{number}.png" for number in range(5)]
    for path in images:
        Image.new("RGB", (20, 20)).save(path)
    found = []
    reading = job(tmp_path, read_images, arguments={"images": images}, then=lambda value: found.append(value) or [])
    assert LocalExecutor(workers=1).run([reading]).failed == []
    assert found == [[2, 2, 1]]


def test_value_log_follow_up_and_progress_line(tmp_path, capfd):
    later = job(
        tmp_path, touch, name="later", arguments={"path": tmp_path / "b", "text": "second"}, estimate=lambda: 100.0
    )
    seen = []
    first = job(
        tmp_path,
        touch,
        name="first",
        arguments={"path": tmp_path / "a", "text": "one"},
        then=lambda value: seen.append(value) or [later],
        report=lambda value: f"gave {value}",
        follows=1,
    )
    ran = LocalExecutor(workers=1).run([first])
    assert ran.failed == []
    assert seen == ["ONE"] and (tmp_path / "b").read_text() == "second"
    assert "said one" in (tmp_path / "first").read_text()
    lines = capfd.readouterr().err.splitlines()
    assert lines[0].startswith("[1/2] first: gave ONE") and lines[0].endswith(" · about 1.7 min left")
    assert lines[1].startswith("[2/2] later: done") and "left" not in lines[1]


def test_the_time_left_is_left_out_while_some_job_has_no_estimate_or_follow_ups_are_to_come(tmp_path, capfd):
    def napping(name, **more):
        return job(tmp_path, nap, name=name, arguments={"seconds": 0}, **more)

    jobs = [
        napping("a", follows=1, estimate=lambda: 9.0, then=lambda value: [napping("a1", estimate=lambda: 9.0)]),
        napping("b", follows=1, estimate=lambda: 9.0, then=lambda value: [napping("b1")]),
        napping("c", estimate=lambda: 9.0),
    ]
    LocalExecutor(workers=1).run(jobs)
    lines = [re.sub(r"\d+ s", "0 s", line) for line in capfd.readouterr().err.splitlines()]
    assert lines == [
        "[1/5] a: done · 0 s",  # b's follow-up is not known
        "[2/5] a1: done · 0 s",
        "[3/5] b: done · 0 s",  # b1 has no estimate
        "[4/5] b1: done · 0 s · about 0 s left",
        "[5/5] c: done · 0 s",
    ]


def gpu_job(tmp_path, seen, name, gpus, other):
    def keep(value):
        seen[name] = value
        return []

    arguments = {"folder": tmp_path, "name": name, "other": other}
    return job(tmp_path, gpus_seen, name=name, gpus=gpus, arguments=arguments, then=keep)


def test_no_two_jobs_share_a_gpu_and_none_is_overtaken(tmp_path):
    """In pairs that wait for each other, so that they do run side by side."""
    seen, wanted = {}, {"a": (1, "b"), "b": (2, "a"), "c": (2, "d"), "d": (1, "c"), "e": (9, "e"), "f": (0, "f")}
    jobs = [gpu_job(tmp_path, seen, name, *more) for name, more in wanted.items()]
    assert LocalExecutor(workers=3, gpus=("0", "1", "2")).run(jobs).failed == []
    gpus = {name: value[0] for name, value in seen.items()}
    assert {name: len(found) for name, found in gpus.items()} == {"a": 1, "b": 2, "c": 2, "d": 1, "e": 3, "f": 0}
    for one, other in ("ab", "cd"):
        assert sorted(gpus[one] + gpus[other]) == ["0", "1", "2"]
    ends = [seen[name][2] for name in "abcd"]
    assert seen["e"][1] >= max(ends)  # it wants more than there are, and gets all of them
    assert seen["f"][1] >= max(ends)  # there was room for it, but e was before it


def test_without_gpus_a_job_has_the_environment_as_it_is(tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    seen = {}
    LocalExecutor(workers=1).run([gpu_job(tmp_path, seen, "a", 2, "a"), gpu_job(tmp_path, seen, "b", 0, "b")])
    assert [names for names, _, _ in seen.values()] == [["7"], ["7"]]


def test_one_failure_is_reported_and_the_rest_goes_on(tmp_path):
    lost = []
    jobs = [
        job(tmp_path, fail, name="known", arguments={"known": True}, crashed=lost.append, follows=3),
        job(tmp_path, fail, name="bug", arguments={"known": False}),
        job(tmp_path, die),
        job(tmp_path, touch, arguments={"path": tmp_path / "c", "text": "ok"}),
    ]
    failed = {item.name: reason for item, reason in LocalExecutor(workers=2).run(jobs).failed}
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
    LocalExecutor(workers=1).run([named("a", [named("a1"), last, named("a3")]), named("b", [named("b1")])])
    assert order == ["a", "a1", "a2", "a3", "a2.1", "b", "b1"]


def test_no_more_than_the_workers_run_at_once(tmp_path):
    ends = []
    jobs = [
        job(tmp_path, nap, name=str(i), stage="rest", arguments={"seconds": 0.5}, report=lambda v: ends.append(v) or "")
        for i in range(4)
    ]
    ran = LocalExecutor(workers=2).run(jobs)
    assert len(ran.seconds["rest"]) == 4 and min(ran.seconds["rest"]) >= 0.5
    ends.sort()
    assert ends[2] - ends[0] >= 0.45  # the third had to wait for the first


def test_a_long_job_shows_what_its_log_says(tmp_path, capfd, monkeypatch):
    monkeypatch.setattr(local, "HEARTBEAT_SECONDS", 0.2)
    LocalExecutor(workers=1).run([job(tmp_path, mumble)])
    assert re.search(r"mumble \(\d+ s\): step 2/9$", capfd.readouterr().err, re.MULTILINE)


def test_a_job_has_one_thread(tmp_path):
    threads = []
    check = Job(
        name="env",
        target="os:getenv",
        arguments={"key": "OMP_NUM_THREADS"},
        log=tmp_path / "log",
        report=threads.append,
    )
    LocalExecutor(workers=1).run([check])
    assert threads == ["1"]


RUNNER = """
import sys
from pathlib import Path
from benchmarks.executors import local
from benchmarks.executors.base import Job
from pretrain.common.errors import run_cli
local.PRELOAD = []
def main(argv):
    folder = Path(argv[0])
    targets = {"nap": {"seconds": 60}, "save": {}}
    functions = {"nap": "write_pid_and_nap", "save": "save_when_asked"}
    local.LocalExecutor(workers=2).run([
        Job(name=name, log=folder / f"{name}.log", arguments={"path": folder / name, **more},
                  target=f"tests.benchmarks.executors.test_local:{functions[name]}")
        for name, more in targets.items()
    ])
run_cli(main)
"""


def start_runner(folder):
    """Two jobs in a process of its own, and their process ids: one that naps for a minute, one that saves."""
    command = [sys.executable, "-c", RUNNER, str(folder)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "start_new_session": True}
    process = subprocess.Popen(command, cwd=CHECKOUT, **pipes)
    until(lambda: (folder / "nap").exists() and (folder / "save").exists())
    return process, [int((folder / name).read_text()) for name in ("nap", "save")]


def until(true, seconds=30):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.02)


def gone(pid):
    """Whether the process has ended; one that nobody has waited for yet counts."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().split(")")[1].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


@pytest.mark.parametrize("whole_group", [False, True])
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_ends_the_jobs_in_order_and_the_runner_in_one_line(tmp_path, number, status, whole_group):
    process, jobs = start_runner(tmp_path)
    (os.killpg if whole_group else os.kill)(process.pid, number)
    said = [line for line in process.communicate(timeout=30)[1].splitlines() if not line.startswith("  … ")]
    assert process.returncode == status and len(said) == 1 and said[0].endswith("; the same command continues")
    assert all(map(gone, jobs)) and (tmp_path / "save.saved").exists()


def test_the_server_ends_with_a_runner_that_a_signal_ends_between_jobs(tmp_path):
    (tmp_path / "slow_to_import.py").write_text(
        f"open({str(tmp_path / 'importing')!r}, 'w'); import time; time.sleep(60)"
    )
    code = (
        "import time; from benchmarks.executors import local; from pretrain.common.errors import run_cli\n"
        "local.PRELOAD = ['slow_to_import']\n"
        "run_cli(lambda argv: (local.LocalExecutor(workers=1).run([]), time.sleep(60)))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=CHECKOUT,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        stderr=subprocess.PIPE,
        text=True,
    )
    until((tmp_path / "importing").exists)
    process.send_signal(signal.SIGTERM)
    assert process.communicate(timeout=20)[1].startswith("stopped by SIGTERM")  # the server has its stderr too
    assert process.returncode == 143


def test_jobs_end_with_a_runner_that_was_killed(tmp_path):
    process, jobs = start_runner(tmp_path)
    process.kill()
    process.communicate()
    until(lambda: all(map(gone, jobs)))


def test_a_job_whose_log_cannot_be_written_says_so_and_runs(tmp_path, capfd):
    (tmp_path / "file").touch()
    log = tmp_path / "file" / "log.txt"
    good = dataclasses.replace(job(tmp_path, touch, arguments={"path": tmp_path / "a", "text": "one"}), log=log)
    bad = dataclasses.replace(job(tmp_path, fail, arguments={"known": True}), log=log)
    ((failed, reason),) = LocalExecutor(workers=1).run([good, bad]).failed
    assert (tmp_path / "a").read_text() == "one" and reason == "weights did not load" and failed.log is None
    lines = capfd.readouterr().err.splitlines()
    assert lines[0] == f"touch: no log, since {log} cannot be written (File exists)" and len(lines) == 4


def test_a_full_log_and_too_little_memory_are_one_line(tmp_path):
    failed = {
        item.name: why
        for item, why in LocalExecutor(workers=1).run([job(tmp_path, fill_the_log), job(tmp_path, allocate)]).failed
    }
    assert "File too large" in failed["fill_the_log"] and "ulimit -f" in failed["fill_the_log"]
    assert (
        failed["allocate"].startswith("out of memory (Unable to allocate 8.00 GiB")
        and "--workers" in failed["allocate"]
    )
