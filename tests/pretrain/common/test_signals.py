"""Commands that a signal ends."""

import signal
import subprocess
import sys
import threading
import time

import pytest

from pretrain.common.signals import signals_noted

COMMAND = """
import signal, sys, time
from pretrain.common.errors import run_cli
{before}
def main(argv):
    try:
        print("ready", flush=True)
        time.sleep(10)
    finally:
        {last}
    return 0
run_cli(main)
"""


def start(before="", last="pass"):
    code = COMMAND.format(before=before, last=last)
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen([sys.executable, "-c", code], **pipes)
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.parametrize(
    ("number", "status", "word"),
    [(signal.SIGINT, 130, "Ctrl-C"), (signal.SIGTERM, 143, "SIGTERM"), (signal.SIGHUP, 129, "SIGHUP")],
)
def test_a_signal_ends_a_command_in_one_line_with_its_status(number, status, word):
    process = start()
    process.send_signal(number)
    assert process.communicate(timeout=5)[1] == f"stopped by {word}; the same command continues\n"
    assert process.returncode == status


def test_a_signal_while_the_process_ends_changes_nothing():
    late = "import atexit, time; atexit.register(lambda: (print('exit', flush=True), time.sleep(0.5)))"
    process = start(before=late)
    process.send_signal(signal.SIGTERM)
    assert process.stdout.readline() == "exit\n"
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=5)[1].count("\n") == 1 and process.returncode == 143


def start_hanging(again):
    """A command that hangs when it should end, for which signals within ``again`` seconds are one request."""
    before = f"import pretrain.common.signals\npretrain.common.signals.AGAIN_SECONDS = {again}"
    process = start(before, last="print('ending', flush=True); time.sleep(2); print('ended', flush=True)")
    process.send_signal(signal.SIGTERM)
    assert process.stdout.readline() == "ending\n"
    process.send_signal(signal.SIGINT)
    return process


def test_the_same_request_by_two_ways_is_one():
    process = start_hanging(again=60)
    assert process.communicate()[0] == "ended\n" and process.returncode == 143


def test_a_later_signal_ends_a_command_that_hangs():
    process = start_hanging(again=0)
    assert process.communicate()[0] == "" and process.returncode == 130


def test_a_signal_that_is_ignored_stays_so():
    process = start(before="signal.signal(signal.SIGHUP, signal.SIG_IGN)")
    process.send_signal(signal.SIGHUP)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(timeout=0.3)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=5) == 143


def test_a_reader_that_has_seen_enough_causes_no_traceback():
    code = (
        "from pretrain.common.errors import run_cli\nrun_cli(lambda argv: [print('x' * 9999) for _ in range(99)] and 0)"
    )
    shell = f'"{sys.executable}" -c "{code}" | head -c 1'
    done = subprocess.run(shell, shell=True, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("x", "")


def test_within_the_block_signals_are_noted_and_handlers_come_back():
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    with signals_noted() as stopping:
        assert stopping() == 0
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGINT)
        assert stopping() == signal.SIGTERM
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)] == before


def test_a_second_ctrl_c_ends_a_step_that_never_does(monkeypatch):
    monkeypatch.setattr("pretrain.common.signals.AGAIN_SECONDS", 0.0)
    with signals_noted(), pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
        time.sleep(0.01)
        signal.raise_signal(signal.SIGINT)


def test_a_thread_sets_no_handlers():
    found = []

    def inside():
        with signals_noted() as stopping:
            found.append((stopping(), signal.getsignal(signal.SIGTERM)))

    thread = threading.Thread(target=inside)
    thread.start()
    thread.join()
    assert found == [(0, signal.getsignal(signal.SIGTERM))]


def test_a_loader_whose_parent_is_gone_before_it_begins_ends():
    """torch's loader processes look whether their parent changes, from then on."""
    program = """
import multiprocessing, os, time
from pretrain.common.signals import leave_signals_to_parent
def begin():
    while os.getppid() == multiprocessing.parent_process().pid:
        time.sleep(0.01)
    print("alone", flush=True)
    leave_signals_to_parent(0)
    print("goes on", flush=True)
multiprocessing.get_context("fork").Process(target=begin).start()
os._exit(0)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "alone\n"
