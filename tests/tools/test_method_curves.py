"""One picture of all losses, and resuming."""

import pytest
from PIL import Image

from pretrain.runtime.metrics import read_metrics
from tests.pretrain.conftest import write_images
from tools import method_curves


@pytest.mark.slow
def test_methods_are_trained_by_the_command_line_and_drawn(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("RESULTS_DIR", str(tmp_path / "results"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    write_images(tmp_path / "images", 12)
    small = ["--backbone", "resnet18", "--image-size", "32", "--batch-size", "4", "--method.dim", "8"]
    arguments = ["--data", str(tmp_path / "images"), "--steps", "2", "--method", "instdis", "supervised", "--", *small]
    assert method_curves.main(arguments) == 1  # the folder is flat, and supervised takes no --method.dim
    picture = tmp_path / "results" / "method-curves.png"
    assert capsys.readouterr().out.strip() == str(picture) and Image.open(picture).size[0] > 1000
    (run,) = (tmp_path / "results" / "pretrain").iterdir()
    assert run.name.startswith("demo-instdis-") and [row["step"] for row in read_metrics(run / "metrics.jsonl")] == [
        0,
        1,
    ]


def test_a_finished_method_is_not_trained_again(tmp_path, monkeypatch):
    """The command is pretrain's own, which returns at once from a finished run; what it prints is where to look."""
    seen = []

    class Done:
        returncode, stdout = 0, f"{tmp_path}/run/backbone.safetensors\n"

    monkeypatch.setattr(method_curves.subprocess, "run", lambda command, **more: seen.append(command) or Done())
    assert method_curves.train("moco", tmp_path, 7, ["--seed", "3"]) == tmp_path / "run" / "metrics.jsonl"
    assert seen[0][1:5] == ["-m", "pretrain", "demo-moco", "--data"] and seen[0][-4:] == ["--steps", "7", "--seed", "3"]
