"""A backbone back under torchvision's names."""

import pickle

import pytest
import torch
from safetensors.torch import load_file
from torchvision.models import resnet50

from pretrain.common.errors import InputError
from transfer.__main__ import main
from transfer.checkpoints.backbone import read_backbone
from transfer.checkpoints.export import export


def test_torchvision_to_detectron2_and_back_is_bitwise_and_loads_strictly(converted, full_state, scratch, capsys):
    assert main(["export", str(converted.path), "-o", str(scratch / "back.safetensors")]) == 0
    assert capsys.readouterr().out == f"{scratch / 'back.safetensors'}\n"
    back = load_file(scratch / "back.safetensors")
    model = resnet50(weights=None)
    model.fc = torch.nn.Identity()
    model.load_state_dict(back, strict=True)
    weights = {name for name in full_state if not name.startswith("fc.") and not name.endswith("num_batches_tracked")}
    assert len(back) == 318 and all(torch.equal(back[name], full_state[name]) for name in weights)
    assert read_backbone(scratch / "back.safetensors").architecture == "resnet50"


def test_a_detectors_backbone_comes_out(full_state, converted, scratch):
    """As a fine-tuned FPN detector lies on disk: detectron2's names under backbone.bottom_up, with its heads."""
    tensors = {
        f"backbone.bottom_up.{name}": torch.from_numpy(array.copy()) for name, array in converted.arrays().items()
    }
    torch.save({"model": tensors | {"proposal_generator.rpn_head.conv.weight": torch.zeros(2)}}, scratch / "model.pth")
    export(scratch / "model.pth", scratch / "out.safetensors", family="detectron2")
    assert torch.equal(load_file(scratch / "out.safetensors")["conv1.weight"], full_state["conv1.weight"])


def test_what_torchvisions_names_cannot_say_is_refused(full_state, converted, scratch):
    """detectron2's own .pkl wants BGR images with the stride in the 1×1 convolutions."""
    content = {"model": dict(converted.arrays()), "__author__": "Detectron2 Model Zoo"}
    (scratch / "msra.pkl").write_bytes(pickle.dumps(content))
    with pytest.raises(InputError, match="BGR images, the stride in the 1×1") as caught:
        export(scratch / "msra.pkl", scratch / "out.safetensors")
    assert "\n" not in str(caught.value) and not (scratch / "out.safetensors").exists()


def test_never_replaces_a_file(checkpoint, scratch):
    (scratch / "there.safetensors").write_text("precious")
    for name in ("there.safetensors", "x.pth", "there.safetensors/below.safetensors"):
        with pytest.raises(InputError, match=r"new file|cannot be written") as caught:
            export(checkpoint, scratch / name)
        assert "\n" not in str(caught.value)
    assert (scratch / "there.safetensors").read_text() == "precious"
