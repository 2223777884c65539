"""A torchvision ResNet-50 with random batch-norm statistics, as a file and converted, and folders that clean up."""

import tempfile
from pathlib import Path

import pytest
import torch
from torchvision.models import resnet50

from transfer.checkpoints.convert import convert


@pytest.fixture
def scratch():
    # Not tmp_path: pytest keeps those, and each file here has 94 MB.
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


@pytest.fixture(scope="session")
def full_state():
    """318 tensors and fc: no two tensors alike, so that a swap shows."""
    generator = torch.Generator().manual_seed(1)
    torch.manual_seed(1)
    state = resnet50(weights=None).state_dict()
    for name, value in state.items():
        if name.endswith("running_mean") or (name.endswith(".bias") and not name.startswith("fc")):
            value.copy_(0.1 * torch.randn(value.shape, generator=generator))
        elif name.endswith("running_var") or value.dim() == 1:
            value.copy_(0.5 + torch.rand(value.shape, generator=generator))
        elif name.endswith("num_batches_tracked"):
            value.fill_(7)
    return state


@pytest.fixture(scope="session")
def checkpoint(full_state):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "stock.pth"
        torch.save(full_state, path)
        yield path


@pytest.fixture(scope="session")
def converted(checkpoint):
    return convert(checkpoint, checkpoint.with_name("converted.pkl"))
