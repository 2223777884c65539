"""Methods and presets that are registered from outside the project."""

import dataclasses
from dataclasses import replace

import pytest
import torch.nn.functional as F
from torch import nn

from pretrain import methods, presets
from pretrain.__main__ import main
from pretrain.common.errors import InputError
from pretrain.config import PretrainConfig
from pretrain.methods import METHODS, Method, MethodConfig
from pretrain.methods.simclr import SimCLRConfig
from pretrain.presets import PRESETS


@dataclasses.dataclass(frozen=True, kw_only=True)
class PullConfig(MethodConfig):
    """One setting."""

    pull: float = 1.0  # weight of the loss


class Pull(Method):
    """The features of both views are drawn together."""

    Config = PullConfig
    config: PullConfig

    def forward(self, batch, progress):
        h1, h2 = (self.backbone(view) for view in batch.views)
        return {"loss": self.config.pull * F.mse_loss(h1, h2)}


@pytest.fixture(autouse=True)
def registries():
    """The tables as they are, again after the test."""
    before = dict(METHODS), dict(PRESETS)
    yield
    for table, entries in zip((METHODS, PRESETS), before, strict=True):
        table.clear()
        table.update(entries)


def test_a_registered_method_has_flags_and_trains(tiny, class_folders, results, capsys):
    methods.register("pull", Pull)
    presets.register("tiny-pull", replace(tiny, method=PullConfig()))
    assert main(["--help"]) == 0 and "tiny-pull" in capsys.readouterr().out
    assert main(["tiny-pull", "--data", str(class_folders), "--method.pull", "0.5", "--steps", "1"]) == 0
    assert "tiny-pull-" in capsys.readouterr().out
    with pytest.raises(InputError, match="unknown preset"):
        main(["pull", "--data", "."])


def test_names_and_configs_are_registered_once(tiny):
    methods.register("pull", Pull)
    with pytest.raises(ValueError, match="method pull: the name"):
        methods.register("pull", Pull)
    with pytest.raises(ValueError, match="PullConfig is registered already"):
        methods.register("push", Pull)
    with pytest.raises(ValueError, match="preset demo-simclr: the name is registered already"):
        presets.register("demo-simclr", tiny)


def test_only_methods_and_configs_are_registered():
    with pytest.raises(ValueError, match="is not a subclass"):
        methods.register("linear", nn.Linear)
    with pytest.raises(ValueError, match="derived from MethodConfig"):
        methods.register("bare", type("Bare", (Method,), {"Config": dict}))
    with pytest.raises(ValueError, match="is not a PretrainConfig"):
        presets.register("bare", SimCLRConfig())
    assert "bare" not in PRESETS and isinstance(PRESETS["demo-simclr"], PretrainConfig)
