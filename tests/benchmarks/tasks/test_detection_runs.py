"""Detection tasks end to end on tiny data roots, profile smoke, and their records read."""

import pytest

from benchmarks.data.emoji.generate import generate
from benchmarks.data.emoji.scenes import EmojiConfig
from benchmarks.data.root import DataRoot
from benchmarks.tasks import TASKS
from tests.benchmarks.tasks.small import executed

pytestmark = pytest.mark.slow


def test_probes_of_a_frozen_resnet_leave_a_record_of_their_own(tmp_path, monkeypatch):
    monkeypatch.setenv("RESULTS_DIR", str(tmp_path / "results"))
    monkeypatch.setenv("DATA_DIR", str(tmp_path / "data"))
    config = EmojiConfig(train_images=40, val_images=40, train_scenes=40, val_scenes=20, image_size=32)
    records = executed(DataRoot.load(generate(config, "probed", 1)), "voc-probe", "coco-probe")
    for name, record in records.items():
        facts = record.config["facts"]
        assert (facts["tensors_equal"], facts["trainable_backbone_tensors"], record.test_images) == (100, 0, 20)
        assert set(record.metrics) >= {metric.key for metric in TASKS[name].metrics}
        assert record.metrics["bbox/AP"] is not None and record.config["MODEL"]["BACKBONE"]["FREEZE_AT"] == 5
        assert record.config["MODEL"]["FPN"]["NORM"] == "GN"  # no norm of a batch takes its place in a small profile
