"""Stand-ins shared by the tests of the benchmarks package."""

from benchmarks.records import RunRecord, RunSpec
from benchmarks.tasks import TASKS
from pretrain.common.pixels import PixelInput

IMAGENET_INPUT = PixelInput()


def make_spec(**changes):
    values = {
        "task": "linear",
        "protocol_digest": "d" * 64,
        "precision": "fp32",
        "data_name": "toy",
        "data_fingerprint": "f" * 64,
        "checkpoint_sha256": "a" * 64,
        "input": IMAGENET_INPUT,
        "seed": 0,
        "profile": "smoke",
        "overrides": (),
    }
    values |= changes
    return RunSpec(**{"task_version": TASKS[values["task"]].version} | values)


def make_record(spec, metrics, *, label="mine", error=None, commit="c" * 40, dirty=False, **changes):
    return RunRecord(
        spec=spec,
        label=label,
        architecture=changes.get("architecture", "resnet50"),
        status="failed" if error else "ok",
        error=error,
        metrics=metrics,
        test_images=10,
        data={"description": "a toy", "synthetic": True},
        config=changes.get("config", {}),
        environment={},
        git={"commit": commit, "dirty": dirty},
        start="2026-01-01T00:00:00Z",
        end="2026-01-01T00:00:01Z",
        wall_seconds=1.0,
        peak_memory_mb=1.0,
        resumed_at=None,
        log=None,
        notes=changes.get("notes", ()),
    )
