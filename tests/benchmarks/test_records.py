"""Run specs, records and the store."""

import dataclasses
import hashlib
import json
import os
from pathlib import Path

import pytest

from benchmarks.records import ResultsStore, files_of
from pretrain.common.errors import InputError
from pretrain.common.pixels import PixelInput
from tests.benchmarks.doubles import IMAGENET_INPUT, make_record, make_spec
from tests.benchmarks.plans import evaluated


def test_spec_id_is_the_digest_of_the_canonical_json():
    spec = make_spec(seed=3, overrides=("SOLVER.MAX_ITER", "5"))
    text = json.dumps(dataclasses.asdict(spec), sort_keys=True, separators=(",", ":"))
    assert spec.spec_id == hashlib.sha256(text.encode()).hexdigest()[:12]


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(make_spec())])
def test_every_field_of_the_spec_is_part_of_its_identity(field):
    spec = make_spec()
    value = getattr(spec, field)
    others = {"overrides": ("A", "1"), "num_gpus": 8, "input": dataclasses.replace(spec.input, order="BGR")}
    other = others.get(field) or (value + 1 if isinstance(value, int) else value + "x")
    assert dataclasses.replace(spec, **{field: other}).spec_id != spec.spec_id


def test_statistics_that_differ_by_rounding_are_one_input():
    mean = tuple(value + 1e-12 for value in IMAGENET_INPUT.mean)
    for order in ("RGB", "BGR"):
        one = evaluated(Path("x"), input=PixelInput(mean=mean, order=order, assumed="the order"))
        assert (one.input == IMAGENET_INPUT) is (order == "RGB") and one.input.assumed == ""


def test_label_is_not_part_of_the_identity(tmp_path):
    store = ResultsStore(tmp_path)
    first = store.save(make_record(make_spec(), {"top1": 1.0}, label="a"))
    second = store.save(make_record(make_spec(), {"top1": 2.0}, label="b"))
    assert first.parent == second.parent and first != second


def test_round_trip(tmp_path):
    store = ResultsStore(tmp_path)
    for spec in (make_spec(overrides=("A", "1")), make_spec(input=None)):
        record = make_record(spec, {"top1": 12.5, "top5": None}, notes=("half of it",))
        assert store.load(store.save(record)) == record


def test_an_ok_attempt_takes_its_files_and_a_failed_one_leaves_them_to_the_next(tmp_path):
    store, spec = ResultsStore(tmp_path), make_spec()
    store.working_folder(spec).mkdir(parents=True)
    (store.working_folder(spec) / "log.txt").write_text("begun\n")
    failed = store.save(make_record(spec, {}, error="no disk"))
    assert not files_of(failed).exists() and (store.working_folder(spec) / "log.txt").exists()
    done = store.save(make_record(spec, {"top1": 1.0}))
    assert (files_of(done) / "log.txt").read_text() == "begun\n" and not store.working_folder(spec).exists()


def test_of_attempts_within_one_second_the_last_is_the_newest(tmp_path):
    store, spec = ResultsStore(tmp_path), make_spec()
    for value in range(20):
        store.save(make_record(spec, {"top1": float(value)}))
    assert [record.metrics["top1"] for record in store.attempts(spec)] == list(range(20))


def test_failed_attempts_do_not_count_as_done_and_newest_ok_wins(tmp_path):
    store, spec = ResultsStore(tmp_path), make_spec()
    assert store.newest(spec) is None and not store.has(spec)
    folder = store.path_for(spec)
    folder.mkdir(parents=True)
    attempts = [
        ("20260101T000000Z-aaaaaa", make_record(spec, {"top1": 1.0})),
        ("20260102T000000Z-aaaaaa", make_record(spec, {"top1": 2.0})),
        ("20260103T000000Z-aaaaaa", make_record(spec, {}, error="no disk")),
    ]
    for stem, record in attempts:
        (folder / f"{stem}.json").write_text(json.dumps(dataclasses.asdict(record)))
    assert store.has(spec) and store.newest(spec).metrics == {"top1": 2.0}
    frame = store.frame()
    assert frame["value"].tolist() == [2.0] and frame["spec_id"].tolist() == [spec.spec_id]
    for stem, _ in attempts[:2]:
        (folder / f"{stem}.json").unlink()
    assert not store.has(spec) and store.newest(spec).error == "no disk"


def changed(**fields):
    """A change of a record's JSON: each field, with __ between the levels, gets the value."""

    def change(values):
        for field, value in fields.items():
            *parents, last = field.split("__")
            place = values
            for parent in parents:
                place = place[parent]
            place[last] = value
        return json.dumps(values)

    return change


def without(field):
    return lambda values: json.dumps({key: value for key, value in values.items() if key != field})


DEEP = "[" * 100_000
SPOILED = {  # how → its text, and what is said of it
    "empty": (lambda values: "", "an empty file"),
    "cut off": (lambda values: json.dumps(values)[:-40], "Unterminated string"),
    "a list": (lambda values: "[]", "not an object"),
    "a number": (lambda values: "1", "not an object"),
    "null": (lambda values: "null", "not an object"),
    "not UTF-8": (lambda values: b"\xff\xfe{}", "codec"),
    "two records": (lambda values: json.dumps(values) * 2, "Extra data"),
    "of another schema": (changed(schema_version=99), "schema_version 99, expected 3"),
    "of a schema in words": (changed(schema_version="2" * 10_000), "expected 3"),
    "without a schema": (without("schema_version"), "schema_version None"),
    "nested deep": (lambda values: DEEP, "nested too deep"),
    "settings are a number": (changed(config=1), "config is 1, not an object"),
    "no spec": (without("spec"), "lacks spec"),
    "spec is null": (changed(spec=None), "spec is None, not an object"),
    "spec lacks a field": (changed(spec={"task": "linear"}), "spec lacks checkpoint_sha256"),
    "spec has a field more": (changed(spec__colour="red"), "unknown field 'colour'"),
    "task is a list": (changed(spec__task=["linear"]), r"spec.task is ['linear'], not text"),
    "seed is text": (changed(spec__seed="0"), "spec.seed is '0', not a whole number"),
    "seed is a fraction": (changed(spec__seed=0.5), "spec.seed is 0.5, not a whole number"),
    "seed is true": (changed(spec__seed=True), "spec.seed is True, not a whole number"),
    "seed is huge": (changed(spec__seed=10**4000), "bits"),
    "overrides are text": (changed(spec__overrides="A 1"), "spec.overrides is 'A 1', not a list"),
    "an override is null": (changed(spec__overrides=["A", None]), "spec.overrides[1] is None, not text"),
    "input is text": (changed(spec__input="RGB"), "spec.input is 'RGB', not an object"),
    "a mean is text": (changed(spec__input__mean=["a"]), "spec.input.mean[0] is 'a', not a number"),
    "another run's": (changed(spec__seed=7), "not to its folder"),
    "label is null": (changed(label=None), "label is None, not text"),
    "label is an object": (changed(label={}), "label is {}, not text"),
    "status unknown": (changed(status="OK"), "status is 'OK'"),
    "failed without an error": (changed(status="failed"), "status is failed, without an error"),
    "ok with an error": (changed(error="no disk"), "status is ok, with an error"),
    "metrics are a list": (changed(metrics=[1.0]), "metrics is [1.0], not an object"),
    "a metric is text": (changed(metrics__top1="12"), "metrics.top1 is '12', not a number"),
    "a metric is true": (changed(metrics__top1=True), "metrics.top1 is True, not a number"),
    "a metric is NaN": (changed(metrics__top1=float("nan")), "NaN"),
    "a metric is infinite": (changed(metrics__top1=float("-inf")), "Infinity"),
    "a metric overflows": (lambda values: json.dumps(values).replace("12.5", "1e999"), "metrics.top1 is inf"),
    "a metric is huge": (changed(metrics__top1=1e200), "not a percentage"),
    "a metric is negative": (changed(metrics__top1=-1.0), "not a percentage"),
    "no description": (changed(data={"synthetic": True}), "data.description is not text"),
    "data is text": (changed(data="toy"), "data is 'toy', not an object"),
    "git without commit": (changed(git={"dirty": False}), "git lacks commit"),
    "notes are text": (changed(notes="note"), "notes is 'note', not a list"),
    "start is no time": (changed(start="yesterday"), "Invalid isoformat"),
    "seconds are NaN": (changed(wall_seconds=float("nan")), "NaN"),
    "seconds are text": (changed(wall_seconds="1"), "wall_seconds is '1', not a number"),
    "a message for the terminal": (changed(status="\x1b[2J"), r"status is '\x1b[2J'"),
}


@pytest.fixture
def store(tmp_path):
    """A store with one sound record, beside which others are spoiled."""
    store = ResultsStore(tmp_path / "runs")
    store.save(make_record(make_spec(seed=100), {"top1": 50.0}))
    return store


def is_left_out(store, path, spec, capsys):
    """Whether the record does not count anywhere, and is named in one line, once."""
    assert [record.spec.seed for record in store.load_all()] == [100]
    assert not store.has(spec) and len(store.all_newest()) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"warning: {path} ")
    return line


@pytest.mark.parametrize("how", SPOILED)
def test_a_spoiled_record_is_named_and_left_out(store, capsys, how):
    spec = make_spec()
    path = store.save(make_record(spec, {"top1": 12.5}))
    spoil, words = SPOILED[how]
    text = spoil(json.loads(path.read_text()))
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    assert words in is_left_out(store, path, spec, capsys)


def dangling(path):
    path.symlink_to(path.parent / "nowhere.json")


def looping(path):
    path.symlink_to(path)


def large(path):
    with path.open("wb") as stream:
        stream.truncate(2**40)


def endless(path):
    path.symlink_to("/dev/zero")


def never_ready(path):
    path.symlink_to("/proc/kmsg")


PLACES = {os.mkfifo: "not a regular file", Path.mkdir: "a folder", dangling: "No such file", looping: "Too many levels"}
PLACES |= {large: "a file of 1,048,576 MB", endless: "not a regular file", never_ready: "an empty file"}


@pytest.mark.parametrize("make", PLACES, ids=lambda make: make.__name__)
def test_what_is_no_readable_file_is_named_and_left_out_at_once(store, capsys, make):
    spec = make_spec()
    path = store.path_for(spec) / "20260101T000000Z-aaaaaa.json"
    path.parent.mkdir(parents=True)
    make(path)
    assert PLACES[make] in is_left_out(store, path, spec, capsys)


def test_a_byte_order_mark_and_windows_line_ends_do_no_harm(store, capsys):
    path = store.save(make_record(make_spec(), {"top1": 12.5}))
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    assert store.has(make_spec()) and capsys.readouterr().err == ""


def test_what_is_no_record_by_its_name_is_not_looked_at(store, capsys):
    (store.root / "notes.txt").write_text("mine")
    (store.root / "empty").mkdir()
    (next(store.root.glob("*/*.json")).parent / "._20260101T000000Z-aaaaaa.json").write_text("a Mac's")
    assert len(list(store.load_all())) == 1 and capsys.readouterr().err == ""


def test_a_store_that_cannot_be_listed_is_bad_input_and_none_is_empty(tmp_path):
    looping(tmp_path / "runs")
    with pytest.raises(InputError, match="cannot be read"):
        list(ResultsStore(tmp_path / "runs").load_all())
    os.mkfifo(tmp_path / "pipe")
    assert list(ResultsStore(tmp_path / "pipe").load_all()) == list(ResultsStore(tmp_path / "no").load_all()) == []


def test_a_record_that_is_read_by_its_path_is_refused_by_name(tmp_path):
    (tmp_path / "y.json").write_text("{")
    with pytest.raises(InputError, match=r"y\.json is not a run record"):
        ResultsStore(tmp_path).load(tmp_path / "y.json")


def test_an_outline_keeps_what_tables_show(tmp_path):
    config = {"MODEL": {"MASK_ON": False, "BACKBONE": {"NAME": "fpn"}, "X": 1}, "SOLVER": {"MAX_ITER": 1000}, "SEED": 1}
    record = make_record(make_spec(), {"top1": 1.0}, config=config)
    assert record.outline().detector == record.detector == "Faster R-CNN FPN, 1,000 iterations"
    assert "SEED" not in record.outline().config
    config["MODEL"]["META_ARCHITECTURE"] = "RetinaNet"
    record = make_record(make_spec(), {"top1": 1.0}, config=config)
    assert record.outline().detector == record.detector == "RetinaNet FPN, 1,000 iterations"
    assert make_record(make_spec(), {}, config={"MODEL": 1}).detector is None


def test_undefined_is_null_and_nan_is_refused(tmp_path):
    store = ResultsStore(tmp_path)
    assert json.loads(store.save(make_record(make_spec(), {"top1": None})).read_text())["metrics"]["top1"] is None
    with pytest.raises(ValueError):
        store.save(make_record(make_spec(), {"top1": float("nan")}))
    assert len(list(tmp_path.rglob("*"))) == 2  # the folder and the one good record: nothing half-written stays


def test_a_metric_in_another_unit_than_percent_may_have_any_finite_value(tmp_path):
    store = ResultsStore(tmp_path)
    spec = make_spec(task="information", profile="smoke")
    store.save(make_record(spec, {"predictive": -0.09, "rate": 184.7}))
    assert store.newest(spec).metrics == {"predictive": -0.09, "rate": 184.7}
    store.save(make_record(dataclasses.replace(spec, task="of-a-plugin"), {"error": -3.0}))
    assert len(list(store.load_all())) == 2
