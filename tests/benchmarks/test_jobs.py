"""`status`, `retry`, `cancel` and `logs` without a Slurm."""

import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks.jobs import commands, control
from benchmarks.jobs.commands import all_commands, give, noted
from benchmarks.jobs.overview import HEAD, attempt_at, overview
from benchmarks.jobs.status import _seconds, status_lines
from benchmarks.records import ResultsStore
from pretrain.common.errors import InputError
from pretrain.common.files import locked
from tests.benchmarks.doubles import make_record, make_spec

CHECKOUT = Path(__file__).resolve().parents[2]


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.setenv("RESULTS_DIR", str(tmp_path))
    monkeypatch.setattr(commands, "_given", [])
    return ResultsStore()


def test_records_are_counted_by_their_newest_good_attempt(store):
    good, bad, mended = (make_spec(seed=seed) for seed in range(3))
    store.save(make_record(good, {"top1": 1.0}, label='a "quoted" naïve\nname'))
    store.save(make_record(bad, {}, error="first"))
    store.save(make_record(bad, {}, error="weights did not load"))
    store.save(make_record(mended, {}, error="first"))
    store.save(make_record(mended, {"top1": 1.0}))
    (store.root / "empty").mkdir()
    (store.root / "damaged").mkdir()
    (store.root / "damaged" / "x.json").write_text("{")
    found = overview()
    assert (found.done, len(found.failed), found.unreadable) == (2, 1, 1)
    lines = status_lines()
    assert lines[0].endswith("2 done, 0 running, 0 queued, 1 failed")
    assert "failed   mine linear on toy seed 1: weights did not load" in lines
    (path,) = store.paths(good)
    assert attempt_at(path).name == 'a "quoted" naïve\nname linear on toy seed 0'


def test_a_head_longer_than_usual_is_read_whole(store):
    path = store.save(make_record(make_spec(), {}, error="x" * (2 * HEAD)))
    assert attempt_at(path).error == "x" * (2 * HEAD) and not attempt_at(path).good


def test_a_live_process_is_running_and_its_log_is_said(store):
    spec = make_spec()
    with locked(store.path_for(spec), "mine linear seed 0"):
        (store.path_for(spec) / "log.txt").write_text("step 1\rstep 2\n\n")
        lines = status_lines()
    assert re.fullmatch(r"running  mine linear seed 0 \(process \d+ on \S+, \d+ s\): step 2", lines[1])
    assert status_lines()[0].endswith("0 running, 0 queued, 0 failed")


def test_more_lines_than_anybody_reads_are_counted(store):
    for seed in range(25):
        store.save(make_record(make_spec(seed=seed), {}, error=f"reason {seed}"))
    lines = status_lines()
    assert len(lines) == 22 and lines[-1].endswith("… and 5 more: --all") and "reason 24" in lines[1]
    assert len(status_lines(every=True)) == 26


def test_commands_that_failed_or_were_killed_are_given_again(store, capsys, monkeypatch):
    give(["run", "--task", "knn"])
    with noted() as note:
        note.failed = 0
    assert control.retry(False, None) == 0 and "nothing to try again" in capsys.readouterr().err
    give(["suite", "smoke"])
    with noted() as note:
        note.failed = 2
    give(["suite", "demo"])
    with pytest.raises(KeyboardInterrupt), noted():
        raise KeyboardInterrupt
    lines = status_lines()
    assert any(re.search(r"ended    .*suite smoke: 2 failed; .*retry", line) for line in lines)
    assert any(re.search(r"stopped  .*suite demo: .*retry", line) for line in lines)
    given = []
    assert control.retry(True, given.append) == 0 and given == []
    assert control.retry(False, lambda words: given.append(words) or len(given)) == 2
    assert given == [["suite", "smoke"], ["suite", "demo"]]


HOLD = """
import sys, time
from benchmarks.jobs.commands import give, noted
from pretrain.common.errors import run_cli
def main(argv):
    give(["suite", "smoke"])
    with noted():
        print("held", flush=True)
        time.sleep(60)
run_cli(main)
"""


def test_a_command_that_runs_is_not_given_again_and_cancel_ends_it(store, capsys):
    process = subprocess.Popen([sys.executable, "-c", HOLD], cwd=CHECKOUT, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    assert any(line.startswith("command  ") for line in status_lines())
    assert control.retry(False, None) == 0 and "runs already (process" in capsys.readouterr().err
    give(["suite", "smoke"])
    with noted() as note:  # another process of the same command leaves the note alone
        note.failed = 0
    assert all_commands()[0].failed is None
    assert control.cancel([]) == 0 and f"(process {process.pid})" in capsys.readouterr().err
    assert process.wait(20) == 143 and all_commands()[0].holder() is None
    assert control.cancel([]) == 0 and "nothing to cancel" in capsys.readouterr().err


def test_the_newest_log_whose_name_fits_is_printed(store, capsys):
    for seed in (0, 1):
        spec = make_spec(seed=seed)
        store.save(make_record(spec, {"top1": 1.0}))
        (store.path_for(spec) / "log.txt").write_text(f"one\ntwo {seed}\n")
        time.sleep(0.02)
    assert control.logs(["LINEAR", "seed 0"], 1) == 0 and capsys.readouterr().out == "two 0\n"
    assert control.logs([spec.spec_id], 5) == 0 and capsys.readouterr().out == "one\ntwo 1\n"
    assert control.logs([], 1) == 0 and capsys.readouterr().out == "two 1\n"
    with pytest.raises(InputError, match="no log of a job whose name has nothing"):
        control.logs(["nothing"], 1)


@pytest.mark.parametrize(("text", "seconds"), [("1:02", 62), ("1-02:00:03", 93603), ("INVALID", 0), ("", 0)])
def test_slurms_times_in_seconds(text, seconds):
    assert _seconds(text) == seconds
