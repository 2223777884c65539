"""What a person is told of a file: inspect, the choice of network, and --family."""

import pytest
import torch
from torchvision.models import resnet18

from pretrain.common.errors import InputError
from transfer.checkpoints.backbone import read_backbone
from transfer.checkpoints.convert import convert, summary
from transfer.checkpoints.inspect import inspect
from transfer.checkpoints.verify import verify


@pytest.fixture(scope="module")
def backbone():
    torch.manual_seed(0)
    return {name: value for name, value in resnet18(weights=None).state_dict().items() if not name.startswith("fc.")}


def moco(backbone, **changes):
    """Two networks: the second is the first with other running means."""
    key = {n: v + 0.1 if n.endswith("running_mean") else v for n, v in backbone.items()}
    state = {f"module.encoder_q.{n}": v for n, v in backbone.items()}
    state |= {f"module.encoder_k.{n}": v for n, v in key.items()}
    return {"epoch": 3, "state_dict": state | {"module.queue": torch.zeros(4, 4)} | changes}, key


def test_a_known_file(backbone, tmp_path):
    path = tmp_path / "x.pth"
    torch.save(moco(backbone)[0], path)
    lines = inspect(path)
    assert lines[0] == "top-level keys: epoch, state_dict"
    assert lines[2].startswith("family: moco (")
    assert lines[3] == "100 of the 100 tensors of a ResNet-18"
    assert "networks: query is taken; --network takes key" in lines
    assert lines[-1] == f"try: python -m transfer convert {path}"


def test_an_unknown_prefix(backbone, tmp_path):
    path = tmp_path / "x.pth"
    torch.save({"net": {f"trunk.{n}": v for n, v in backbone.items()}}, path)
    lines = inspect(path)
    assert "under 'net.trunk.': 120, looks like: ResNet-18" in lines
    assert any(line.startswith("refused: ") and "not a checkpoint of any known family" in line for line in lines)
    assert lines[-1].endswith(f"try: python -m transfer convert {path} --prefix net.trunk.")


def test_a_damaged_file_of_a_known_family(backbone, tmp_path):
    content = moco(backbone)[0]
    del content["state_dict"]["module.encoder_q.layer1.0.conv1.weight"]
    torch.save(content, tmp_path / "x.pth")
    lines = inspect(tmp_path / "x.pth")
    assert any("missing layer1.0.conv1.weight" in line and line.startswith("refused") for line in lines)
    assert "nearest: moco would map 99 of 100" in lines
    assert not any(line.startswith("try: python -m transfer convert") for line in lines)


def test_networks_can_be_chosen_and_verified(backbone, tmp_path):
    path, (content, key) = tmp_path / "x.pth", moco(backbone)
    torch.save(content, path)
    published, other = convert(path), convert(path, tmp_path / "key.pkl", network="key")
    assert (published.networks, published.network, other.network) == (("query", "key"), "query", "key")
    assert torch.equal(torch.from_numpy(other.arrays()["stem.conv1.norm.running_mean"].copy()), key["bn1.running_mean"])
    assert "taken: the network query, the published choice; --network takes key" in summary(published)
    assert any(line.startswith("taken: the network key, as asked") for line in summary(other))
    assert summary(published)[-1].endswith(f'"{path.stem}={path}"')
    assert summary(other)[-1].endswith(f'{other.path}"')  # the checkpoint itself would be read as published
    assert any("bit for bit" in line for line in verify(other.path, path))
    assert read_backbone(other.path).sha256 != read_backbone(path).sha256
    with pytest.raises(InputError, match="no network teacher in the file; --network takes query or key"):
        convert(path, network="teacher")


def test_a_source_can_be_named(backbone, tmp_path):
    torch.save(backbone, tmp_path / "x.pth")
    forced = convert(tmp_path / "x.pth", tmp_path / "forced.pkl", family="simclr")
    assert (forced.family, forced.input.mean, forced.input.std) == ("simclr", (0.0,) * 3, (1.0,) * 3)
    assert convert(tmp_path / "x.pth").family == "torchvision"
    assert summary(forced)[-1].endswith(f'{forced.path}"')
    with pytest.raises(InputError, match="--family nonsense: no such family; choose from superinfo, "):
        convert(tmp_path / "x.pth", family="nonsense")
    for other in ("superinfo", "moco", "detectron2", "byol"):
        with pytest.raises(InputError, match=f"^{tmp_path}/x.pth: (nothing in it is laid out|not a usable)"):
            convert(tmp_path / "x.pth", family=other)


def test_a_file_without_the_marks_of_its_family_can_still_be_named(backbone, tmp_path):
    """A SimSiam network without its heads could be anybody's encoder."""
    torch.save({"state_dict": {f"encoder.{n}": v for n, v in backbone.items()}}, tmp_path / "x.pth")
    lines = inspect(tmp_path / "x.pth")
    (named,) = [line.split("--family ")[1] for line in lines if line.startswith("if SimSiam wrote it, try: ")]
    assert convert(tmp_path / "x.pth", family=named).mapped == 100
