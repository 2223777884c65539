"""Files that the libraries write themselves: recognised, and the same feature maps as the library's own model has.

Slow, and skipped where a library is not installed; none of them is needed to convert its files.
"""

import argparse
import copy

import pytest
import torch
from torchvision.models import resnet18, resnet50

from transfer.checkpoints.backbone import read_backbone

pytestmark = pytest.mark.slow
STAGES = ("layer1", "layer2", "layer3", "layer4")


def stirred(model, seed=3):
    """With batch norms that differ from each other, so that a swap or a forgotten one shows."""
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            for value in (module.weight.data, module.running_var):
                value.copy_(0.5 + torch.rand(value.shape, generator=generator))
            for value in (module.bias.data, module.running_mean):
                value.copy_(0.1 * torch.randn(value.shape, generator=generator))
    return model.eval()


def images():
    return torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def maps(backbone, build):
    """The four stages of torchvision's model with the backbone that was read."""
    model = build(weights=None)
    missing, unexpected = model.load_state_dict(backbone.state, strict=False)
    assert not unexpected and all(name.startswith("fc.") for name in missing)
    model.eval()
    found = []
    hooks = [getattr(model, stage).register_forward_hook(lambda m, i, out: found.append(out)) for stage in STAGES]
    with torch.inference_mode():
        model(images())
    assert len(hooks) == len(found)
    return found


def agree(found, wanted):
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


def timm_maps(model):
    with torch.inference_mode():
        return model.forward_intermediates(images(), indices=[1, 2, 3, 4], intermediates_only=True)


def test_timm_state_dict(scratch):
    timm = pytest.importorskip("timm")
    model = stirred(timm.create_model("resnet50"))
    torch.save(model.state_dict(), scratch / "x.pth")
    backbone = read_backbone(scratch / "x.pth")
    assert backbone.architecture == "resnet50"
    agree(maps(backbone, resnet50), timm_maps(model))


def test_timm_hub_folder(scratch):
    timm = pytest.importorskip("timm")
    model = stirred(timm.create_model("resnet18"))
    timm.models.save_for_hf(model, scratch, safe_serialization=True)
    backbone = read_backbone(scratch / "model.safetensors")
    assert (backbone.family, backbone.architecture) == ("timm", "resnet18")
    assert backbone.input.mean == model.pretrained_cfg["mean"] and "ImageNet" not in backbone.input.assumed
    agree(maps(backbone, resnet18), timm_maps(model))


def test_timm_training_checkpoint(scratch):
    """timm's own saver; the average is chosen, as timm does when it loads such a file."""
    timm = pytest.importorskip("timm")
    from timm.utils import CheckpointSaver, ModelEmaV2

    model = stirred(timm.create_model("resnet18"))
    ema = ModelEmaV2(model, decay=0.9)
    ema.module.load_state_dict(stirred(copy.deepcopy(model), seed=4).state_dict())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    args = argparse.Namespace(model="resnet18", amp=False)
    saver = CheckpointSaver(model, optimizer, args, model_ema=ema, checkpoint_dir=str(scratch))
    saver.save_checkpoint(0, metric=1.0)
    backbone = read_backbone(scratch / "checkpoint-0.pth.tar")
    assert (backbone.family, backbone.network, backbone.networks) == ("timm", "ema", ("ema", "model"))
    agree(maps(backbone, resnet18), timm_maps(ema.module))


def test_timms_deep_stem_is_refused(scratch):
    timm = pytest.importorskip("timm")
    from pretrain.common.errors import InputError

    torch.save(timm.create_model("resnet50d").state_dict(), scratch / "x.pth")
    with pytest.raises(InputError, match="deep stem"):
        read_backbone(scratch / "x.pth")


@pytest.mark.parametrize("safe", [True, False])
@pytest.mark.parametrize("head", [True, False])
def test_huggingface_folder(safe, head, scratch):
    transformers = pytest.importorskip("transformers")
    config = transformers.ResNetConfig(depths=[2, 2, 2, 2], hidden_sizes=[64, 128, 256, 512], layer_type="basic")
    kind = transformers.ResNetForImageClassification if head else transformers.ResNetModel
    model = stirred(kind(config))
    if safe:
        model.save_pretrained(scratch)
    else:
        config.save_pretrained(scratch)
        torch.save(model.state_dict(), scratch / "pytorch_model.bin")
    backbone = read_backbone(scratch / ("model.safetensors" if safe else "pytorch_model.bin"))
    assert (backbone.family, backbone.architecture, backbone.input.stride_in_1x1) == ("huggingface", "resnet18", False)
    assert "stride" not in backbone.input.assumed  # config.json says it
    with torch.inference_mode():
        agree(maps(backbone, resnet18), model(images(), output_hidden_states=True).hidden_states[1:])


def test_huggingface_bottlenecks(scratch):
    transformers = pytest.importorskip("transformers")
    model = stirred(transformers.ResNetModel(transformers.ResNetConfig()))
    model.save_pretrained(scratch)
    backbone = read_backbone(scratch / "model.safetensors")
    with torch.inference_mode():
        agree(maps(backbone, resnet50), model(images(), output_hidden_states=True).hidden_states[1:])


@pytest.mark.parametrize("method", ["simclr", "moco", "byol", "dino"])
def test_lightly_with_pytorch_lightning(method, scratch):
    """The modules of lightly's benchmark of the method, saved by the Trainer. DINO's ``backbone`` is the teacher."""
    heads = pytest.importorskip("lightly.models.modules.heads")
    lightning = pytest.importorskip("pytorch_lightning")
    second = {"moco": "key_backbone", "byol": "teacher_backbone", "dino": "student_backbone"}.get(method)

    class Method(lightning.LightningModule):
        def __init__(self, batch_size_per_device, num_classes):
            super().__init__()
            self.save_hyperparameters()
            self.backbone = stirred(resnet18(weights=None))
            self.backbone.fc = torch.nn.Identity()
            head = {"simclr": heads.SimCLRProjectionHead, "moco": heads.MoCoProjectionHead,
                    "byol": heads.BYOLProjectionHead, "dino": heads.DINOProjectionHead}[method]  # fmt: skip
            self.projection_head = head(512, 64, 32)
            if second:
                setattr(self, second, stirred(copy.deepcopy(self.backbone), seed=4))

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.1)

    module = Method(batch_size_per_device=8, num_classes=10)
    trainer = lightning.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    trainer.strategy.connect(module)
    trainer.save_checkpoint(scratch / "last.ckpt")
    backbone = read_backbone(scratch / "last.ckpt")
    chosen = {"simclr": "backbone", "moco": "query", "byol": "online", "dino": "teacher"}[method]
    assert (backbone.family, backbone.network) == ("lightly", chosen)
    wanted = module.backbone.state_dict()
    assert all(torch.equal(backbone.state[name], wanted[name]) for name in wanted)


def test_vissls_own_trunk(scratch):
    """vissl.models.trunks builds it; the wrapping around is as its converter reads it."""
    resnext = pytest.importorskip("vissl.models.trunks.resnext")
    from vissl.config.attr_dict import AttrDict

    trunk = {"DEPTH": 50, "WIDTH_MULTIPLIER": 1, "NORM": "BatchNorm", "GROUPS": 1, "ZERO_INIT_RESIDUAL": False}
    trunk |= {"WIDTH_PER_GROUP": 64, "LAYER4_STRIDE": 2, "GROUPNORM_GROUPS": 32}
    checkpointing = {"USE_ACTIVATION_CHECKPOINTING": False, "NUM_ACTIVATION_CHECKPOINTING_SPLITS": 2}
    config = {"TRUNK": {"RESNETS": trunk}, "ACTIVATION_CHECKPOINTING": checkpointing, "INPUT_TYPE": "rgb"}
    model = stirred(resnext.ResNeXt(AttrDict(config), "resnet"))
    content = {"classy_state_dict": {"base_model": {"model": {"trunk": model.state_dict(), "heads": {}}}}}
    torch.save(content, scratch / "model_final.torch")
    backbone = read_backbone(scratch / "model_final.torch")
    assert (backbone.family, backbone.network) == ("vissl", "trunk")
    with torch.inference_mode():
        agree(maps(backbone, resnet50), model(images(), ["res2", "res3", "res4", "res5"]))
