"""CMC on other splits of the channels, InfoMin's among them: red beside green and blue, or frozen learned views.

The rows of InfoMin's comparison of views (arXiv 2005.10243, section 4): the same encoders, heads and banks as CMC's for
every split. Run: ``python -m pretrain demo-split-views --data FOLDER --method.space rgb``, and with ``--method.space
learned --method.generator RUN``, the folder of a finished run of view-generator.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from pretrain.common.errors import InputError
from pretrain.common.tensors import tensor_digest
from pretrain.methods.base import Sizes
from pretrain.methods.cmc import CMC, CMCConfig
from pretrain.methods.cmc_encoders import Space, TwoEncoders
from pretrain.methods.colour_flow import ColourFlow


@dataclasses.dataclass(frozen=True, kw_only=True)
class SplitViewsConfig(CMCConfig):
    """CMC's settings, and the split."""

    space: Space = "rgb"
    generator: str = ""  # of space learned: the folder of a finished run of view-generator

    def conflict(self) -> str | None:
        """The flag and rule of settings that are in range one by one and do not go together."""
        if (self.space == "learned") != bool(self.generator):
            return f"generator {self.generator!r}: space learned needs a run of view-generator, others take none"
        return None

    def inputs(self) -> dict[str, str]:
        """Of the generator: another one may lie at the same path."""
        return {"generator": tensor_digest(load_flow(self.generator))} if self.generator else {}


class SplitViews(CMC):
    """CMC's two encoders on the channels of ``space``; a learned generator stays as it is."""

    Config = SplitViewsConfig
    config: SplitViewsConfig

    def __init__(self, config: SplitViewsConfig, backbone: nn.Module, sizes: Sizes) -> None:
        super().__init__(config, backbone, sizes)
        assert isinstance(self.backbone, TwoEncoders)
        if self.backbone.flow is not None:
            self.backbone.flow.load_state_dict(load_flow(config.generator))
            self.backbone.flow.requires_grad_(False)


def load_flow(run: str, given: str = "--method.generator") -> dict[str, Tensor]:
    """The generator's state in a finished run of view-generator, its folder or its backbone.safetensors. InputError.

    ``given``: the argument that its message names.
    """
    path = Path(run).expanduser()
    path = path / "backbone.safetensors" if path.is_dir() else path
    try:
        state = load_file(path)
    except (OSError, SafetensorError) as error:
        raise InputError(f"{given} {run}: cannot be read ({error}): give a finished run's folder") from None
    found = {name.removeprefix("flow."): tensor for name, tensor in state.items() if name.startswith("flow.")}
    shapes = {name: tensor.shape for name, tensor in ColourFlow().state_dict().items()}
    if {name: tensor.shape for name, tensor in found.items()} != shapes:
        raise InputError(f"{given} {run}: it has no view generator: give a run of method view-generator")
    return found
