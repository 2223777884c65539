"""Each protocol's resolved config, pinned: resolved/<protocol>.txt has the keys that differ from detectron2's defaults.

After a change that is meant: ``python -m tests.transfer.detection.test_protocols`` writes the files anew; then raise
VERSION in the TRANSFER block and read the difference.
"""

from pathlib import Path

import pytest
import yaml
from detectron2.config import get_cfg

from benchmarks.tasks import TASKS
from benchmarks.tasks.detection import detection_task
from pretrain.common.errors import InputError
from transfer.detection.config import protocol_cfg
from transfer.detection.protocol_files import PROTOCOLS, protocol_block, protocol_keys, protocol_names

RESOLVED = Path(__file__).parent / "resolved"


def flat(node, prefix=""):
    for key, value in node.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def lines(protocol):
    defaults = dict(flat(get_cfg()))
    cfg = flat(protocol_cfg(protocol))
    return [
        f"{key} {value}" for key, value in sorted(cfg) if not key.startswith("TRANSFER") and defaults.get(key) != value
    ]


@pytest.mark.parametrize("protocol", protocol_names())
def test_resolved_config_is_the_pinned_one(protocol):
    found = lines(protocol)
    print(*found, sep="\n")
    assert found == (RESOLVED / f"{protocol}.txt").read_text().splitlines()


def test_bases_are_no_protocols_and_every_protocol_is_a_task():
    assert {task.protocol.stem for task in TASKS.values() if task.protocol} == set(protocol_names())
    assert not set(protocol_names()) & {path.stem for path in (PROTOCOLS / "base").glob("*.yaml")}


@pytest.mark.parametrize("protocol", protocol_names())
def test_headers_state_source_expected_number_metric_and_cost(protocol):
    head = (PROTOCOLS / f"{protocol}.yaml").read_text().split("_BASE_")[0]
    assert all(f"\n# {word} " in head for word in ("Source", "Expected", "Metric", "Cost"))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"TITLE": None}, "TRANSFER.TITLE is missing"),
        ({"TITLE": 3}, "TRANSFER.TITLE is 3, not of type str"),
        ({"LAYOUT": "imagenet2"}, "needs a LAYOUT of imagenet, voc, coco"),
        ({"METRICS": {}}, "one of METRICS"),
        ({"METRIC": {}}, "TRANSFER.METRIC is unknown"),
        ({"PUBLISHED": {"DETECTOR": "x"}}, "PUBLISHED needs DETECTOR, SCHEDULE and HEADINGS"),
        (
            {"PUBLISHED": {"DETECTOR": "x", "SCHEDULE": "y", "HEADINGS": {"AP": "voc"}}},
            "HEADINGS are COLUMN: TASK METRIC",
        ),
    ],
)
def test_a_block_that_describes_no_task_is_refused_by_its_first_key(change, words, tmp_path):
    block = protocol_block(PROTOCOLS / "voc_fpn_24k.yaml") | change
    block = {key: value for key, value in block.items() if value is not None}
    (tmp_path / "own.yaml").write_text(yaml.safe_dump({"TRANSFER": block}))
    with pytest.raises(InputError, match=words):
        detection_task(tmp_path / "own.yaml")


def test_files_without_a_block_or_with_a_missing_base_are_refused(tmp_path):
    (tmp_path / "own.yaml").write_text("_BASE_: nowhere.yaml\n")
    with pytest.raises(InputError, match="no usable TRANSFER block"):
        protocol_block(tmp_path / "own.yaml")
    with pytest.raises(InputError, match=r"own\.yaml: .*nowhere"):
        protocol_keys(tmp_path / "own.yaml")


if __name__ == "__main__":
    for name in protocol_names():
        (RESOLVED / f"{name}.txt").write_text("\n".join(lines(name)) + "\n")
