"""Claims of folders: one holder at a time, also on hosts that do not see each other's locks."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pretrain.common import claims
from pretrain.common.claims import Owner, claimed, ended, holder, newest, silence, this_process, tried
from pretrain.common.errors import RunError
from pretrain.common.files import locked

CHECKOUT = Path(__file__).resolve().parents[3]
# A process of a host of its own (name, boot, pid namespace): its lockf is not seen elsewhere, or is not there at all.
PRELUDE = """
import errno, os, sys, time
from pathlib import Path
from pretrain.common import claims, files
def no_lockf(lock):
    return True
host, stale = sys.argv[1], float(sys.argv[2])
claims._try_lockf = no_lockf
claims.socket.gethostname = lambda: host
claims._boot = lambda: f"boot of {host}"
claims._spaces = lambda: "pid:[1]"
claims.STALE_SECONDS, claims.HEARTBEAT_SECONDS = stale, stale / 10
folder = Path(sys.argv[3])
"""
HOLD = PRELUDE + "with files.locked(folder, 'some work'):\n    print('held', flush=True)\n    sys.stdin.read()\n"
# Adds one to a number, slowly enough that two at once would lose some.
COUNT = (
    PRELUDE
    + """
for _ in range(int(sys.argv[4])):
    with files.locked(folder):
        value = int((folder / "number").read_text())
        time.sleep(0.002)
        (folder / "number").write_text(str(value + 1))
"""
)


def start(code, host, folder, *more, stale=60.0):
    command = [sys.executable, "-c", code, host, str(stale), str(folder), *map(str, more)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, cwd=CHECKOUT, **pipes)


def held(process):
    assert process.stdout.readline() == "held\n", process.stderr.read()


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "run").mkdir()
    return tmp_path / "run"


@pytest.mark.parametrize("hosts", [("a", "a"), ("a", "b")])
def test_processes_without_lockf_take_turns(folder, hosts):
    (folder / "number").write_text("0")
    counters = [start(COUNT, host, folder, 40) for host in (*hosts, *hosts)]
    assert [process.wait(60) for process in counters] == [0] * 4, [process.stderr.read() for process in counters]
    assert (folder / "number").read_text() == "160"
    assert sorted(path.name for path in folder.iterdir()) == [".claim-160", ".lock", "number"]


def test_a_killed_process_of_this_host_is_followed_at_once(folder):
    first = start(HOLD, "a", folder)
    held(first)
    assert newest(folder)[1].about == "some work"
    second = start(HOLD, "a", folder)
    assert second.stderr.readline().startswith(f"another process works in {folder} (process {first.pid}")
    assert second.poll() is None and newest(folder)[1].pid == first.pid
    first.kill()
    first.wait()
    held(second)
    assert newest(folder)[0] == 2
    second.communicate("", timeout=60)
    assert newest(folder)[1].released and holder(folder) is None


def test_a_process_of_another_host_is_followed_when_its_heartbeat_stops(folder):
    first = start(HOLD, "a", folder, stale=1.0)
    held(first)
    second = start(HOLD, "b", folder, stale=1.0)
    time.sleep(2)
    assert newest(folder)[1].host == "a" and silence(folder / ".claim-1") < 1  # it beats
    first.kill()
    held(second)
    assert newest(folder)[1].host == "b"
    first.communicate()
    second.communicate("")


def test_a_process_that_was_stopped_too_long_ends_and_keeps_nothing(folder):
    first = start(HOLD, "a", folder, stale=1.0)
    held(first)
    first.send_signal(signal.SIGSTOP)
    second = start(HOLD, "b", folder, stale=1.0)
    held(second)
    first.send_signal(signal.SIGCONT)
    status, said = first.wait(60), first.stderr.read()  # with its input open: it would end by itself
    assert status == 1 and f"taken over by process {second.pid} on b" in said
    assert newest(folder)[1].host == "b" and not newest(folder)[1].released
    second.communicate("")


def test_what_a_process_found_that_was_taken_over_is_not_kept(folder):
    with locked(folder) as claim:
        claim.require()
        other = dataclasses.replace(this_process(), host="b", token="x")
        (folder / ".claim-2").write_text(json.dumps(dataclasses.asdict(other)))
        with pytest.raises(RunError, match=r"taken over by process \d+ on b"):
            claim.require()
    assert not newest(folder)[1].released  # its own end does not end the other's claim


def test_who_is_dead():
    me = this_process()
    assert not ended(me, 1e9)  # on this machine the process decides
    assert ended(dataclasses.replace(me, pid=2**22 + 1), 0)
    assert ended(dataclasses.replace(me, born="1"), 0)  # its number is another process's by now
    assert ended(dataclasses.replace(me, boot="before"), 0)
    for other in (dataclasses.replace(me, host="x", boot="x"), dataclasses.replace(me, spaces="x", pid=1), Owner()):
        assert not ended(other, claims.STALE_SECONDS) and ended(other, claims.STALE_SECONDS + 1)


@pytest.mark.parametrize(
    ("theirs", "ours", "dead"), [("7 0", "7 1", True), ("7 1", "7 1", False), ("6 0", "7 1", False), ("", "7 1", False)]
)
def test_a_job_that_slurm_starts_again_follows_itself_at_once(monkeypatch, theirs, ours, dead):
    number, restarts = ours.split()
    monkeypatch.setenv("SLURM_JOB_ID", number)
    monkeypatch.setenv("SLURM_RESTART_COUNT", restarts)
    other = dataclasses.replace(this_process(), host="x", boot="x", job=theirs)
    assert ended(other, 0) is dead


def test_of_two_that_see_a_dead_process_one_follows(folder, monkeypatch):
    (folder / ".claim-3").write_text(json.dumps(dataclasses.asdict(dataclasses.replace(this_process(), born="1"))))
    (folder / ".claim-2").write_text("{")

    first = claims._taken(folder, "")
    assert first.number == 4 and claims._taken(folder, "") is None
    assert sorted(path.name for path in folder.iterdir()) == [".claim-4"]
    # One that looked before: the number it would take is free again, as a third one has followed.
    third = claims.Claim(folder / ".claim-5", dataclasses.replace(this_process(), token="y"))
    assert claims._linked(third)
    first.path.unlink()
    monkeypatch.setattr(claims, "newest", lambda folder: (3, None))
    assert claims._taken(folder, "") is None and sorted(path.name for path in folder.iterdir()) == [".claim-5"]


def test_a_damaged_claim_holds_until_it_is_old(folder, monkeypatch):
    (folder / ".claim-1").write_bytes(b"\0\0\xff")
    assert tried(folder) is None and newest(folder)[1] == Owner()
    os.utime(folder / ".claim-1", (time.time() - 200,) * 2)
    assert silence(folder / ".claim-1") == pytest.approx(200, abs=5)
    claim = tried(folder)
    assert claim.number == 2 and claim.path in claims._HELD
    claim.release()
    assert claim.path not in claims._HELD  # its folder may go now: no heartbeat looks for it


@pytest.mark.parametrize("error", [claims.errno.EPERM, claims.errno.EOPNOTSUPP])
def test_file_systems_without_links_or_locks_have_claims_too(folder, monkeypatch, error):
    def refuse(*arguments):
        raise OSError(error, "not here")

    monkeypatch.setattr(os, "link", refuse)
    if error in claims.NO_LOCKS:
        monkeypatch.setattr(claims.fcntl, "lockf", refuse)
    with locked(folder) as claim:
        assert claim.number == 1 and tried(folder) is None
    with claimed(folder) as claim:
        assert claim.number == 2
