"""A suite's data, rows and checkpoints before anything is started."""

import dataclasses
import json
from functools import partial
from pathlib import Path

import pytest

from benchmarks import suite_run
from benchmarks.data.emoji import generate
from benchmarks.data.root import DataRoot
from benchmarks.executors.base import Outcome
from benchmarks.executors.local import LocalExecutor
from benchmarks.plan import Plan
from benchmarks.suite_run import _own_roots, _root, _root_for, check_rows, run_suite
from benchmarks.suites import SUITES, Row, SuiteColumn
from benchmarks.tasks import TASKS
from pretrain.common.errors import InputError
from tests.benchmarks.data.test_emoji import TINY
from tests.benchmarks.plans import add_layout


def test_a_checkpoint_may_not_take_a_row_of_the_suite(tmp_path):
    with pytest.raises(InputError, match="simclr"):
        run_suite(SUITES["smoke"], {"simclr": tmp_path}, LocalExecutor(workers=1), 1, 0, ())


def test_paper_lists_what_is_missing_and_where_it_looked(tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("RESULTS_DIR", str(tmp_path))
    monkeypatch.setenv("IMAGENET_DIR", "/data/in1k")
    monkeypatch.delenv("DETECTRON2_DATASETS", raising=False)
    with pytest.raises(InputError, match="the standard data lack imagenet, voc, coco: nothing was started"):
        run_suite(SUITES["paper"], {"mine": tmp_path / "x.pth"}, LocalExecutor(workers=1), 1, 0, ())
    said = capfd.readouterr().err
    assert "/data/in1k is not there" in said and "DETECTRON2_DATASETS is not set" in said
    assert "python -m benchmarks prepare imagenet /data/in1k" in said
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    with pytest.raises(InputError):
        run_suite(SUITES["paper"], {"mine": tmp_path / "x.pth"}, LocalExecutor(workers=1), 1, 0, ())
    assert (
        f"{tmp_path} is there; prepare it with: python -m benchmarks prepare voc {tmp_path}" in capfd.readouterr().err
    )


def test_paper_does_not_take_a_root_of_that_name_for_the_standard_set(root, monkeypatch, capfd):
    monkeypatch.setenv("DATA_DIR", str(root.parent / "data"))
    (root.parent / "data").mkdir()
    root.rename(root.parent / "data" / "imagenet")
    with pytest.raises(InputError, match="the standard data lack imagenet"):
        run_suite(SUITES["paper"], {"mine": root}, LocalExecutor(workers=1), 1, 0, ())
    assert "NOT THE STANDARD SET ImageNet-1k" in capfd.readouterr().err


def test_a_checkpoint_may_not_take_the_name_of_a_group_of_rows(tmp_path):
    suite = dataclasses.replace(SUITES["smoke"], rows=(Row(label="two", preset="smoke-random", seeds=(0, 1)),))
    for label in ("two", "two #1"):
        with pytest.raises(InputError, match=f"{label}: the suite has a row of that name"):
            run_suite(suite, {label: tmp_path}, LocalExecutor(workers=1), 1, 0, ())


def test_a_suite_of_checkpoints_alone_asks_for_them():
    suite = dataclasses.replace(SUITES["smoke"], rows=())
    with pytest.raises(InputError, match="suite smoke evaluates checkpoints: give CHECKPOINTS="):
        run_suite(suite, {}, LocalExecutor(workers=1), 1, 0, ())


@pytest.mark.parametrize(
    ("preset", "flags", "words"),
    [
        ("smoke-simplr", (), "row mine: unknown preset smoke-simplr"),
        ("smoke-simclr", ("--stepps", "3"), "row mine: smoke-simclr --stepps 3: .*--stepps"),
        ("smoke-simclr", ("--steps", "many"), "row mine: smoke-simclr --steps many: .*many"),
    ],
)
def test_a_preset_that_there_is_not_and_flags_that_it_lacks_are_named(preset, flags, words, capfd):
    with pytest.raises(InputError, match=words) as caught:
        check_rows([("ours", "smoke-simclr", ("--steps", "3")), ("mine", preset, flags)])
    assert "\n" not in str(caught.value) and capfd.readouterr() == ("", "")


def test_a_suite_on_ones_own_data_takes_a_root_per_layout(root, tmp_path, capsys):
    add_layout(root, "voc")
    suite = SUITES["small"]
    assert _own_roots(suite, (root,)) == dict.fromkeys(("imagenet", "voc"), DataRoot.load(root))
    assert capsys.readouterr().err == "left out, no data with their layout: coco-det-fpn-1x\n"
    assert _own_roots(SUITES["smoke"], ()) is None
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "data.json").write_text((root / "data.json").read_text().replace('"toy"', '"other"'))
    with pytest.raises(InputError, match="toy and other both have layout imagenet: give one of them"):
        _own_roots(suite, (root, tmp_path / "other"))
    detectors = dataclasses.replace(suite, columns=suite.columns[-1:])
    with pytest.raises(InputError, match="suite small has no task that reads data set toy: leave it out"):
        _own_roots(detectors, (root,))
    add_layout(root, "coco")
    assert list(_own_roots(detectors, (root,))) == ["coco"]
    pretrained = dataclasses.replace(detectors, rows=(Row(label="r", preset="smoke-random"),))
    assert list(_own_roots(pretrained, (root,))) == ["imagenet", "coco"]
    add_layout(tmp_path / "other", "coco")
    alone = json.loads((tmp_path / "other" / "data.json").read_text())
    del alone["imagenet"], alone["voc"]
    (tmp_path / "other" / "data.json").write_text(json.dumps(alone))
    with pytest.raises(InputError, match="suite small pretrains on an imagenet layout: give a root that has one"):
        _own_roots(pretrained, (tmp_path / "other",))


def test_data_are_asked_for_where_they_are_read_and_refused_elsewhere(root):
    run = partial(run_suite, executor=LocalExecutor(workers=1), workers=1, num_gpus=0, opts=())
    with pytest.raises(InputError, match="suite small reads your data: give --data"):
        run(SUITES["small"], {"mine": root})
    for name in ("smoke", "paper"):
        with pytest.raises(InputError, match=f"--data {root}: suite {name} has data of its own; leave it out"):
            run(SUITES[name], {"mine": root}, data=(root,))
    with pytest.raises(InputError, match="the embedded set has no size for profile small"):
        _root("emoji", "small", 1)


def test_a_standard_root_stands_for_the_layouts_of_its_source_alone(root):
    coco = DataRoot.load(root)
    roots = {"coco": coco}
    assert _root_for(TASKS["coco-fpn-1x"], roots) is _root_for(TASKS["coco-keypoint-fpn-2x"], roots) is coco
    with pytest.raises(InputError, match=r"lvis-v1-fpn-1x: the standard data have no lvis layout: .*`prepare lvis`"):
        _root_for(TASKS["lvis-v1-fpn-1x"], roots)


def test_rows_are_pretrained_on_data_of_their_own(root, tmp_path, monkeypatch):
    """Each run reads its own root's images and has a log of its own; the columns read the suite's data."""
    other = tmp_path / "other"
    other.mkdir()
    (other / "data.json").write_text((root / "data.json").read_text().replace('"toy"', '"other"'))
    rows = [Row(label=name, preset="smoke-simclr", data=data) for name, data in (("a", ""), ("b", str(other)))]
    suite = dataclasses.replace(
        SUITES["smoke"], data=str(root), rows=tuple(rows), columns=(SuiteColumn(task="knn"),), name="mine"
    )
    started = {}

    class Noted(LocalExecutor):
        def run(self, jobs, **_):
            started.update({job.name: job for job in jobs if job.stage == "pretrain and import"})
            return Outcome()

    monkeypatch.setattr(suite_run, "resolve_columns", lambda plan, executor: plan)
    monkeypatch.setattr(suite_run, "finish", lambda *_: 0)
    monkeypatch.setenv("RESULTS_DIR", str(tmp_path / "results"))
    assert run_suite(suite, {}, Noted(workers=1), 1, 0, ()) == 0
    folders = {name: job.arguments["data"] for name, job in started.items()}
    assert folders == {"a pretrain": root / "imagenet" / "train", "b pretrain": other / "imagenet" / "train"}
    assert started["a pretrain"].log.name == "pretrain-smoke-simclr.log"
    assert started["b pretrain"].log.name == "pretrain-smoke-simclr-other.log"
    bare = dataclasses.replace(suite, rows=(dataclasses.replace(rows[1], data=str(tmp_path / "none")),))
    with pytest.raises(InputError, match="none is not a prepared data root"):
        run_suite(bare, {}, Noted(workers=1), 1, 0, ())


def test_an_embedded_set_is_generated_in_the_size_of_the_profile(tmp_path, monkeypatch):
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    monkeypatch.setitem(generate.EMOJI_SETS, "smoke", TINY)
    assert _root("emoji", "smoke", 1).path == tmp_path / "emoji-smoke"
    assert _root("emoji-other-classes", "smoke", 1).path == tmp_path / "emoji-smoke-other-classes"
    with pytest.raises(InputError, match="the embedded set has no size for profile paper"):
        _root("emoji-other-classes", "paper", 1)


@pytest.mark.parametrize(("first", "second", "said"), [
    ((0, 1), (0, 1), [("b #0", "/runs/a #0"), ("b #1", "/runs/a #1")]),
    ((), (0, 1), [("b #0", "/runs/a"), ("b #1", "/runs/a")]),
])  # fmt: skip
def test_a_row_follows_the_run_of_its_seed(first, second, said, root, monkeypatch):
    """What a finished run gives: the jobs of the rows that wait for it, with its folder in their flags."""
    rows = (
        Row(label="a", preset="smoke-simclr", seeds=first),
        Row(label="b", preset="smoke-simclr", flags=("--x", "{after}/y", "--long", "z" * 200), seeds=second, after="a"),
    )
    suite = dataclasses.replace(SUITES["smoke"], rows=rows)
    plan = Plan(profile="smoke", columns=(), num_gpus=0)
    monkeypatch.setattr(suite_run, "evaluated", lambda label, path: label)
    monkeypatch.setattr(Plan, "jobs", lambda plan, found, saved: [])
    ready, started, logs = {}, [], []
    data = dict.fromkeys(("a", "b"), DataRoot.load(root))
    for job in suite_run._pretraining_jobs(plan, suite, rows[0], data, ready, []):
        label = job.name.removesuffix(" pretrain")
        for follower in job.then((Path("/runs") / label / "backbone.safetensors", "")):
            logs.append(follower.log.name)
            flags = follower.arguments["flags"]
            assert flags[0] == "--x" and "{after}" not in flags[1]
            started.append((follower.name.removesuffix(" pretrain"), flags[1].removesuffix("/y")))
    assert len(set(logs)) == len(said) and max(map(len, logs)) < 150  # none is cut off before its seed
    assert sorted(started) == said and set(ready) == ({f"a #{seed}" for seed in first} or {"a"})
