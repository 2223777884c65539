"""Stand-ins shared by the tests of the benchmarks package."""

from benchmarks.records import InputConvention, RunRecord, RunSpec
from benchmarks.tasks.base import TASKS

IMAGENET_INPUT = InputConvention(
    pixel_mean=(0.485, 0.456, 0.406), pixel_std=(0.229, 0.224, 0.225), channel_order="RGB", stride_in_1x1=False
)


def make_spec(**changes):
    values = {
        "task": "linear",
        "protocol": "lbfgs",
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
