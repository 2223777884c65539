"""``benchmarks diagnose`` of what only transfer can read."""

import json
from pathlib import Path

import pytest
import torch
import torchvision

from benchmarks.__main__ import main
from tests.pretrain.conftest import write_images


@pytest.mark.slow
def test_another_projects_file_is_diagnosed_as_its_plain_backbone(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("RESULTS_DIR", str(tmp_path / "results"))
    write_images(tmp_path / "images", 64)
    torch.manual_seed(0)
    state = torchvision.models.resnet18(weights=None).state_dict()
    torch.save(state, tmp_path / "plain.pth")
    moco = {f"module.encoder_q.{name}": value for name, value in state.items() if not name.startswith("fc.")}
    moco |= {"module.queue": torch.zeros(128, 8), "module.encoder_q.fc.weight": torch.zeros(128, 512)}
    torch.save({"state_dict": moco, "arch": "resnet18", "epoch": 1}, tmp_path / "moco.pth")
    settings = ["--data", str(tmp_path / "images"), "--image-size", "32", "--dim", "2", "--resamples", "100"]
    for name in ("plain.pth", "moco.pth"):
        assert main(["diagnose", str(tmp_path / name), *settings]) == 0
    plain, other = (json.loads(Path(line).read_text()) for line in capsys.readouterr().out.splitlines())
    assert plain["information"] == other["information"] and other["checkpoint"]["name"] == "moco"
