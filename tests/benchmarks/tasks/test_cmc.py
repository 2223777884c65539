"""CMC's two encoders as a row: features without a detector."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torchvision.models import resnet18

from benchmarks.__main__ import main
from benchmarks.checkpoints import import_all
from benchmarks.data.emoji.generate import generate
from benchmarks.data.emoji.scenes import EmojiConfig
from benchmarks.executors.local import LocalExecutor
from benchmarks.records import ResultsStore
from benchmarks.tasks.compute.features import build_backbone
from pretrain import train
from pretrain.common.errors import InputError
from pretrain.common.tensors import tensor_digest
from pretrain.methods.cmc import CMCConfig
from pretrain.methods.cmc_encoders import TwoEncoders
from tests.pretrain.conftest import class_folders, results, tiny  # noqa: F401  (fixtures)
from transfer.checkpoints.store import import_checkpoint


@pytest.fixture
def encoders(class_folders, results, tiny):  # noqa: F811
    """The checkpoint of a small CMC run."""
    method = CMCConfig(dim=16, negatives=8, space="ydbdr")
    return train.run("x", dataclasses.replace(tiny, method=method, steps=1), class_folders)


def edited(path, change):
    """The run in a folder of its own, its tensors changed and meta.json in line with them."""
    state, meta = load_file(path), json.loads((path.parent / "meta.json").read_text())
    change(state, meta)
    folder = path.parent.with_name("edited")
    folder.mkdir(exist_ok=True)
    save_file(state, folder / "backbone.safetensors")
    (folder / "meta.json").write_text(json.dumps(meta | {"sha256": tensor_digest(state)}))
    return folder / "backbone.safetensors"


def test_the_network_is_the_one_that_was_trained(encoders):
    backbone = import_checkpoint(encoders).load()
    assert backbone.architecture == "cmc-resnet18"
    trained = TwoEncoders(resnet18(weights=None), "ydbdr")
    trained.load_state_dict(load_file(encoders))
    x = torch.randn(2, 3, 40, 40)
    with torch.no_grad():
        torch.testing.assert_close(build_backbone(backbone)(x), trained.eval()(x), rtol=0, atol=0)


@pytest.mark.slow
def test_it_has_a_row_without_detectors(encoders, capfd):
    config = EmojiConfig(train_images=40, val_images=40, train_scenes=40, val_scenes=20, image_size=32, scene_size=64)
    root = generate(config, "tiny", 1)
    command = ["run", "--checkpoint", f"cmc={encoders}", "--data", str(root), "--profile", "smoke", "--task"]
    with pytest.raises(InputError, match="cmc: CMC's two encoders cannot be used in a detector"):
        main([*command, "voc-fpn-24k"])
    assert main([*command, "linear", "voc-fpn-24k", "knn"]) == 0
    out, err = capfd.readouterr()
    records = [ResultsStore().load(Path(line)) for line in out.splitlines() if "/runs/" in line]
    assert {record.spec.task for record in records} == {"linear", "knn"}
    assert all(record.architecture == "cmc-resnet18" and record.status == "ok" for record in records)
    assert "only features are evaluated" in err and "| cmc" in err
    # The second time nothing is read again: the result is kept by the file's hash.
    (again,) = import_all({"again": encoders}, LocalExecutor(workers=1))
    assert again.detectron2 is None and again.sha256 == records[0].spec.checkpoint_sha256
    assert main([*command, "linear", "knn"]) == 0 and "/runs/" not in capfd.readouterr().out


def test_files_that_are_not_whole_are_refused_in_one_line(encoders):
    name = "encoder2.layer1.0.conv1.weight"

    def cut(state, meta):
        del state[name]

    def other(state, meta):
        state[name] = state[name][:3].contiguous()

    def broken(state, meta):
        state[name][0, 0, 0, 0] = np.nan

    def grey(state, meta):
        meta["config"]["raw"]["method"]["space"] = "grey"

    def deep(state, meta):
        meta["architecture"] = "resnet19"

    for change, words in ((cut, name), (other, name), (broken, name), (grey, "colour space"), (deep, "which ResNet")):
        with pytest.raises(InputError, match=words) as caught:
            import_checkpoint(edited(encoders, change))
        assert "\n" not in str(caught.value)
