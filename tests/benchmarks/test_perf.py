"""The measurements run and compare what they say."""

import dataclasses
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image

from benchmarks.perf import (
    bootstrap,
    convert,
    data,
    detector,
    evaluators,
    extract,
    linear,
    logistic,
    status,
    step,
    svm,
    tables,
)
from benchmarks.perf.__main__ import main
from benchmarks.perf.timing import medians, table, write_photographs
from benchmarks.records import ResultsStore
from benchmarks.tasks.linear_sgd import STYLES
from pretrain.common.errors import InputError
from pretrain.data import list_images
from tests.benchmarks.contexts import tiny_root
from tests.benchmarks.tasks.voc_roots import colours, voc_root

CHECKOUT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_photographs_have_imagenets_usual_size(tmp_path):
    kilobytes = write_photographs(tmp_path, 4)
    sizes = {Image.open(path).size for path in tmp_path.iterdir()}
    assert sizes == {(500, 375)} and 20 < kilobytes < 200


def test_both_sides_make_the_same_amount_of_views(tmp_path):
    write_photographs(tmp_path, 3)
    images = list_images(tmp_path)
    reference = data.reference_batch(images, data.reference_transform(32))
    ours = data.our_batch(images, 32, "torch").crops
    assert [view.shape for view in reference] == [view.shape for view in ours] == [(3, 3, 32, 32)] * 2


def test_ratios_are_to_the_first_side():
    shown = table("title", 100, {"a": 2.0, "b": 0.5}).splitlines()
    assert re.fullmatch(r"a +50\.0 images/s +1\.00×", shown[1])
    assert re.fullmatch(r"b +200\.0 images/s +4\.00×", shown[2])


def test_every_round_runs_every_side_and_the_first_does_not_count():
    calls = []
    seconds = medians({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, 2)
    assert calls == ["a", "b"] * 3 and set(seconds) == {"a", "b"}


def test_the_commands_print_a_ratio_for_each_side():
    shown = data.measure(data.Arguments(images=2, rounds=1, size=32))
    assert shown.count("×\n") == 3 and "2 JPEGs of 500×375" in shown
    arguments = step.Arguments(backbone="resnet18", image_size=32, batch_size=4, steps=1, rounds=1, workers=1)
    shown = step.measure(arguments)
    assert "from JPEG files, 1 processes" in shown and re.search(r"augmentation is \d+\.\d% of our step$", shown)
    with pytest.raises(
        InputError,
        match="choose data, step, extract, linear, logistic, svm, tables, report, status, "
        "convert, evaluators, detector or bootstrap",
    ):
        main(["steps"])


@pytest.mark.parametrize(("workers", "precision"), [(0, "fp32"), (1, "bf16")])
def test_extraction_has_three_sides_on_the_same_images(monkeypatch, workers, precision):
    written, real = [], extract.extract
    monkeypatch.setattr(extract, "extract", lambda *rest: real(*rest) or written.append(np.load(rest[3])) or None)
    arguments = extract.Arguments(
        architecture="resnet18", images=70, size=32, rounds=1, workers=workers, precision=precision
    )
    shown = extract.measure(arguments)
    assert shown.count("×\n") == 3 and re.search(r"resident \d+%, from files \d+% of the bare forward$", shown)
    assert f"from JPEG files, {workers} processes" in shown and "70 images in batches of 64" in shown
    resident, files, *_ = written
    assert resident.shape == (70, 512) and (resident == files).all() and len(written) == 4
    with pytest.raises(InputError, match="--size 32 or more"):
        extract.measure(extract.Arguments(size=8))


def test_linear_evaluation_keeps_one_copy_of_the_features():
    """Float32 as at ImageNet's size: less than half a copy beside them, chunks and solver included.

    In a process of its own: what earlier tests have freed would hide what this one needs.
    """
    code = (
        "from benchmarks.tasks.compute import logistic as evaluation; from benchmarks.perf import logistic\n"
        "evaluation.DOUBLE_BYTES, evaluation.CHUNK = 0, 1024\n"
        "print(logistic.measure(logistic.Arguments(rows=50_000, dim=1024, classes=10, decays=2, iterations=1)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=CHECKOUT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    features, rest = map(float, re.search(r"the features (\S+), the rest (\S+)", done.stdout).groups())
    assert features == pytest.approx(0.2, abs=0.01) and 0 < rest < 0.1
    assert "3 fits, 0 converged" in done.stdout and re.search(r"for 1,281,167 rows: 5\.\d GB", done.stdout)


def test_linear_evaluation_beside_scikit_learn(tmp_path):
    root = tiny_root(tmp_path / "toy", classes=3, train=8, val=2)
    x = np.random.default_rng(0).normal(size=(24, 6)).astype(np.float32)
    np.save(tmp_path / "train.npy", x)
    arguments = logistic.Arguments(features=tmp_path / "train.npy", data=root.path, decays=3)
    shown = logistic.measure(arguments).splitlines()
    assert shown[0].startswith("24 × 6 features, 3 classes, 3 fits")
    assert "1.0×" in shown[1] and all("0 fits unconverged" in line for line in shown[1:3])
    assert float(shown[3].split()[3]) < 1e-6
    with pytest.raises(InputError, match="--features and --data go together"):
        logistic.measure(logistic.Arguments(data=root.path))
    np.save(tmp_path / "train.npy", x[:5])
    with pytest.raises(InputError, match=r"has 5 rows, .* 24 images"):
        logistic.measure(arguments)
    (tmp_path / "train.npy").write_text("x")
    with pytest.raises(InputError, match=r"cannot be read .*: give a train\.npy"):
        logistic.measure(arguments)


def test_tables_are_made_of_as_many_records_as_asked(tmp_path, capsys):
    row = sum(seeds for _, seeds, _ in tables.columns())
    assert tables.write_records(ResultsStore(tmp_path), row + 1) == 2
    assert len(list(ResultsStore(tmp_path).load_all())) == row + 1 and capsys.readouterr().err == ""
    shown = tables.measure(tables.Arguments(records=(2 * row,))).splitlines()  # ranks need two full rows
    assert re.search(rf"{2 * row} records, 2 rows, \d MB +\d+\.\d s, \d+\.\d s on a processor +\d\d+ MB$", shown[2])
    assert re.search(r"the layout transfer, ranks and figures +\d+\.\d s", shown[3])


def test_status_is_timed_over_as_many_records_as_asked():
    shown = status.measure(status.Arguments(records=(3,), runs=2))
    assert re.search(r"3 records +\d+\.\d\d s, \d+\.\d\d s on a processor", shown)
    assert re.search(r"record of a run of profile smoke: \d+\.\d ms$", shown)


def test_a_conversion_is_divided_into_its_stages():
    shown = convert.measure(convert.Arguments(architecture="resnet18", rounds=1)).splitlines()
    stages = [re.split(r" {2,}", line)[0] for line in shown[1:]]
    assert stages[3:] == ["read", "map and check", "forward", "write", "all"] and "resnet18, 45 MiB" in shown[0]
    seconds = [float(re.search(r"([\d.]+) s of CPU", line)[1]) for line in shown[1:]]
    assert abs(sum(seconds[:-1]) - seconds[-1]) < 0.05 and all(value >= 0 for value in seconds)


def test_linear_styles_are_compared_online_and_cached(tmp_path, monkeypatch):
    monkeypatch.setenv("RESULTS_DIR", str(tmp_path / "results"))
    root = tiny_root(tmp_path / "toy", classes=3, train=8, val=4, size=24)
    torch.manual_seed(0)
    torch.save(torchvision.models.resnet18(weights=None).state_dict(), tmp_path / "r18.pth")
    arguments = linear.Arguments(
        data=root.path, checkpoint=tmp_path / "r18.pth", profile="smoke", epochs=0.02, batch=32, alone=True
    )
    report = linear.measure(arguments)
    assert "24 training and 12 test images of toy, smoke size, 0.02 × the published epochs" in report
    assert "10 styles of its crops" in report and "each of the 11 by itself" in report
    lines = [line for line in report.splitlines() if "difference" in line]
    assert len(lines) == len(STYLES) + 1
    shown = [float(line.split("difference")[1]) for line in lines[:-1]]
    assert float(lines[-1].split()[2]) == pytest.approx(sum(shown) / len(shown), abs=0.01)
    assert not list((tmp_path / "results").glob("*"))  # nothing but the report is left
    with pytest.raises(InputError, match="--epochs is a share"):
        linear.measure(dataclasses.replace(arguments, epochs=2.0))


def test_both_machines_choose_the_same_costs():
    shown = svm.measure(svm.Arguments(rows=120, dim=40, rank=10)).splitlines()
    assert "2 classes, 68 fits" in shown[0] and shown[2].endswith("0 fits unconverged")
    assert re.search(r"\d+\.\d s +\d+\.\d×", shown[2]) and shown[3].startswith("same cost for 2 of 2 classes")


def test_features_that_are_not_the_data_sets_are_refused(tmp_path):
    lists = {("train", "VOC2007", "trainval"): colours(9, 1), ("test", "VOC2007", "test"): colours(9, 2)}
    voc_root(tmp_path, lists)
    with pytest.raises(InputError, match=r"x\.npy cannot be read"):
        svm.measure(svm.Arguments(features=tmp_path / "x.npy", data=tmp_path))
    np.save(tmp_path / "x.npy", np.ones((8, 4), np.float32))
    with pytest.raises(InputError, match=r"has 8 rows, .* 9 images"):
        svm.measure(svm.Arguments(features=tmp_path / "x.npy", data=tmp_path))
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(9, 4)).astype(np.float32))
    shown = svm.measure(svm.Arguments(features=tmp_path / "x.npy", data=tmp_path, classes=1))
    assert shown.startswith("9 × 4 features, 1 classes, 34 fits")


def test_evaluators_differ_in_time_alone():
    shown = evaluators.measure(evaluators.Arguments(coco_images=8, voc_images=120, detections=6))
    assert (
        shown.count("ours, matches kept") == 3 and len(re.findall(r"detections \d+\.\d MB \(\d+\.\d bytes", shown)) == 3
    )
    assert re.findall(r"largest difference of (\d+) numbers: (\S+)", shown) == [("86", "0"), ("86", "0"), ("3", "0")]
    with pytest.raises(InputError, match="are 1 or more"):
        evaluators.measure(evaluators.Arguments(coco_images=0))


@pytest.mark.slow
def test_a_detectors_iterations_are_compared_on_the_same_batches(capfd):
    small = {"protocol": "voc_fpn_24k", "size": 64, "batch": 1, "images": 2, "iterations": 1, "rounds": 2}
    shown = detector.measure(detector.Arguments(**small, fused=True)).splitlines()
    assert shown[0].startswith("voc_fpn_24k, 64 px, batch 1, fp32, on 1 thread(s) of")
    assert re.search(r"1\.00× \(1\.00 to 1\.00\)$", shown[1])
    assert shown[2].startswith("ours  ") and shown[3].startswith("ours, SGD fused")
    assert capfd.readouterr().out == ""  # detectron2 would log the whole model into the report
    loss, apart = map(float, re.search(r"first loss (\S+), at most (\S+) of it apart", shown[4]).groups())
    assert 2 < loss < 8 and apart < 1e-3  # the same weights, batch and proposals
    with pytest.raises(InputError, match="are 1 or more"):
        detector.measure(detector.Arguments(rounds=0))


def test_the_bootstrap_of_two_detectors_equals_the_plain_way():
    said = bootstrap.measure(bootstrap.Arguments(images=40, detections=30, draws=20))
    assert "40 images, 20 draws each" in said
    assert float(re.search(r"largest difference (\S+)\)", said)[1]) < 1e-12
