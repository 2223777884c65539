"""Jobs through a real Slurm of this machine, started by tools/slurm_local.py."""

import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from benchmarks.executors import slurm, slurm_queue
from benchmarks.executors.slurm_queue import all_batches, queued
from benchmarks.jobs.control import cancel, logs
from benchmarks.jobs.status import in_slurm, status_lines
from pretrain.common.errors import InputError
from tests.benchmarks.executors.slurm_work import executor, job
from tests.benchmarks.plans import evaluated, plan_of
from tools import slurm_local

CHECKOUT = Path(__file__).resolve().parents[3]
reason = slurm_local.missing()
pytestmark = [pytest.mark.slurm, pytest.mark.skipif(bool(reason), reason=reason)]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """The folder of a running Slurm of two nodes."""
    folder = tmp_path_factory.mktemp("cluster") / "slurm"
    environment = slurm_local.start(folder, nodes=2, cpus=4)
    os.environ.update(environment)
    yield folder
    slurm_local.stop(folder)
    os.environ.pop("SLURM_CONF")


@pytest.fixture
def place(cluster, tmp_path, monkeypatch):
    monkeypatch.setenv("RESULTS_DIR", str(tmp_path / "results"))
    monkeypatch.setattr(slurm, "POLL_SECONDS", (0.2, 0.5))
    monkeypatch.setattr(slurm, "GRACE_SECONDS", 3.0)
    (tmp_path / "work").mkdir()
    yield tmp_path / "work"
    (tmp_path / "work" / "go").touch()  # a test that failed leaves none waiting
    subprocess.run(["scancel", "--state=PENDING,RUNNING", "--partition=main"], capture_output=True)


def until(true, seconds=60):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.1)


def started(place, name):
    return sorted(place.glob(f"{name}/started-*"))


def done(place):
    return sorted((place / "done.txt").read_text().split()) if (place / "done.txt").exists() else []


class Running(threading.Thread):
    """``executor().run(jobs)`` beside the test."""

    def __init__(self, jobs, *words):
        super().__init__(daemon=True)
        self.jobs, self.words, self.outcome = jobs, words, None
        self.start()

    def run(self):
        self.outcome = executor(*self.words).run(self.jobs)

    def end(self):
        self.join(90)
        assert self.outcome is not None, "it did not end"
        return [(one.name, why) for one, why in self.outcome.failed]


def command(place, *names):
    return subprocess.Popen(
        [sys.executable, "-m", "tests.benchmarks.executors.slurm_work", str(place), *names],
        cwd=CHECKOUT,
        env=os.environ | {"RESULTS_DIR": str(place.parent / "results")},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_an_array_with_follow_ups_of_which_one_fails(place, capfd):
    broken = job(place, "broken", target="os:nothing", arguments={})
    first = job(place, "a", then=lambda value: [job(place, "a-next")], follows=1)
    ran = executor("at_most=2", "cpus=1").run([first, job(place, "b"), broken])
    ((failed, why),) = [(one.name, text) for one, text in ran.failed]
    assert failed == "broken" and re.fullmatch(r"AttributeError: .*'nothing' \(on node[12]\)", why)
    assert done(place) == ["a", "a-next", "b"]
    array, single = all_batches()
    assert len(array.tasks) == 3 and len(single.tasks) == 1 and array.has_ended() and single.has_ended()
    assert "#SBATCH --array=0-2%2" in next(array.folder.glob("*submission.sh")).read_text()
    said = capfd.readouterr().err
    assert "[4/4]" in said and "FAILED: AttributeError" in said


def test_a_job_whose_time_ends_saves_and_is_started_again(place):
    running = Running([job(place, "a", True), job(place, "b", True)])
    until(lambda: started(place, "a") and started(place, "b"))
    (task,) = [one for one in in_slurm() if one.name == "a"]
    subprocess.run(
        ["scancel", "--signal=USR2", task.state.task_id], check=True
    )  # as Slurm does before the time is over
    until(lambda: (place / "a" / "saved").exists())
    (place / "go").touch()
    assert running.end() == []
    numbers = [path.name.split("-")[1:] for path in started(place, "a")]
    assert [restarts for _, restarts in numbers] == ["0", "1"] and len({number for number, _ in numbers}) == 1
    assert len(started(place, "b")) == 1 and done(place) == ["a", "b"] and len(all_batches()) == 1


def test_a_job_that_is_cancelled_from_outside_is_submitted_again(place, capfd):
    running = Running([job(place, "a", True), job(place, "b", True)])
    until(lambda: started(place, "a") and started(place, "b"))
    (task,) = [one for one in in_slurm() if one.name == "a"]
    subprocess.run(["scancel", task.state.task_id], check=True)
    until(lambda: len(all_batches()) == 2)
    (place / "go").touch()
    assert running.end() == [] and done(place) == ["a", "b"]
    assert "(CANCELLED): submitting it again" in capfd.readouterr().err


def test_a_controller_that_starts_again_loses_nothing(place, cluster, capfd):
    running = Running([job(place, name, True) for name in "abc"])
    until(lambda: all(started(place, name) for name in "abc"))
    slurm_local.end_daemon(cluster / "slurmctld.pid")
    (place / "go").touch()
    until(lambda: len(done(place)) == 3)
    slurm_local.restart(cluster)
    assert running.end() == [] and done(place) == ["a", "b", "c"] and len(all_batches()) == 1


def test_a_killed_command_given_again_follows_its_jobs(place):
    first = command(place, "a", "b")
    until(lambda: started(place, "a"))
    first.kill()
    first.communicate()
    second = command(place, "b", "a")
    time.sleep(2)
    (place / "go").touch()
    said = second.communicate(timeout=90)[0]
    assert "failed: []" in said and done(place) == ["a", "a-next", "b", "b-next"], said
    assert sum(task["name"] == "a" for batch in all_batches() for task in batch.tasks) == 1


def test_two_commands_on_one_results_folder_share_the_jobs(place):
    both = [command(place, *names) for names in ("abc", "cbd")]
    until(lambda: started(place, "a") and started(place, "d"))
    (place / "go").touch()
    said = [one.communicate(timeout=90)[0] for one in both]
    assert all("failed: []" in text for text in said), said
    assert done(place) == sorted(f"{name}{end}" for name in "abcd" for end in ("", "-next"))
    for name in "abcd":
        assert len(started(place, name)) == 1
    tasks = [task["name"] for batch in all_batches() for task in batch.tasks]
    assert all(tasks.count(name) == 1 for name in "abcd")


def test_status_logs_and_cancel(place, capsys):
    running = Running([job(place, name, True) for name in ("first job", "second job", "third")], "at_most=2")
    seen = (r"running  first job \(\d+_0 on node\d, .* left\): waiting for", r"running  second job .*: waiting for")
    seen += (r"queued   third \(\d+_2, JobArrayTaskLimit\)",)
    until(lambda: all(any(re.search(one, line) for line in status_lines()) for one in seen))
    assert status_lines()[0].endswith("0 done, 2 running, 1 queued, 0 failed")
    capsys.readouterr()
    assert logs(["FIRST"], 1) == 0 and capsys.readouterr().out == f"waiting for {place / 'go'}\n"
    with pytest.raises(InputError, match="no log of a job whose name has fourth"):
        logs(["fourth"], 1)
    assert cancel(["job"]) == 0 and "cancelled second job" in capsys.readouterr().err
    until(lambda: started(place, "third"))
    (place / "go").touch()
    assert running.end() == [("first job", "cancelled"), ("second job", "cancelled")] and done(place) == ["third"]
    assert queued(batch.name for batch in all_batches()) == {}


def test_a_node_without_the_data_says_what_is_missing(root, place):
    plan = plan_of(root, "knn")
    (knn,) = plan.jobs(evaluated(root), [])
    root.rename(root.with_name("elsewhere"))
    ((_, why),) = [(one.name, text) for one, text in executor().run([knn]).failed]
    assert why.startswith(f"{root} is not a prepared data root (no data.json)") and re.search(r"\(on node\d\)$", why)


def test_what_slurm_refuses_is_said_in_its_words(place):
    with pytest.raises(slurm.RunError, match=r"sbatch: .*[Ii]nvalid partition"):
        executor("partition=nowhere").run([job(place, "a")])
    assert all_batches()[0].has_ended()


def test_a_value_that_still_holds_needs_no_second_job(place):
    executor().run([job(place, "a")])
    values = []
    kept = job(place, "a", still=lambda value: value == "a", then=lambda value: values.append(value) or [])
    executor().run([kept])
    assert values == ["a"] and len(all_batches()) == 1
    until(lambda: not in_slurm())
    executor().run([job(place, "a", still=lambda value: False)])
    assert len(all_batches()) == 2 and slurm_queue.end_of(all_batches()[0].task_id(0)) == "COMPLETED"
