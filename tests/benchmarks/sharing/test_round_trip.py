"""Runs leave one results folder as a file and are rows of another's tables; own runs stay as they are."""

import dataclasses
import json
import re
import zipfile

import numpy as np
import pandas as pd
import pytest

from benchmarks import __main__ as commands
from benchmarks.audit.command import main as audit
from benchmarks.predictions import FILE, Predictions
from benchmarks.records import ResultsStore, files_of, imports_dir, store_of
from benchmarks.report.compare import compare
from benchmarks.sharing.commands import export_main, import_main
from benchmarks.sharing.imported import imports, newest_of, theirs, with_imports
from pretrain.common.errors import InputError
from tests.benchmarks.audit.conftest import linear
from tests.benchmarks.doubles import make_record, make_spec


def keep(label, sha, top1=None, *, seed=0, error=None, **changes):
    """A finished run with predictions and a log, of 20 images; its file."""
    target = [0, 1] * 10
    right = 10 + seed if top1 is None else round(top1 / 5)
    predicted = [one if number < right else 1 - one for number, one in enumerate(target)]
    spec = make_spec(checkpoint_sha256=sha * 64, seed=seed, **(changes or linear()))
    record = make_record(spec, {} if error else {"top1": 5.0 * right}, label=label, error=error)
    if error:
        return ResultsStore().save(record)
    folder = ResultsStore().working_folder(spec)
    Predictions(target=np.array(target), predicted=np.array(predicted)).save(folder)
    (folder / "log.txt").write_text("epoch 1")
    return ResultsStore().save(dataclasses.replace(record, files=(FILE, "log.txt"), test_images=20))


@pytest.fixture
def machines(tmp_path, monkeypatch):
    """Call with a name to be on that machine."""

    def use(name):
        monkeypatch.setenv("RESULTS_DIR", str(tmp_path / name))
        return tmp_path / name

    use("here")
    return use


@pytest.fixture
def archive(machines, tmp_path):
    """Six runs of another machine."""
    machines("there")
    for seed in range(3):
        keep("mine", "a", seed=seed)
    for run in range(2):
        keep(f"ours #{run}", "bc"[run], seed=0)
    keep("mine", "a", task="knn", profile="demo")
    keep("broken", "d", error="out of memory")
    export_main([str(tmp_path / "x.zip")])
    machines("here")
    return tmp_path / "x.zip"


def test_the_same_runs_give_the_same_bytes(archive, machines, tmp_path):
    machines("there")
    export_main([str(tmp_path / "y.zip")])
    assert archive.read_bytes() == (tmp_path / "y.zip").read_bytes()
    manifest = json.loads(zipfile.ZipFile(archive).read("manifest.json"))
    assert sorted(manifest["labels"]) == ["mine", "ours #0", "ours #1"] and manifest["commits"] == ["c" * 40]
    assert manifest["data"] == {"toy": {"description": "a toy", "fingerprints": {"imagenet": ["f" * 64]}}}
    assert len(manifest["files"]) == 12 and not any("log" in name for name in manifest["files"])
    assert str(tmp_path).encode() not in archive.read_bytes()


def test_a_selection(archive, machines, tmp_path, capsys):
    machines("there")

    def packed(*flags):
        export_main([str(tmp_path / "z.zip"), *flags])
        return [name for name in zipfile.ZipFile(tmp_path / "z.zip").namelist() if name.endswith(".json")][1:]

    assert len(packed("--profile", "demo")) == 1 and len(packed("--label", "ours")) == 2
    assert len(packed("--label", "ours #1")) == 1 and len(packed("--task", "knn", "--label", "mine")) == 1
    export_main([str(tmp_path / "z.zip"), "--logs", "--label", "ours"])
    assert sum(name.endswith("/log.txt") for name in zipfile.ZipFile(tmp_path / "z.zip").namelist()) == 2
    with pytest.raises(InputError, match=r"no finished run of nobody under .*: it has mine, ours #0, ours #1"):
        packed("--label", "mine", "nobody")
    with pytest.raises(InputError, match="no finished run of broken"):
        packed("--label", "broken")
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(InputError, match="is no archive"):
        export_main([str(tmp_path / "thesis.txt")])
    with pytest.raises(InputError, match="nothing to write"):
        export_main([])


def test_predictions_that_are_gone_are_not_left_out_silently(machines, tmp_path):
    (files_of(keep("mine", "a")) / FILE).unlink()
    with pytest.raises(InputError, match=f"{FILE} is gone"):
        export_main([str(tmp_path / "x.zip")])
    assert not (tmp_path / "x.zip").exists()


def test_records_arrive_byte_for_byte(archive, machines, capsys):
    import_main([str(archive), "--as", "lab"])
    assert capsys.readouterr().out == "imported as lab: 6 runs of mine, ours #0, ours #1\n"
    assert imports() == ["lab"]
    there, here = machines("there"), machines("here")
    names = [path.relative_to(there) for path in ResultsStore(there / "runs").all_paths()]
    for name in names:
        if "out of memory" in (there / name).read_text():
            continue
        assert (here / "imported" / "lab" / name).read_bytes() == (there / name).read_bytes()
        files = files_of(name) / FILE
        assert (here / "imported" / "lab" / files).read_bytes() == (there / files).read_bytes()
    import_main([str(archive), "--as", "lab"])
    assert capsys.readouterr().out == "it is imported as lab already\n"
    assert not list(imports_dir().glob(".*"))


def test_a_name_is_not_given_twice(archive, machines, tmp_path):
    import_main([str(archive), "--as", "lab"])
    keep("mine", "a", 50.0)
    export_main([str(tmp_path / "other.zip")])
    with pytest.raises(InputError, match=r"imported/lab holds another import: choose another name with --as"):
        import_main([str(tmp_path / "other.zip"), "--as", "lab"])
    for name in ("../lab", ".lab", "a/b", "", "x" * 41):
        with pytest.raises(InputError, match="--as "):
            import_main([str(archive), "--as", name])


def test_tables_show_them_as_theirs(archive, machines, capsys):
    import_main([str(archive), "--as", "lab"])
    assert commands.tables_main(["smoke"]) == 0
    table = machines("here") / "tables" / "smoke-all.csv"
    frame = pd.read_csv(table)
    assert [*frame[frame.metric == "top1"].checkpoint] == ["mine [lab]", "ours [lab] #0", "ours [lab] #1"]
    assert {*frame.imported} == {"lab"} and (frame["mean"][0], frame["n"][0]) == (55.0, 3)
    text = table.with_suffix(".md").read_text()
    assert "Imported from lab, run there: mine [lab], ours [lab] #0, ours [lab] #1." in text.replace("\\", "")
    assert "Imported from" in table.with_suffix(".tex").read_text()
    assert audit([str(table)]) == 0
    out = capsys.readouterr().out
    assert "6 cells: 0 ok, 0 changed, 6 that cannot be checked in every part" in out
    assert re.search(r"cannot be checked: mine \[lab\] .*data: data set toy is not here", out)
    assert "  predictions: 3 ok" in out and "  records: 6 ok" in out


def test_an_import_edited_afterwards_is_found(archive, machines, capsys):
    import_main([str(archive), "--as", "lab"])
    commands.tables_main(["smoke"])
    (record,) = (one for one in newest_of("lab").values() if (one.label, one.spec.seed) == ("mine [lab]", 1))
    (path,) = store_of(record).paths(record.spec)
    path.write_text(path.read_text().replace('"label": "mine"', '"label": "mine" '))
    assert audit([str(machines("here") / "tables" / "smoke-all.csv")]) == 1
    assert (
        f"imported/lab/runs/{record.spec.spec_id}/{path.name} is not the file that was imported"
        in capsys.readouterr().out
    )


def test_of_one_run_on_both_machines_ones_own_is_shown(archive, machines, capsys):
    keep("same", "a", 90.0)
    keep("again", "b", error="out of memory")
    before = {path: path.read_bytes() for path in ResultsStore().all_paths()}
    import_main([str(archive), "--as", "lab"])
    assert "1 of them were run here too" in capsys.readouterr().out
    assert {path: path.read_bytes() for path in ResultsStore().all_paths()} == before
    own = ResultsStore().all_newest()
    found, hidden = with_imports(own)
    assert hidden == {"lab": 1}
    linear_runs = [record for record in found.values() if record.spec.task == "linear"]
    at = {(record.label, record.spec.seed): record.metrics.get("top1") for record in linear_runs}
    assert at.keys() == {("same", 0), ("mine [lab]", 1), ("mine [lab]", 2), ("ours [lab] #0", 0), ("ours [lab] #1", 0)}
    assert at["same", 0] == 90.0 and at["ours [lab] #0", 0] == 50.0  # which failed here
    preferred, hidden = with_imports(own, ["lab"])
    labels = {(record.label, record.spec.task, record.spec.seed) for record in preferred.values()}
    assert hidden == {} and ("mine [lab]", "linear", 0) in labels and ("same", "linear", 0) not in labels
    with pytest.raises(InputError, match="nothing is imported as elsewhere: there is lab"):
        with_imports(own, ["elsewhere"])
    assert commands.tables_main(["smoke"]) == 0
    assert "1 runs of lab are of others too" in capsys.readouterr().err
    spec = make_spec(checkpoint_sha256="a" * 64, seed=1, **linear())
    assert not ResultsStore().has(spec)  # an imported run is none of this machine's


def test_both_are_compared(archive, machines):
    for seed in range(3):
        keep("mine", "a", 80.0 + 5 * seed, seed=seed)
    import_main([str(archive), "--as", "lab"])
    paths = compare("mine", "mine [lab]", "smoke")
    (row,) = pd.read_csv(paths[1]).to_dict("records")
    assert (row["mean_a"], row["mean_b"], row["levels"]) == (85.0, 55.0, "images seeds")
    (row,) = pd.read_csv(compare("mine", "ours [lab]", "smoke")[1]).to_dict("records")
    assert row["n_b"] == "2×1"
    with pytest.raises(InputError, match=r"has no run of nobody: it has mine, mine \[lab\], ours \[lab\] #0"):
        compare("mine", "nobody", "smoke")


def test_a_record_does_not_say_itself_that_it_is_imported(machines):
    path = keep("mine", "a")
    assert "imported" not in json.loads(path.read_text())
    values = json.loads(path.read_text()) | {"imported": "lab"}
    path.write_text(json.dumps(values))
    with pytest.raises(InputError, match="imported is set"):
        ResultsStore().load(path)
    record = make_record(make_spec(), {}, label="two\nlines #3")
    assert theirs(record, "lab").label == "two\nlines [lab] #3"
