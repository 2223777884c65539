"""Records of schema 1 are not orphaned."""

import dataclasses
import json
import os
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from torchvision.models import resnet18

from benchmarks.__main__ import main
from benchmarks.migrate import migrate
from benchmarks.records import UNKNOWN, ResultsStore, files_of
from benchmarks.report.cells import recorded
from pretrain.common.errors import InputError
from pretrain.common.tensors import tensor_digest
from tests.benchmarks.doubles import IMAGENET_INPUT
from transfer.checkpoints import converted as proofs
from transfer.checkpoints import key_map
from transfer.checkpoints.backbone import weights_digest
from transfer.detection.config import resolved_protocol

GREY_INPUT = dataclasses.replace(IMAGENET_INPUT, pixel_mean=(0.5, 0.5, 0.5), pixel_std=(0.25, 0.25, 0.25))


def old_record(store, stem, *, config, spec_id="0123456789ab", precision="fp32", sha256="a" * 64, status="ok", **spec):
    """A record as schema 1 wrote it, with the keys that it had."""
    values = {
        "task": "coco-seg",
        "task_version": 1,
        "protocol": "coco_fpn_1x",
        "data_name": "toy",
        "data_fingerprint": "f" * 64,
        "checkpoint_sha256": sha256,
        "seed": 0,
        "profile": "demo",
        "overrides": [],
        "num_gpus": 0,
    } | spec
    record = {
        "schema_version": 1,
        "spec": values,
        "label": "mine",
        "architecture": "resnet18",
        "status": status,
        "error": None if status == "ok" else "no disk",
        "metrics": {"bbox/AP": 7.0, "segm/AP": 5.0} if status == "ok" else {},
        "test_images": 10,
        "data": {"description": "a toy", "synthetic": True},
        "config": config,
        "environment": {"precision": precision},
        "git": {"commit": "c" * 40, "dirty": False},
        "start": "2026-01-01T00:00:00Z",
        "end": "2026-01-01T00:01:00Z",
        "wall_seconds": 60.0,
        "peak_memory_mb": 1.0,
        "resumed_at": None,
        "log": f"runs/{spec_id}/log.txt",
    }
    path = store.root / spec_id / f"{stem}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record))
    return path


def detector_config(change=lambda cfg: None, protocol="coco_fpn_1x"):
    """What a record of schema 1 kept of a detector: the whole resolved config and facts."""
    cfg = resolved_protocol(protocol, "demo", 0, [])
    cfg.OUTPUT_DIR, cfg.SEED, cfg.MODEL.WEIGHTS = "/anywhere", 3, "/x.pkl"
    cfg.DATASETS.TRAIN, cfg.MODEL.ROI_HEADS.NUM_CLASSES = ("toy_train",), 20
    cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD, cfg.INPUT.FORMAT = [127.5] * 3, [63.75] * 3, "RGB"
    change(cfg)
    return yaml.safe_load(cfg.dump()) | {"facts": {"precision": "bf16"}}


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.setenv("RESULTS_DIR", str(tmp_path))
    return ResultsStore()


def conversion(folder, convention, stem):
    """A conversion as it is kept, of a ResNet-18 with counters; (old digest, new digest)."""
    torch.manual_seed(0)
    state = {n: t for n, t in resnet18(weights=None).state_dict().items() if "fc." not in n}
    arrays = {ours: state[theirs].numpy() for theirs, ours in key_map.to_detectron2("resnet18").items()}
    folder.mkdir(exist_ok=True)
    proofs.write_pkl(folder / f"{stem}.pkl", proofs.pickled(arrays))
    about = {"source_sha256": tensor_digest(state), **dataclasses.asdict(convention)}
    (folder / f"{stem}.json").write_text(json.dumps(about))
    assert tensor_digest(state) != weights_digest(state)
    return tensor_digest(state), weights_digest(state)


def test_a_record_becomes_the_one_that_would_be_written_today(store, tmp_path, capsys):
    old, new = conversion(tmp_path / "converted", IMAGENET_INPUT, "x")
    path = old_record(store, "20260101T000100Z-aaaaaa", config=detector_config(), sha256=old, precision="bf16")
    text = path.read_text()
    assert migrate(store) == 1 and "migrated 1 run records to schema 2" in capsys.readouterr().err
    (record,) = store.load_all()
    today = detection.resolve("coco-seg", "coco_fpn_1x", "demo", 0, ())
    assert record.spec.protocol_digest == today.digest  # so the run counts as done
    assert (record.spec.checkpoint_sha256, record.spec.input, record.spec.precision) == (new, IMAGENET_INPUT, "bf16")
    assert record.metrics == {"bbox/AP": 7.0, "segm/AP": 5.0}
    assert record.migrated == {"schema_version": 1, "spec_id": "0123456789ab"}
    assert store.has(record.spec)
    assert (tmp_path / "runs-schema-1" / "0123456789ab" / path.name).read_text() == text  # nothing is lost
    assert migrate(store) == 0 and len(list(store.load_all())) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"precision": "fp32"},
        {"config": detector_config(lambda cfg: cfg.SOLVER.merge_from_list(["BASE_LR", 0.123]))},  # an edited YAML
        {"config": detector_config(lambda cfg: cfg.INPUT.merge_from_list(["FORMAT", "BGR"]))},
    ],
)
def test_what_used_to_share_a_spec_comes_apart(store, change):
    """Two attempts in one folder of schema 1: another precision, another content of the YAML, another input."""
    same = {"config": detector_config(), "precision": "bf16"}
    old_record(store, "20260101T000100Z-aaaaaa", **same)
    old_record(store, "20260101T000200Z-bbbbbb", **same | change)
    old_record(store, "20260101T000300Z-cccccc", **same)
    migrate(store)
    first, second, third = (next(store.root.glob(f"*/*{letter * 6}.json")).parent for letter in "abc")
    assert first == third != second


def test_paths_data_and_seed_of_the_config_are_no_part_of_the_protocol(store):
    moved = detector_config(lambda cfg: cfg.merge_from_list(["OUTPUT_DIR", "/else", "DATALOADER.NUM_WORKERS", 7]))
    for stem, config in (("20260101T000100Z-aaaaaa", detector_config()), ("20260101T000200Z-bbbbbb", moved)):
        old_record(store, stem, config=config)
    migrate(store)
    assert len({record.spec for record in store.load_all()}) == 1


def test_tensors_that_two_conversions_read_in_two_ways_keep_what_the_record_says(store, tmp_path):
    old, _ = conversion(tmp_path / "converted", IMAGENET_INPUT, "x")
    conversion(tmp_path / "converted", dataclasses.replace(IMAGENET_INPUT, channel_order="BGR"), "y")
    old_record(store, "20260101T000100Z-aaaaaa", config=detector_config(), sha256=old)
    migrate(store)
    (record,) = store.load_all()
    assert (record.spec.checkpoint_sha256, record.spec.input) == (old, GREY_INPUT)  # of its own config


@pytest.mark.parametrize("written", ["during the first", "during the second", "copied since", "copied, one attempt"])
def test_the_files_go_to_the_attempt_that_wrote_them(store, written):
    first = old_record(store, "20260101T000100Z-aaaaaa", config=detector_config())
    second = old_record(store, "20260102T000100Z-bbbbbb", config=detector_config())
    values = json.loads(second.read_text()) | {"start": "2026-01-02T00:00:00Z", "end": "2026-01-02T00:01:00Z"}
    second.write_text(json.dumps(values))
    files = first.parent / "files"
    files.mkdir()
    (files / "predictions.json").write_text("[]")
    times = {"during the first": "2026-01-01T00:00:59+00:00", "during the second": "2026-01-02T00:00:59+00:00"}
    when = datetime.fromisoformat(times.get(written, "2026-02-01T00:00:00+00:00")).timestamp()
    os.utime(files / "predictions.json", (when, when))
    if written == "copied, one attempt":
        second.unlink()
    migrate(store)
    owners = [letter for letter in "ab" for path in store.root.glob(f"*/*{letter * 6}.json") if files_of(path).is_dir()]
    assert owners == {"during the second": ["b"], "copied since": []}.get(written, ["a"])
    assert (files / "predictions.json").exists() is (written == "copied since")  # nobody's files stay where they were


def test_a_failed_record_without_settings_is_kept_and_enters_no_table(store):
    old_record(store, "20260101T000100Z-aaaaaa", config={}, status="failed", precision=None)
    migrate(store)
    (record,) = store.load_all()
    assert (record.spec.protocol_digest, record.spec.precision, record.error) == (UNKNOWN, UNKNOWN, "no disk")
    assert recorded("demo") == []


def test_a_migration_that_was_killed_is_finished_by_the_next(store, monkeypatch):
    for day, letter in ((1, "a"), (2, "b")):
        old_record(store, f"2026010{day}T000100Z-{letter * 6}", config=detector_config())
    rename = Path.rename

    def killed(path, target):
        if path.name.endswith("bbbbbb.json"):
            raise KeyboardInterrupt
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", killed)
    with pytest.raises(KeyboardInterrupt):
        migrate(store)
    monkeypatch.undo()
    monkeypatch.setenv("RESULTS_DIR", str(store.root.parent))
    assert migrate(store) == 1 and len(list(store.load_all())) == 2
    assert len(list((store.root.parent / "runs-schema-1").glob("*/*.json"))) == 2


def test_a_broken_record_is_one_line_and_stays_and_the_others_go_on(store, capsys):
    path = store.root / "x" / "y.json"
    path.parent.mkdir(parents=True)
    path.write_text('{"schema_version": 1, "spec": {}}')
    old_record(store, "20260101T000100Z-aaaaaa", config=detector_config())
    assert migrate(store) == 1 and path.exists()
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning")]
    assert "y.json is not a run record" in line


def test_the_commands_migrate_first(store, capsys):
    path = old_record(store, "20260101T000100Z-aaaaaa", config=detector_config())
    assert main(["tables", "demo"]) == 0
    said = capsys.readouterr().err
    assert "migrated 1 run records" in said and "| mine" in said and "7.0 (1)" in said
    with pytest.raises(InputError, match=r"holds no predictions\.json"):  # it was found where it is now
        main(["show", str(path)])
    assert np.isfinite(next(store.load_all()).wall_seconds)
