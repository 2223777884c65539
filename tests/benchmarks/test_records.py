"""Run specs, records and the store: python -m pytest tests/benchmarks/test_records.py"""

import dataclasses
import hashlib
import json

import pytest

from benchmarks.records import ResultsStore, files_of
from pretrain.errors import InputError
from tests.benchmarks.doubles import make_record, make_spec


def test_spec_id_is_the_digest_of_the_canonical_json():
    spec = make_spec(seed=3, overrides=("SOLVER.MAX_ITER", "5"))
    text = json.dumps(dataclasses.asdict(spec), sort_keys=True, separators=(",", ":"))
    assert spec.spec_id == hashlib.sha256(text.encode()).hexdigest()[:12]


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(make_spec())])
def test_every_field_of_the_spec_is_part_of_its_identity(field):
    spec = make_spec()
    value = getattr(spec, field)
    others = {"overrides": ("A", "1"), "num_gpus": 8, "input": dataclasses.replace(spec.input, channel_order="BGR")}
    other = others.get(field) or (value + 1 if isinstance(value, int) else value + "x")
    assert dataclasses.replace(spec, **{field: other}).spec_id != spec.spec_id


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


@pytest.mark.parametrize("text", ["", "{", "[]", '{"schema_version": 99}', '{"schema_version": 1}'])
def test_a_broken_record_is_named(tmp_path, text):
    path = tmp_path / "x" / "y.json"
    path.parent.mkdir()
    path.write_text(text)
    with pytest.raises(InputError, match=r"y\.json"):
        list(ResultsStore(tmp_path).load_all())


def test_a_broken_record_does_not_count_as_done(tmp_path, capsys):
    store, spec = ResultsStore(tmp_path), make_spec()
    path = store.save(make_record(spec, {"top1": 1.0}))
    assert store.has(spec)
    path.write_text("{")
    assert not store.has(spec) and str(path) in capsys.readouterr().err


def test_undefined_is_null_and_nan_is_refused(tmp_path):
    store = ResultsStore(tmp_path)
    assert json.loads(store.save(make_record(make_spec(), {"top1": None})).read_text())["metrics"]["top1"] is None
    with pytest.raises(ValueError):
        store.save(make_record(make_spec(), {"top1": float("nan")}))
    assert len(list(tmp_path.rglob("*"))) == 2  # the folder and the one good record: nothing half-written stays
