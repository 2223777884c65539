"""torchvision's ResNets, as ``torch.save(model.state_dict(), …)`` or safetensors writes them.

Also inside {"state_dict": …}, {"model": …}, {"net": …} (kuangliu/pytorch-cifar:main.py) or {"module": …} (DeepSpeed's
runtime/engine.py), and with the ``module.`` that DistributedDataParallel and torch's AveragedModel put in front.
Files of other projects that hold nothing but such a network cannot be told from these (Barlow Twins, VICReg).
"""

from __future__ import annotations

from transfer.checkpoints.families.base import WRITTEN_IN_TEST
from transfer.checkpoints.families.layout import Layout

FAMILY = Layout(
    name="torchvision",
    title="torchvision's ResNets, and any bare ResNet under its names",
    known_from=f"torchvision:models/resnet.py, {WRITTEN_IN_TEST}",
    inside=((), ("state_dict",), ("model",), ("net",), ("module",)),
    networks={"model": ""},
    drop={"n_averaged": "how many networks were averaged, not weights"},
    marks=("conv1.", "layer1."),
).family()
