"""Records of schema 2 are not orphaned."""

import json
from pathlib import Path

import pytest

from benchmarks.__main__ import main
from benchmarks.migrate import migrate
from benchmarks.records import ResultsStore, files_of
from benchmarks.report.cells import recorded
from benchmarks.tasks import TASKS, Setup
from pretrain.common.errors import InputError
from pretrain.common.files import digest

FIRST, SECOND = "20260101T000100Z-aaaaaa", "20260102T000100Z-bbbbbb"


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.setenv("RESULTS_DIR", str(tmp_path))
    return ResultsStore()


def old_spec(**changes):
    """A spec with the keys that schema 2 had."""
    return {
        "task": "few-label",
        "task_version": 2,
        "protocol": "lbfgs-10",
        "protocol_digest": "d" * 64,
        "precision": "fp32",
        "data_name": "toy",
        "data_fingerprint": "f" * 64,
        "checkpoint_sha256": "a" * 64,
        "input": {
            "pixel_mean": [0.485, 0.456, 0.406],
            "pixel_std": [0.229, 0.224, 0.225],
            "channel_order": "RGB",
            "stride_in_1x1": False,
        },
        "seed": 0,
        "profile": "demo",
        "overrides": [],
        "num_gpus": None,
    } | changes


def old_record(store, stem=FIRST, *, metrics=(("top1", 7.0),), error=None, folder=None, about=None, **spec):
    """A record as schema 2 wrote it: indented JSON, the schema first, in the folder of its spec's digest."""
    values = old_spec(**spec)
    spec_id = folder or digest(values)[:12]
    record = {
        "schema_version": 2,
        "spec": values,
        "label": "mine",
        "architecture": "resnet18",
        "status": "failed" if error else "ok",
        "error": error,
        "metrics": {} if error else dict(metrics),
        "test_images": None if error else 10,
        "data": {"description": "a toy", "synthetic": True},
        "config": {},
        "environment": {"precision": "fp32"},
        "git": {"commit": "c" * 40, "dirty": False},
        "start": "2026-01-01T00:00:00Z",
        "end": "2026-01-01T00:01:00Z",
        "wall_seconds": 60.0,
        "peak_memory_mb": 1.0,
        "resumed_at": None,
        "log": f"runs/{spec_id}/log.txt",
        "notes": [],
        "migrated": about,
    }
    path = store.root / spec_id / f"{stem}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record, indent=1))
    return path


def state_of(folder):
    """Every file below ``folder`` with its content, but for the lock and the claims."""
    files = [path for path in folder.rglob("*") if path.is_file() and not path.name.startswith((".lock", ".claim"))]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.mark.parametrize(
    ("task", "protocol", "now"),
    [
        ("linear", "lbfgs", "linear"),
        ("few-label", "lbfgs-10", "low-shot"),
        ("knn", "knn", "knn"),
        ("voc-det", "voc_c4_24k", "voc-c4-24k"),
        ("voc-det", "voc_fpn_24k", "voc-fpn-24k"),
        ("coco-seg", "coco_fpn_1x", "coco-fpn-1x"),
        ("coco-seg", "coco_c4_1x", "coco-c4-1x"),
        ("coco-det", "coco_det_fpn_1x", "coco-det-fpn-1x"),
        ("coco-det", "coco_det_c4_1x", "coco-det-c4-1x"),
    ],
)
def test_a_task_and_its_protocol_become_one_name(store, task, protocol, now):
    old_record(store, task=task, protocol=protocol, task_version=TASKS[now].version)
    assert migrate(store) == 1
    (record,) = store.load_all()
    assert record.spec.task == now and recorded("demo") == [("mine", record.spec)]


def test_a_record_becomes_the_one_that_would_be_written_today(store, tmp_path, capsys):
    path = old_record(store, seed=3, overrides=["A", "1"], num_gpus=2)
    text, old_id = path.read_text(), path.parent.name
    assert migrate(store) == 1
    kept = tmp_path / "runs-schema-2"
    said = capsys.readouterr().err
    assert said == f"migrated 1 run records to schema 3; the old ones are in {kept}\n"
    (record,) = store.load_all()
    (now,) = store.all_paths()
    assert now.name == path.name and now.parent.name == record.spec.spec_id != old_id
    values, before = json.loads(now.read_text()), json.loads(text)
    images = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225], "order": "RGB", "stride_in_1x1": False}
    spec = {key: value for key, value in before["spec"].items() if key != "protocol"} | {"task": "low-shot"}
    spec["input"] = images | {"assumed": ""}
    about = {"schema_version": 2, "spec_id": old_id}
    new = {"checkpoint": None, "files": []}  # which schema 2 had not
    assert values == before | new | {"schema_version": 3, "spec": spec, "migrated": about}
    assert record.spec.protocol_digest == "d" * 64 and store.has(record.spec)
    assert state_of(kept) == {f"{old_id}/{path.name}": text.encode()}  # nothing is lost
    assert migrate(store) == 0 and capsys.readouterr().err == "" and list(store.load_all()) == [record]


# As the smoke profile's records had them before tasks were renamed: these settings must never move unnoticed.
DIGESTS = {
    "linear": "d3bd439263d0ec6c19f58ecfb2ca8517e088b13c185e2463ffdeb7da99e52c24",
    "low-shot": "b3b3e1e3a834250f14257f7ebf5e9af86c4aea6f7f73094f86f3e5e7a6d8e15d",
    "knn": "71747ad51f8435755fdefe8106ed96cfde984df0475306df5154cd3453fbcc53",
}


@pytest.mark.parametrize("task", DIGESTS)
def test_the_settings_have_the_digest_that_they_had(task):
    assert TASKS[task].settings(Setup(profile="smoke")).digest == DIGESTS[task]


def test_the_files_of_an_attempt_move_along_and_are_listed(store):
    path = old_record(store)
    other = old_record(store, SECOND, seed=1)
    files_of(path).mkdir()
    for name in ("predictions.json", "log.txt", "metrics.json"):
        (files_of(path) / name).write_text(name)
    assert migrate(store) == 2
    with_files, without = (next(store.root.glob(f"*/{one.name}")) for one in (path, other))
    record = store.load(with_files)
    assert record.files == ("log.txt", "metrics.json", "predictions.json")
    assert {one.name: one.read_text() for one in files_of(with_files).iterdir()} == {
        name: name for name in record.files
    }
    assert not files_of(path).exists() and store.load(without).files == () and not files_of(without).exists()


def test_the_files_of_an_unfinished_attempt_stay_where_they_are(store):
    """They are of no record; an attempt under the new name begins anew."""
    path = old_record(store, error="no disk")
    (path.parent / "files").mkdir()
    (path.parent / "files" / "last_checkpoint").write_text("x")
    assert migrate(store) == 1
    assert (path.parent / "files" / "last_checkpoint").exists() and next(store.load_all()).files == ()


def test_what_a_record_of_schema_1_was_is_kept(store):
    about = {"schema_version": 1, "spec_id": "0123456789ab"}
    old_record(store, about=about)
    assert migrate(store) == 1 and next(store.load_all()).migrated == about


def test_attempts_at_one_run_stay_together(store):
    old_record(store, error="no disk")
    old_record(store, SECOND)
    assert migrate(store) == 2
    (record,) = {record.spec for record in store.load_all()}
    assert [one.status for one in store.attempts(record)] == ["failed", "ok"] and store.has(record)


def broken_spec(store):
    path = store.root / "x" / "y.json"
    path.parent.mkdir(parents=True)
    path.write_text('{"schema_version": 2, "spec": {}}')
    return path


def cut_off(store):
    path = old_record(store, SECOND)
    path.write_text(path.read_text()[:-20])
    return path


def in_the_wrong_folder(store):
    return old_record(store, SECOND, folder="0123456789ab")


def without_a_protocol(store):
    path = old_record(store, SECOND)
    values = json.loads(path.read_text())
    del values["spec"]["protocol"]
    moved = path.parent.with_name(digest(values["spec"])[:12])
    moved.mkdir()
    (moved / path.name).write_text(json.dumps(values))
    path.unlink()
    return moved / path.name


def with_a_metric_that_is_no_percentage(store):
    return old_record(store, SECOND, metrics=[("top1", 101.0)])


def nested_deep(store):
    path = old_record(store, SECOND)
    deep = "[" * 100_000 + "]" * 100_000
    path.write_text(path.read_text().replace('"config": {}', f'"config": {{"x": {deep}}}'))
    return path


@pytest.mark.parametrize(
    "damage",
    [broken_spec, cut_off, in_the_wrong_folder, without_a_protocol, with_a_metric_that_is_no_percentage, nested_deep],
)
def test_a_damaged_record_is_one_line_and_stays_and_the_others_go_on(store, tmp_path, capsys, damage):
    path = damage(store)
    text = path.read_text()
    good = old_record(store, seed=5)
    assert migrate(store) == 1 and path.read_text() == text
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning")]
    assert f"{path.name} is not a run record (" in line and line.endswith("move it away") and len(line) < 700
    assert [one.name for one in (tmp_path / "runs-schema-2").rglob("*.json")] == [good.name]
    assert [record.spec.seed for record in store.load_all()] == [5]


def test_a_record_of_schema_1_is_named_and_stays(store, capsys):
    path = old_record(store)
    text = path.read_text().replace('"schema_version": 2', '"schema_version": 1', 1)
    path.write_text(text)
    assert migrate(store) == 0 and list(store.load_all()) == [] and path.read_text() == text
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{path.name} is not a run record (schema_version 1, expected 3): move it away" in line


@pytest.mark.parametrize("step", ["before the record is written", "before the old one is kept"])
@pytest.mark.parametrize("letter", ["a", "b"])
def test_a_migration_that_was_killed_is_repeated_with_the_same_result(tmp_path, monkeypatch, step, letter):
    """Killed at the first or at the second record: what it had written is written again."""
    results = {}
    for killed in (False, True):
        monkeypatch.setenv("RESULTS_DIR", str(tmp_path / str(killed)))
        store = ResultsStore()
        for stem in (FIRST, SECOND):
            path = old_record(store, stem)
            files_of(path).mkdir()
            (files_of(path) / "predictions.json").write_text(stem)
        if killed:
            with monkeypatch.context() as patched:
                kill(patched, step, letter * 6)
                with pytest.raises(KeyboardInterrupt):
                    migrate(store)
            assert migrate(store) == (1 if letter == "b" else 2)
        else:
            assert migrate(store) == 2
        results[killed] = state_of(store.root.parent)
    assert results[True] == results[False]
    assert [record.files for record in store.load_all()] == [("predictions.json",)] * 2


def kill(patched, step, letters):
    """Interrupt the migration of the record named ``letters``."""
    rename = Path.rename

    def interrupted(path, target):
        if path.name.endswith(f"{letters}.json"):
            raise KeyboardInterrupt
        return rename(path, target)

    def write(path, values):
        if path.stem.endswith(letters):
            raise KeyboardInterrupt
        path.write_text(json.dumps(values, indent=1) + "\n")

    if step == "before the old one is kept":
        patched.setattr(Path, "rename", interrupted)
    else:
        patched.setattr("benchmarks.migrate.write_json", write)


@pytest.mark.parametrize("where", ["mkdir", "write_json", "rename"])
def test_a_folder_that_cannot_be_written_costs_a_warning_alone(store, monkeypatch, capsys, where):
    """As root, nothing is read-only: the error is raised in its place."""
    path = old_record(store)
    text = path.read_text()

    def refuse(*arguments, **more):
        raise PermissionError(30, "Read-only file system", "/results")

    with monkeypatch.context() as patched:
        if where == "write_json":
            patched.setattr("benchmarks.migrate.write_json", refuse)
        else:
            patched.setattr(Path, where, refuse)
        assert migrate(store) == 0
    (line,) = capsys.readouterr().err.splitlines()
    assert line == "warning: records of schema 2 cannot be migrated: Read-only file system (/results)"
    assert path.read_text() == text
    assert migrate(store) == 1 and len(list(store.load_all())) == 1


def test_the_commands_migrate_first(store, capsys):
    path = old_record(store, task_version=TASKS["low-shot"].version)
    assert main(["tables", "demo"]) == 0
    said = capsys.readouterr().err
    assert "migrated 1 run records" in said and "| mine" in said and "7.0 (1)" in said
    with pytest.raises(InputError, match="is not there, the data of this run"):  # it was found where it is now
        main(["show", str(path)])
