"""Detection tasks: what makes two runs of one the same, and the block that describes it."""

import dataclasses
import shutil
from types import SimpleNamespace

import pytest
import torch
import yaml

from benchmarks.tasks import TASKS, Setup, detection_task
from benchmarks.tasks.compute import detector
from pretrain.common.errors import InputError, RunError
from tests.benchmarks.doubles import make_spec
from transfer.detection import config
from transfer.detection.protocol_files import PROTOCOLS, protocol_block, protocol_names


@pytest.fixture
def protocol(tmp_path):
    """A copy of a protocol that may be edited, its base too."""
    shutil.copytree(PROTOCOLS, tmp_path / "protocols")
    return tmp_path / "protocols" / "voc_fpn_24k.yaml"


def resolved(profile="demo", num_gpus=0, opts=(), protocol=PROTOCOLS / "voc_fpn_24k.yaml"):
    return detection_task(protocol).settings(Setup(profile=profile, num_gpus=num_gpus, opts=opts))


def test_a_detection_protocol_is_known_by_its_content(protocol):
    before = resolved("paper", protocol=protocol).digest
    assert before == resolved("paper").digest  # wherever it is
    protocol.write_text("# a comment\n" + protocol.read_text().replace('TITLE: "VOC FPN"', "TITLE: VOC's FPN"))
    assert resolved("paper", protocol=protocol).digest == before
    base, own = protocol.parent / "base" / "voc_24k.yaml", protocol.read_text()
    base.write_text(base.read_text().replace("WARMUP_ITERS: 100", "WARMUP_ITERS: 101"))
    assert resolved("paper", protocol=protocol).digest != before
    protocol.write_text(f"{own}\nSOLVER:\n  WARMUP_ITERS: 100\n")
    assert resolved("paper", protocol=protocol).digest == before


def test_profile_gpus_and_options_are_in_the_digest_and_keeping_files_is_not():
    digests = [
        resolved().digest,
        resolved("paper", 0).digest,
        resolved("paper", 4).digest,
        resolved("paper", 8).digest,
        resolved(opts=("SOLVER.BASE_LR", "0.5")).digest,
    ]
    assert len(set(digests)) == 5
    assert resolved(opts=("TRANSFER.KEEP_FILES", "True", "TRANSFER.RESUME", "True")).digest == digests[0]


def test_the_precision_is_the_machines(monkeypatch):
    for has, word in ((True, "bf16"), (False, "fp32")):
        monkeypatch.setattr("transfer.detection.trainer.has_bf16", lambda device, has=has: has)
        assert resolved().precision == word
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (8, 0))
    assert resolved("paper", 8).precision == "tf32"
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (7, 0))
    assert resolved("paper", 8).precision == "fp32"
    assert resolved("paper", 8, ("SOLVER.AMP.ENABLED", "True")).precision == "fp16"


@pytest.mark.parametrize("change", [{"protocol_digest": "0" * 64}, {"precision": "fp16"}])
def test_a_protocol_that_was_edited_since_the_plan_is_not_trained(monkeypatch, tmp_path, change):
    now, trained, facts = resolved(), [], {"classes_tested": 1, "precision": "bf16", "resumed_at": None}
    cfg = config.resolved_protocol("voc_fpn_24k", "demo", 0, [])
    monkeypatch.setattr(detector, "converted_at", lambda pkl: None)
    monkeypatch.setattr(detector, "register", lambda root, kind: SimpleNamespace(test_images=1, num_classes=2))
    monkeypatch.setattr(detector, "config_of", lambda *rest: cfg)
    monkeypatch.setattr(detector, "train_and_test", lambda *rest: trained.append(rest) or ({"bbox/AP": 1.0}, facts))
    good = {"protocol_digest": now.digest, "precision": now.precision}
    spec = make_spec(task="voc-fpn-24k", profile="demo", num_gpus=0, **good)
    context = SimpleNamespace(
        spec=spec, root=None, checkpoint=SimpleNamespace(detectron2=None), folder=tmp_path, num_gpus=0
    )
    result = detector.run(context)
    assert len(trained) == 1 and "1 of 2 classes" in result.notes[0] and result.config["facts"] == facts
    context.spec = dataclasses.replace(spec, **change)
    with pytest.raises(RunError, match="voc-fpn-24k has changed since this run was planned"):
        detector.run(context)
    assert len(trained) == 1


def test_an_ap_over_all_classes_needs_no_note():
    assert detector.notes(20, 20) == []
    assert detector.notes(19, 20) == ["AP is the mean over the 19 of 20 classes with a test object"]


def test_every_detection_task_is_a_protocol_and_every_task_has_a_title_of_its_own():
    assert {task.name for task in TASKS.values() if task.detects} == {
        name.replace("_", "-") for name in protocol_names()
    }
    for task in TASKS.values():
        assert (task.protocol is not None) is task.detects is (task.kind == "detection")
        assert not task.detects or (PROTOCOLS / f"{task.name.replace('-', '_')}.yaml").is_file()
        assert task.name not in ("linear", "low-shot", "knn") or not task.detects
    titles = [task.title for task in TASKS.values()]
    assert len(set(titles)) == len(titles)


def test_a_task_is_as_its_block_says():
    task, block = TASKS["coco-fpn-1x"], protocol_block(PROTOCOLS / "coco_fpn_1x.yaml")
    assert (task.title, task.layout, task.version) == (block["TITLE"], block["LAYOUT"], block["VERSION"])
    assert {one.key: one.label for one in task.metrics if one.shown} == block["METRICS"]
    assert {one.key: one.label for one in task.metrics if not one.shown} == block["MORE_METRICS"]
    assert task.published.headings == {"box AP": ("coco_det", "boxAP"), "mask AP": ("coco_seg", "maskAP")}
    assert (task.data, task.cost.gpu_hours, task.cost.how) == (
        block["DATA"],
        block["COST"]["GPU_HOURS"],
        block["COST"]["HOW"],
    )
    assert task.needs_masks and not TASKS["coco-det-fpn-1x"].needs_masks and not task.deterministic


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"TITLE": None}, "TRANSFER.TITLE is None, not of type str"),
        ({"VERSION": "1"}, "TRANSFER.VERSION is '1', not of type int"),
        ({"METRICS": ["bbox/AP"]}, r"TRANSFER.METRICS is \['bbox/AP'\], not of type dict"),
        ({"REFERENCE": ...}, "TRANSFER.REFERENCE is missing"),
        ({"SEEDS": 3}, "TRANSFER.SEEDS is unknown: use TITLE, LAYOUT"),
        ({"LAYOUT": "visdrone"}, "needs a LAYOUT of imagenet, voc, coco"),
        ({"METRICS": {}}, "one of METRICS"),
        ({"PUBLISHED": {"DETECTOR": "x", "SCHEDULE": "1x"}}, "needs DETECTOR, SCHEDULE and HEADINGS"),
        ({"PUBLISHED": {"DETECTOR": "x", "SCHEDULE": "1x", "HEADINGS": {"AP": "AP"}}}, "COLUMN: TASK METRIC"),
        ({"DATA": ["COCO"]}, r"TRANSFER.DATA is \['COCO'\], not of type str"),
        ({"COST": 8}, "TRANSFER.COST is 8, not of type dict"),
        ({"COST": {"GPU_HOURS": 8}}, "TRANSFER.COST needs GPU_HOURS and DISK_GB, numbers, and HOW, a text"),
        ({"COST": {"GPU_HOURS": -1, "DISK_GB": 1, "HOW": "x"}}, "COST needs"),
        ({"COST": {"GPU_HOURS": True, "DISK_GB": 1, "HOW": "x"}}, "COST needs"),
        ({"COST": {"GPU_HOURS": 1, "DISK_GB": 1, "HOW": "x", "WHO": "y"}}, "COST needs"),
    ],
)
def test_an_unusable_block_is_one_line_that_names_the_file_and_the_key(tmp_path, changes, words):
    block = {"TITLE": "t", "LAYOUT": "voc", "VERSION": 1, "REFERENCE": "none", "METRICS": {"bbox/AP": "AP"}} | changes
    path = tmp_path / "own.yaml"
    path.write_text(yaml.safe_dump({"TRANSFER": {key: value for key, value in block.items() if value is not ...}}))
    with pytest.raises(InputError, match=words) as caught:
        detection_task(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "SOLVER: {}", "TRANSFER: yes", "TRANSFER: [", "[1]"])
def test_a_file_without_a_block_is_one_line(tmp_path, text):
    (tmp_path / "own.yaml").write_text(text)
    with pytest.raises(InputError, match="it has no usable TRANSFER block") as caught:
        detection_task(tmp_path / "own.yaml")
    assert "\n" not in str(caught.value)


def test_an_unknown_engine_is_refused_before_any_run_and_the_engine_identifies_none(monkeypatch):
    monkeypatch.setenv("COCO_EVAL", "nonsense")
    with pytest.raises(InputError, match="COCO_EVAL=nonsense: choose ultrafast or pycocotools"):
        detector.check([(None, make_spec(task="coco-fpn-1x", num_gpus=0), 3)], 0)
    protocol = PROTOCOLS / "coco_fpn_1x.yaml"
    digests = set()
    for engine in ("ultrafast", "pycocotools"):
        monkeypatch.setenv("COCO_EVAL", engine)
        digests.add(resolved(protocol=protocol).digest)
    assert len(digests) == 1
