"""The model-index against the documented fields (huggingface/hub-docs:modelcard.md) and the tables' numbers."""

import pytest
import yaml

from benchmarks.records import ResultsStore
from benchmarks.report.cells import collect, recorded
from benchmarks.sharing.commands import export_main
from pretrain.common.errors import InputError
from tests.benchmarks.doubles import make_record, make_spec

# Fields of modelcard.md by place: (required, optional).
FIELDS = {
    "result": ({"task", "dataset", "metrics"}, {"source"}),
    "task": ({"type"}, {"name"}),
    "dataset": ({"type", "name"}, {"config", "split", "revision", "args"}),
    "metric": ({"type", "value"}, {"name", "config", "args", "verified"}),
    "source": ({"url"}, {"name"}),
}
TASKS = {
    "image-classification",
    "object-detection",
    "image-segmentation",
    "keypoint-detection",
    "image-feature-extraction",
}


def check(place, value):
    required, optional = FIELDS[place]
    assert required <= value.keys() <= required | optional, place
    assert all(isinstance(value[key], str) and value[key] for key in value.keys() & {"type", "name", "url", "split"})


def check_index(index):
    (model,) = index
    assert model.keys() == {"name", "results"} and model["results"]
    for result in model["results"]:
        check("result", result)
        check("task", result["task"])
        check("dataset", result["dataset"])
        assert result["task"]["type"] in TASKS
        for metric in result["metrics"]:
            check("metric", metric)
            assert isinstance(metric["value"], float)
        if "source" in result:
            check("source", result["source"])


@pytest.fixture
def written(tmp_path, monkeypatch):
    """Save runs, then give the index that the flags write."""
    monkeypatch.setenv("RESULTS_DIR", str(tmp_path / "results"))
    store = ResultsStore()
    for seed, value in enumerate((61.23, 62.34, 63.99)):
        spec = make_spec(seed=seed, checkpoint_sha256="a" * 64)
        store.save(make_record(spec, {"top1": value, "top5": 90.0}, label="mine"))
    for task, metrics in {
        "coco-fpn-1x": {"bbox/AP": 38.14, "segm/AP": 34.96, "bbox/AP50": None},
        "coco-keypoint-fpn-2x": {"keypoints/AP": 65.0, "bbox/AP": 55.0},
        "view-information": {"shared": 1.5, "log": 1.6},
    }.items():
        spec = make_spec(task=task, checkpoint_sha256="a" * 64, profile="paper")
        store.save(make_record(spec, metrics, label="mine"))
    for run in range(2):
        spec = make_spec(checkpoint_sha256="bc"[run] * 64)
        store.save(make_record(spec, {"top1": 50.0 + run}, label=f"ours #{run}"))

    def write(*flags):
        export_main(["--model-index", str(tmp_path / "x.yaml"), *flags])
        index = yaml.safe_load((tmp_path / "x.yaml").read_text())
        assert index.keys() == {"model-index"}
        check_index(index["model-index"])
        return index["model-index"][0]["results"]

    return write


def test_the_values_are_those_of_the_tables(written):
    results = written("--label", "mine", "--profile", "smoke", "--hub-dataset", "toy=me/toy")
    (cell,) = (one for one in collect(recorded("smoke")) if (one.label, one.metric.key) == ("mine", "top1"))
    (result,) = results
    assert result["dataset"] == {"type": "me/toy", "name": "toy (a toy)", "split": "val"}
    metric = result["metrics"][0]
    assert (metric["type"], metric["value"], metric["args"]["std"]) == ("accuracy", 62.5, 1.4)
    assert cell.text(" ± ", "-") == f"{metric['value']} ± {metric['args']['std']} ({metric['args']['n']})"
    assert metric["args"]["seeds"] == [0, 1, 2] and metric["name"] == "linear top-1 (linear, profile smoke)"
    assert metric["args"]["runs"] == [record.spec.spec_id for record in cell.records]


def test_tasks_of_detectors_and_sources(written):
    results = written("--label", "mine", "--source-url", "https://example.org/paper")
    kinds = {(one["task"]["type"], metric["type"]) for one in results for metric in one["metrics"]}
    assert ("object-detection", "mean_average_precision") in kinds
    assert ("image-segmentation", "mean_average_precision") in kinds
    assert ("keypoint-detection", "mean_average_precision") in kinds
    assert {one["source"]["url"] for one in results} == {"https://example.org/paper"}
    names = [metric["name"] for one in results for metric in one["metrics"]]
    assert len(names) == len(set(names))  # a merge of results of one task type and data set loses nothing


def test_pretraining_runs_are_one_model(written):
    (result,) = written("--label", "ours")
    metric = result["metrics"][0]
    assert (metric["value"], metric["args"]["n"], metric["args"]["std"]) == (50.5, "2", 0.7)
    assert metric["args"]["checkpoint_sha256"] == ["b" * 12, "c" * 12]


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--label", "mine", "ours"], "--label names 2: give one"),
        ([], "--label names 0: give one"),
        (["--label", "mine", "--source-url", "javascript:alert(1)"], "give an address"),
        (["--label", "mine", "--hub-dataset", "toy"], "give NAME=ID"),
        (["--label", "mine", "--hub-dataset", "other=x"], "--hub-dataset other: mine was run on toy"),
    ],
)
def test_bad_flags(written, flags, said):
    with pytest.raises(InputError, match=said):
        written(*flags)
    with pytest.raises(InputError, match="are for --model-index"):
        export_main(["x.zip", "--source-url", "https://a.b"])
