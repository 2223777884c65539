"""The embedding of a finished run, rebuilt from its folder."""

import dataclasses
import json
import shutil

import pytest
import torch
from torch import nn

from pretrain.checkpoint import HEAD, save_checkpoint
from pretrain.common.errors import InputError
from pretrain.common.tensors import tensor_digest
from pretrain.embedding import load_embedding
from pretrain.methods import METHODS, Sizes
from pretrain.methods.heads import l2_normalize
from pretrain.train import _head
from tests.pretrain.methods.test_methods import TWO_ENCODERS, config_of

SIZES = Sizes(feature_dim=512, num_classes=3, num_images=2)
ABOUT = {
    **{"architecture": "resnet18", "epoch": 1.0, "images_seen": 2, "dataset": {}, "git": None, "versions": {}},
    "created": "now",
}


def saved(folder, name):
    """A run's folder of a random method, with BatchNorm's statistics moved; the method in eval mode."""
    torch.manual_seed(0)
    method = METHODS[name](config_of(name), nn.Identity(), SIZES)
    for module in method.modules():
        if isinstance(module, nn.BatchNorm1d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    folder.mkdir()
    raw = {"method": dataclasses.asdict(method.config)}
    config = {"raw": json.loads(json.dumps(raw)), "resolved": {}}
    save_checkpoint(folder, {"weight": torch.ones(2)}, _head(method), method=name, config=config, **ABOUT)
    return method.eval()


@pytest.mark.parametrize("name", sorted(set(METHODS) - {"random", "supervised", *TWO_ENCODERS}))
def test_every_method_with_one_head_is_rebuilt(tmp_path, name):
    method, h = saved(tmp_path / "run", name), torch.randn(5, 512)
    with torch.no_grad():
        expected = method.embedding(h)
    embed = load_embedding(tmp_path / "run")
    assert torch.equal(embed(h), expected)
    assert torch.allclose(expected.norm(dim=1), torch.ones(5), atol=1e-6) and not torch.equal(expected[0], expected[1])


def test_the_embedding_is_the_one_in_the_loss():
    """SimCLR's and SuperInfo's own forward pass see this embedding of the same features."""
    seen = []
    for name in ("simclr", "superinfo", "byol"):
        method = METHODS[name](config_of(name), nn.Identity(), SIZES).eval()
        head, h = getattr(method, method.head_name), torch.randn(4, 512)
        handle = head.register_forward_hook(lambda module, inputs, output: seen.append(output))
        with torch.no_grad():
            found = method.embedding(h)
        handle.remove()
        inside = seen.pop()
        assert torch.equal(found, inside.mu if name == "superinfo" else l2_normalize(inside))


@pytest.mark.parametrize("name", ["random", "supervised"])
def test_methods_without_a_head_have_none(tmp_path, name):
    torch.manual_seed(0)
    method = METHODS[name](config_of(name), nn.Identity(), SIZES)
    save_checkpoint(tmp_path, {"weight": torch.ones(2)}, _head(method), method=name, config={}, **ABOUT)
    assert not (tmp_path / HEAD).exists() and load_embedding(tmp_path) is None


def test_files_of_different_runs_are_refused(tmp_path):
    saved(tmp_path / "one", "simclr")
    saved(tmp_path / "two", "byol")
    meta = json.loads((tmp_path / "one" / "meta.json").read_text())
    assert tensor_digest({}) != meta["head"] is not None
    shutil.copy(tmp_path / "two" / HEAD, tmp_path / "one" / HEAD)
    with pytest.raises(InputError, match=r"head.safetensors cannot be read .its tensors are others"):
        load_embedding(tmp_path / "one")
    (tmp_path / "one" / HEAD).unlink()
    with pytest.raises(InputError, match="copy the run's whole folder again"):
        load_embedding(tmp_path / "one")
    del meta["head"]  # a run of an earlier version
    (tmp_path / "one" / "meta.json").write_text(json.dumps(meta))
    assert load_embedding(tmp_path / "one") is None
