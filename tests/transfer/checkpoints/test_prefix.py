"""Files of nobody's layout: --prefix, two networks in one file, and what is never replaced."""

import pytest
import torch
from torchvision.models import resnet18

from pretrain.common.errors import InputError
from transfer.__main__ import main
from transfer.checkpoints.backbone import read_backbone
from transfer.checkpoints.convert import convert, summary
from transfer.checkpoints.inspect import inspect
from transfer.checkpoints.verify import verify


@pytest.fixture(scope="module")
def backbone():
    torch.manual_seed(0)
    return {name: value for name, value in resnet18(weights=None).state_dict().items() if not name.startswith("fc.")}


def under(prefix, state):
    return {f"{prefix}{name}": value for name, value in state.items()}


def moved(state):
    """The network after some more training, as far as running means tell."""
    return {name: value + 0.1 if name.endswith("running_mean") else value for name, value in state.items()}


def command_of(lines):
    """What inspect says to try, as arguments."""
    (line,) = [line for line in lines if "--prefix" in line and "try: " in line]
    return [word.strip("'") for word in line.split("python -m transfer ")[1].split(" ")]


def test_what_inspect_says_to_try_converts_and_verifies(backbone, tmp_path, capsys):
    path = tmp_path / "x.ckpt"
    torch.save({"state_dict": under("net.trunk.", backbone) | {"net.head.weight": torch.zeros(3)}, "epoch": 1}, path)
    assert main(command_of(inspect(path))) == 0
    assert capsys.readouterr().err.splitlines()[-1].startswith("next: make benchmark CHECKPOINTS=")
    converted = convert(path, family="prefix", network="state_dict.net.trunk.")
    assert converted.dropped["state_dict.net.head.weight"] == "outside the prefix that was asked for"
    assert converted.mapped == 100 and any("bit for bit" in line for line in verify(converted.path, path))
    found = read_backbone(converted.path).state
    assert len(found) == 100 and all(torch.equal(found[name], backbone[name]) for name in found)


def test_the_numbers_of_a_sequential_get_their_names(backbone, tmp_path):
    model = resnet18(weights=None)
    model.load_state_dict(backbone, strict=False)
    numbered = torch.nn.Sequential(*list(model.children())[:-1]).state_dict()
    for prefix in ("", "encoder.f."):
        path = tmp_path / f"{prefix}x.pth"
        torch.save(under(prefix, numbered), path)
        assert main(command_of(inspect(path))) == 0
        found = read_backbone(path, "prefix", prefix)
        assert all(torch.equal(found.state[name], backbone[name]) for name in found.state)


def test_two_networks_are_refused_until_one_is_named(backbone, tmp_path):
    ema = {name: value + 1 for name, value in backbone.items()}
    torch.save({"model": backbone, "model_ema": under("module.", ema), "epoch": 3}, tmp_path / "x.pth")
    with pytest.raises(InputError, match=r"second network in 'model_ema'.*--prefix model\.") as caught:
        convert(tmp_path / "x.pth")
    assert "\n" not in str(caught.value)
    assert torch.equal(
        read_backbone(tmp_path / "x.pth", "prefix", "model_ema.module.").state["bn1.bias"], ema["bn1.bias"]
    )
    assert torch.equal(read_backbone(tmp_path / "x.pth", "prefix", "model.").state["bn1.bias"], backbone["bn1.bias"])


def test_an_averaged_network_under_another_name_is_not_left_out_quietly(backbone, tmp_path):
    torch.save({"state_dict": backbone, "state_dict_ema": backbone, "arch": "resnet18"}, tmp_path / "x.pth.tar")
    with pytest.raises(InputError, match="second network in 'state_dict_ema'"):
        convert(tmp_path / "x.pth.tar")


def test_no_conversion_takes_the_place_of_another(backbone, tmp_path):
    state = under("module.encoder_q.", backbone) | under("module.encoder_k.", moved(backbone))
    torch.save({"state_dict": state | {"module.queue": torch.zeros(4, 4)}}, tmp_path / "moco.pth")
    torch.save(backbone, tmp_path / "moco.ckpt")
    query, key = convert(tmp_path / "moco.pth"), convert(tmp_path / "moco.pth", network="key")
    assert (query.path.name, key.path.name) == ("moco.pkl", "moco-key.pkl")
    before = query.path.read_bytes()
    for arguments in ({"path": tmp_path / "moco.pth", "network": "key"}, {"path": tmp_path / "moco.ckpt"}):
        with pytest.raises(InputError, match=r"holds the conversion of .*moco\.pth, its network query; .* with -o"):
            convert(out=query.path, **arguments)
    assert query.path.read_bytes() == before
    torch.save({"state_dict": moved(state)}, tmp_path / "moco.pth")
    assert convert(tmp_path / "moco.pth").sha256 != query.sha256  # the same file trained on


@pytest.mark.parametrize(
    ("content", "message"),
    [({}, "holds no tensors"), ({"state_dict": {}}, r"holds no tensors \(keys: state_dict\)")],
)
def test_files_without_tensors(content, message, tmp_path):
    torch.save(content, tmp_path / "x.pth")
    with pytest.raises(InputError, match=message):
        read_backbone(tmp_path / "x.pth")


def test_a_transformer_is_not_compared_with_a_resnet(tmp_path):
    torch.save(
        {"patch_embed.proj.weight": torch.zeros(8, 3, 4, 4), "blocks.0.attn.qkv.weight": torch.zeros(24, 8)},
        tmp_path / "x",
    )
    lines = inspect(tmp_path / "x")
    assert "looks like: a Vision Transformer, patch 4, width 8" in lines
    assert not any("missing:" in line or "try:" in line for line in lines)


def test_the_next_command_holds_names_with_spaces_together(backbone, tmp_path):
    path = tmp_path / "my run (1).pth"
    torch.save(backbone, path)
    assert summary(convert(path))[-1] == f"next: python -m benchmarks suite demo --checkpoint 'my run (1)={path}'"


def test_refused_uses(backbone, tmp_path):
    path = tmp_path / "x.pth"
    torch.save(backbone, path)
    with pytest.raises(InputError, match=r"no tensor's name starts with the prefix 'net\.'"):
        main(["convert", str(path), "--prefix", "net."])
    with pytest.raises(InputError, match="leave --family and --network out"):
        main(["convert", str(path), "--prefix", "net.", "--family", "moco"])
    with pytest.raises(InputError, match=r"takes the converted \.pkl first"):
        verify(path)
    torch.save({name: value.double() for name, value in backbone.items()}, path)
    with pytest.raises(InputError, match=r"not plain float32 or half .*; save model\.float\(\)"):
        convert(path)
