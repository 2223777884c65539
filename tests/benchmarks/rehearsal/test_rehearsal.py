"""Commands, outcomes and the summary of a rehearsal; and a small one from end to end."""

import json
from pathlib import Path

import pytest

from benchmarks import profiles
from benchmarks.__main__ import main
from benchmarks.rehearsal import command, shrink, steps
from benchmarks.rehearsal.machine import Finding
from benchmarks.rehearsal.report import Line, summary
from benchmarks.rehearsal.steps import Outcome, Stage, variants
from benchmarks.rehearsal.user_data import check_roots
from benchmarks.tasks import TASKS, few_shot, linear_sgd, many_shot
from pretrain.common.errors import InputError
from tests.benchmarks.contexts import tiny_root
from tests.benchmarks.doubles import make_record, make_spec


def stage_of(folder, variant):
    return Stage(results=folder / "results", data=folder / "data", logs=folder / "logs", variant=variant)


def test_variants_are_one_gpu_and_all_or_one_process_and_two():
    assert [(one.name, one.processes, one.workers) for one in variants(0, 2)] == [
        ("1 process", 1, 2),
        ("2 processes", 2, 1),
    ]
    assert [(one.name, one.flags) for one in variants(8, 64)] == [
        ("1 GPU", ("--num-gpus", "1")),
        ("8 GPUs", ("--num-gpus", "8")),
    ]
    assert len(variants(1, 8)) == 1
    assert variants(0, 2)[1].environment == {"REHEARSAL_ON": "cpu", "CPU_PROCESSES": "2"}


def test_the_command_is_a_paper_runs_and_only_detectors_get_opts(tmp_path):
    cpu, gpu = stage_of(tmp_path, variants(0, 2)[1]), stage_of(tmp_path, variants(2, 2)[1])
    words = steps.words_of_run(cpu, ["knn"], "mine=/x.pth", Path("/root"))
    assert "--opts" not in words and words[words.index("--profile") + 1] == "paper"
    on_cpu = steps.words_of_run(cpu, ["knn", "voc-c4-24k"], "mine=/x.pth", Path("/root"))
    on_gpu = steps.words_of_run(gpu, ["voc-c4-24k"], "mine=/x.pth", Path("/root"), iterations=9)
    assert "INPUT.MIN_SIZE_TEST" in on_cpu and "INPUT.MIN_SIZE_TEST" not in on_gpu  # full size: memory as in a real run
    assert on_gpu[on_gpu.index("SOLVER.MAX_ITER") + 1] == "9"


def test_shrinking_is_described_and_changes_paper_alone(monkeypatch):
    for table in (profiles.PROFILES, linear_sgd.SMALL, many_shot.GRID, few_shot.EPISODES):
        for key, value in table.items():
            monkeypatch.setitem(table, key, value)  # restored in the end
    monkeypatch.setitem(linear_sgd.SMALL, "paper", (1, 1))
    before = dict(profiles.PROFILES)
    monkeypatch.setenv(shrink.VARIABLE, "gpu")
    shrink.shrink_profile()
    assert profiles.PROFILES["paper"].view == before["paper"].view  # on GPUs images keep their size
    monkeypatch.setenv(shrink.VARIABLE, "cpu")
    shrink.shrink_profile()
    assert profiles.PROFILES["paper"].view.crop == 48
    assert {name: profiles.PROFILES[name] for name in ("smoke", "demo")} == {
        name: before[name] for name in ("smoke", "demo")
    }
    assert linear_sgd.STYLES["moco"][0].scaled("paper").epochs == 2
    assert "SOLVER.MAX_ITER 4" in "\n".join(shrink.described(cpu=True))


def detector_record(processes, **changes):
    before = {"SOLVER.IMS_PER_BATCH": 16, "SOLVER.BASE_LR": 0.02, "SOLVER.REFERENCE_WORLD_SIZE": 8}
    solver = {"IMS_PER_BATCH": 2 * processes, "BASE_LR": 0.0025 * processes} | changes
    config = {"SOLVER": solver, "TRANSFER": {"UNSCALED": before}}
    return make_record(make_spec(task="voc-c4-24k", profile="paper"), {"bbox/AP": 1.0}, config=config)


def test_batch_and_rate_follow_the_reference_world_size():
    assert steps.scaled_wrongly(detector_record(2), 2) == ""
    assert steps.scaled_wrongly(detector_record(2, BASE_LR=0.02), 2) == (
        "SOLVER.BASE_LR is 0.02 with 2 processes, and 0.02 with 8"
    )
    assert "IMS_PER_BATCH is 2" in steps.scaled_wrongly(detector_record(1), 2)
    assert steps.scaled_wrongly(make_record(make_spec(), {"top1": 1.0}), 2) == ""


def test_outcomes_come_from_records(tmp_path):
    stage, log = stage_of(tmp_path, variants(0, 2)[0]), tmp_path / "x.log"
    assert steps.outcome_of(None, stage, log, "no such file").reason == "no such file"
    failed = make_record(make_spec(), {}, error="it broke")
    assert steps.outcome_of(failed, stage, log, "") == Outcome(seconds=1.0, reason="it broke", log=log)
    assert steps.outcome_of(detector_record(1), stage, log, "").reason == ""


def test_a_refused_command_is_tried_task_by_task(tmp_path, monkeypatch):
    """As when one of its tasks cannot run on the data: the others are no failures."""
    asked = []

    def refuses(self, name, *words):
        tasks = list(words[words.index("--task") + 1 : words.index("--checkpoint")])
        asked.append(tasks)
        return (2 if "knn" in tasks else 1), tmp_path / "log", f"end of {' '.join(tasks)}"

    monkeypatch.setattr(Stage, "command", refuses)
    found = steps.run_tasks(stage_of(tmp_path, variants(0, 2)[0]), "x", ["knn", "linear"], "m=/x", Path("/root"))
    assert asked == [["knn", "linear"], ["knn"], ["linear"]]
    assert {name: one.reason for name, one in found.items()} == {"knn": "end of knn", "linear": "end of linear"}


def test_checkpoints_of_finished_runs_are_removed_at_once(tmp_path):
    paths = [tmp_path / "runs" / "abc" / folder / "model_final.pth" for folder in ("files", "20260101T000000Z-abcdef")]
    for path in paths:
        path.parent.mkdir(parents=True)
        path.touch()
    spec = make_spec()
    assert steps.ResultsStore(tmp_path).working_folder(spec).name == steps.WORKING
    steps.forget_checkpoints(tmp_path, running=True)
    assert [path.exists() for path in paths] == [True, False]
    steps.forget_checkpoints(tmp_path)
    assert not paths[0].exists()


def test_a_command_that_ends_before_its_checkpoint_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(steps, "words_of_run", lambda *rest: ["nonsense"])
    outcome = steps.killed_and_resumed(stage_of(tmp_path, variants(0, 2)[0]), "voc-c4-24k", "m=/x", Path("/root"))
    assert "before it had written a checkpoint" in outcome.reason and "nonsense" in outcome.log.read_text()


def test_a_task_for_our_own_runs_is_rehearsed_only_where_it_is_named():
    assert {task.name for task in command._tasks(())} == set(TASKS) - {"view-information"}
    assert [task.name for task in command._tasks(("view-information", "knn"))] == ["view-information", "knn"]


def test_summary_has_a_row_per_task_and_the_logs_of_failures():
    tasks = [TASKS["knn"], TASKS["voc-c4-24k"]]
    good, bad = Outcome(seconds=12.3), Outcome(seconds=3.0, reason="out of memory", log=Path("/logs/a.txt"))
    found = {"1 process": {"knn": good, "voc-c4-24k": good}, "2 processes": {"knn": None, "voc-c4-24k": bad}}
    text, failed = summary(tasks, found, [Line("table", Outcome())], [Finding("warning", "few cores")])
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert failed == 1 and {"knn 12 s –", "voc-c4-24k 12 s FAILED", "ok table", "warning few cores"} <= set(lines)
    assert lines[-2:] == [
        "FAILED voc-c4-24k (2 processes): out of memory (log: /logs/a.txt)",
        "2 runs passed, 1 steps failed",
    ]
    text, failed = summary(tasks, {"1 process": {"knn": good}}, [], [])
    assert failed == 0 and text.endswith("all 1 runs passed")
    assert summary(tasks, {}, [], [Finding("failed", "changed data")])[1] == 1


def test_own_data_are_read_and_checked(tmp_path):
    root = tiny_root(tmp_path / "toy", classes=2, train=3, val=1)
    found = check_roots([root], [TASKS["knn"], TASKS["low-shot"], TASKS["voc-c4-24k"]])
    assert [one.level for one in found] == ["ok", "ok", "warning"]
    assert "one process reads" in found[1].text and "toy: low-shot cannot run on it: class class0" in found[2].text
    for path in (root.path / "imagenet").rglob("*.png"):
        path.write_text("no image")
    assert [one.level for one in check_roots([root], [])] == ["ok", "failed"]


def test_wrong_input_is_refused_before_anything(tmp_path, monkeypatch):
    monkeypatch.setenv("RESULTS_DIR", str(tmp_path / "results"))
    for words, message in (
        (["--task", "kn"], "unknown task kn"),
        (["--checkpoint", "mine=/none.pth"], "is not a file"),
        (["--data", "/none"], "is not a prepared data root"),
    ):
        with pytest.raises(InputError, match=message):
            main(["rehearsal", *words])
    assert not (tmp_path / "results").exists()


@pytest.mark.slow
def test_a_small_rehearsal_in_two_processes(tmp_path, monkeypatch, capfd):
    """Prepared, run, killed, resumed, tabulated: by the commands themselves."""
    monkeypatch.setenv("RESULTS_DIR", str(tmp_path))
    monkeypatch.setattr(steps, "own_variants", lambda: variants(0, 2)[1:])
    assert main(["rehearsal", "--task", "voc-fpn-24k", "voc07-svm"]) == 0
    shown = capfd.readouterr().err
    assert "voc-fpn-24k resumes after kill -9 (2 processes)" in shown and "all 1 runs passed" in shown
    (record,) = (tmp_path / "rehearsal").glob("2-processes-killed/runs/*/*.json")
    found = json.loads(record.read_text())
    assert 0 < found["resumed_at"] < steps.KILLED_ITERATIONS
    assert found["config"]["MODEL"]["RESNETS"]["NORM"] == "naiveSyncBN" and found["spec"]["num_gpus"] == 2
    assert not list((tmp_path / "rehearsal").rglob("model_*.pth"))
