"""Configs against the published values typed in again, weights that must arrive, and a detector trained for seconds."""

import dataclasses
import json
import math
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.config import get_cfg
from detectron2.data import DatasetCatalog
from detectron2.data.datasets import register_coco_instances
from PIL import Image

from benchmarks.tasks.compute.features import build_backbone
from pretrain.common.errors import InputError, RunError
from transfer.checkpoints.backbone import read_backbone
from transfer.checkpoints.convert import convert
from transfer.detection import checks, resume, trainer
from transfer.detection.config import build_cfg, protocol_cfg
from transfer.detection.trainer import flat_metrics, train_and_test

# facebookresearch/moco:detection/configs, pascal_voc_R_50_C4_24k_moco.yaml over its bases.
MOCO_C4 = {
    "MODEL.META_ARCHITECTURE": "GeneralizedRCNN",
    "MODEL.RPN.PRE_NMS_TOPK_TEST": 6000,
    "MODEL.RPN.POST_NMS_TOPK_TEST": 1000,
    "MODEL.ROI_HEADS.NAME": "Res5ROIHeadsExtraNorm",
    "MODEL.BACKBONE.FREEZE_AT": 0,
    "MODEL.RESNETS.NORM": "naiveSyncBN",
    "MODEL.RESNETS.STRIDE_IN_1X1": False,
    "MODEL.PIXEL_MEAN": [123.675, 116.280, 103.530],
    "MODEL.PIXEL_STD": [58.395, 57.120, 57.375],
    "INPUT.FORMAT": "RGB",
    "INPUT.MIN_SIZE_TEST": 800,
    "INPUT.MAX_SIZE_TRAIN": 1333,
    "INPUT.RANDOM_FLIP": "horizontal",
    "TEST.PRECISE_BN.ENABLED": True,
    "TEST.PRECISE_BN.NUM_ITER": 200,
    "SOLVER.IMS_PER_BATCH": 16,
    "SOLVER.BASE_LR": 0.02,
    "SOLVER.MOMENTUM": 0.9,
    "SOLVER.WEIGHT_DECAY": 1e-4,
    "SOLVER.WEIGHT_DECAY_NORM": 0.0,
    "SOLVER.GAMMA": 0.1,
    "SOLVER.CLIP_GRADIENTS.ENABLED": False,
    "SOLVER.AMP.ENABLED": False,
    "SOLVER.OPTIMIZER": "SGD",
    "SOLVER.LR_SCHEDULER_NAME": "WarmupMultiStepLR",
}
VOC = {
    "MODEL.MASK_ON": False,
    "INPUT.MIN_SIZE_TRAIN": tuple(range(480, 801, 32)),
    "SOLVER.STEPS": (18000, 22000),
    "SOLVER.MAX_ITER": 24000,
    "SOLVER.WARMUP_ITERS": 100,
}
COCO_1X = {
    "MODEL.MASK_ON": True,
    "INPUT.MIN_SIZE_TRAIN": tuple(range(640, 801, 32)),
    "SOLVER.STEPS": (60000, 80000),
    "SOLVER.MAX_ITER": 90000,
    "SOLVER.WARMUP_ITERS": 1000,
}
FPN = MOCO_C4 | {
    "MODEL.RESNETS.NORM": "SyncBN",
    "MODEL.FPN.NORM": "SyncBN",
    "MODEL.BACKBONE.NAME": "build_resnet_fpn_backbone",
    "MODEL.ROI_HEADS.NAME": "StandardROIHeads",
    "MODEL.ROI_BOX_HEAD.NAME": "FastRCNNConvFCHead",
    "MODEL.ROI_BOX_HEAD.NUM_FC": 2,
    "MODEL.ROI_BOX_HEAD.NUM_CONV": 0,
    "MODEL.ROI_BOX_HEAD.FC_DIM": 1024,
    "MODEL.ROI_BOX_HEAD.NORM": "",
    "MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION": 7,
    "MODEL.ROI_MASK_HEAD.NORM": "",
    "MODEL.RPN.PRE_NMS_TOPK_TRAIN": 2000,
    "MODEL.RPN.PRE_NMS_TOPK_TEST": 1000,
    "MODEL.RPN.POST_NMS_TOPK_TRAIN": 1000,
    "MODEL.RPN.IN_FEATURES": ["p2", "p3", "p4", "p5", "p6"],
    "MODEL.ANCHOR_GENERATOR.SIZES": [[32], [64], [128], [256], [512]],
}
PUBLISHED = {
    "voc_c4_24k": MOCO_C4 | VOC,
    "coco_c4_1x": MOCO_C4 | COCO_1X,
    "coco_fpn_1x": FPN | COCO_1X | {"MODEL.ROI_MASK_HEAD.NUM_CONV": 4, "MODEL.ROI_MASK_HEAD.POOLER_RESOLUTION": 14},
    "voc_fpn_24k": FPN | VOC,
    "coco_det_c4_1x": MOCO_C4 | COCO_1X | {"MODEL.MASK_ON": False},
    "coco_det_fpn_1x": FPN | COCO_1X | {"MODEL.MASK_ON": False},
}


def value(cfg, key):
    for part in key.split("."):
        cfg = cfg[part]
    return cfg


def cfg_of(converted, output, **changes):
    given = {
        "protocol": "coco_fpn_1x", "profile": "smoke", "converted": converted, "train": ("train",), "test": ("test",),
        "num_classes": 3, "mask_format": "polygon", "seed": 5, "output_dir": output, "num_gpus": 0, "opts": [],
    }  # fmt: skip
    return build_cfg(**given | changes)


@pytest.mark.parametrize("protocol", PUBLISHED)
def test_paper_profile_is_the_published_recipe(protocol, converted, scratch):
    cfg = cfg_of(converted, scratch, protocol=protocol, profile="paper", num_gpus=8)
    assert {key: value(cfg, key) for key in PUBLISHED[protocol]} == PUBLISHED[protocol]
    assert cfg.TRANSFER.FROM_CHECKPOINT == []
    assert cfg.SEED == 5 and cfg.DATASETS.TRAIN == ("train",) and cfg.MODEL.ROI_HEADS.NUM_CLASSES == 3
    assert (cfg.MODEL.WEIGHTS, cfg.is_frozen()) == (str(converted.path), True)


def test_build_cfg_is_pure(converted, scratch):
    defaults, opts = get_cfg().dump(), ["SOLVER.BASE_LR", "0.1"]
    first = cfg_of(converted, scratch / "not made", opts=opts)
    assert first.dump() == cfg_of(converted, scratch / "not made", opts=opts).dump()
    assert get_cfg().dump() == defaults and opts == ["SOLVER.BASE_LR", "0.1"]
    assert list(scratch.iterdir()) == []


def test_fewer_gpus_rescale_and_keep_the_written_values(converted, scratch):
    cfg = cfg_of(converted, scratch, protocol="voc_c4_24k", profile="paper", num_gpus=2)
    assert (cfg.SOLVER.IMS_PER_BATCH, cfg.SOLVER.BASE_LR, cfg.SOLVER.MAX_ITER) == (4, 0.005, 96000)
    assert (cfg.SOLVER.STEPS, cfg.SOLVER.WARMUP_ITERS, cfg.MODEL.RESNETS.NORM) == ((72000, 88000), 400, "naiveSyncBN")
    assert cfg.TEST.PRECISE_BN.NUM_ITER == 800  # as many images
    raw = cfg.TRANSFER.UNSCALED
    assert raw["TEST.PRECISE_BN.NUM_ITER"] == 200
    assert (raw["SOLVER.IMS_PER_BATCH"], raw["SOLVER.BASE_LR"], raw["SOLVER.STEPS"]) == (16, 0.02, (18000, 22000))


def test_opts_run_as_they_are_given(converted, scratch):
    opts = ["SOLVER.MAX_ITER", "100", "SOLVER.BASE_LR", "0.01", "TEST.PRECISE_BN.NUM_ITER", "7"]
    cfg = cfg_of(converted, scratch, protocol="voc_c4_24k", profile="paper", num_gpus=1, opts=opts)
    assert (cfg.SOLVER.MAX_ITER, cfg.SOLVER.BASE_LR, cfg.TEST.PRECISE_BN.NUM_ITER) == (100, 0.01, 7)
    assert cfg.SOLVER.IMS_PER_BATCH == 2
    assert trainer.Trainer.auto_scale_workers(cfg, 1) == cfg  # what detectron2's trainer does once more


def test_cpu_has_no_synchronised_norm(converted, scratch):
    cfg = cfg_of(converted, scratch, profile="paper")
    assert cfg.MODEL.DEVICE == "cpu"
    assert (cfg.MODEL.RESNETS.NORM, cfg.MODEL.FPN.NORM, cfg.MODEL.ROI_BOX_HEAD.NORM) == ("BN", "BN", "")
    assert cfg.TRANSFER.UNSCALED["MODEL.RESNETS.NORM"] == "SyncBN"


def test_processes_on_the_cpu_stand_for_gpus(converted, scratch, monkeypatch):
    """Batch, rate and iterations are those of two GPUs; statistics are shared by the norm that needs none."""
    gpus = cfg_of(converted, scratch, protocol="coco_fpn_4conv1fc_1x", profile="paper", num_gpus=2)
    monkeypatch.setenv("CPU_PROCESSES", "2")
    cpu = cfg_of(converted, scratch, protocol="coco_fpn_4conv1fc_1x", profile="paper", num_gpus=2)
    assert (gpus.MODEL.DEVICE, cpu.MODEL.DEVICE) == ("cuda", "cpu") and cpu.SOLVER == gpus.SOLVER
    norms = [cpu.MODEL.RESNETS.NORM, cpu.MODEL.FPN.NORM, cpu.MODEL.ROI_BOX_HEAD.NORM, cpu.MODEL.ROI_MASK_HEAD.NORM]
    assert norms == ["naiveSyncBN"] * 4 and gpus.MODEL.FPN.NORM == "SyncBN"
    with pytest.raises(InputError, match=r"MODEL\.FPN\.NORM SyncBN: a CPU has no"):
        cfg_of(converted, scratch, profile="paper", num_gpus=2, opts=["MODEL.FPN.NORM", "SyncBN"])
    assert cfg_of(converted, scratch, profile="paper", num_gpus=1).MODEL.FPN.NORM == "BN"


@pytest.mark.parametrize("profile", ["smoke", "demo"])
def test_small_profiles_change_sizes_not_the_recipe(profile, converted, scratch):
    for protocol in PUBLISHED:
        cfg = cfg_of(converted, scratch, protocol=protocol, profile=profile)
        for key in ("MODEL.ROI_HEADS.NAME", "MODEL.BACKBONE.FREEZE_AT", "MODEL.MASK_ON", "INPUT.FORMAT"):
            assert value(cfg, key) == PUBLISHED[protocol][key]
        assert cfg.SOLVER.OPTIMIZER == "AdamW" and cfg.SOLVER.MAX_ITER <= 450 and not cfg.TRANSFER.RESUME


@pytest.mark.parametrize(
    ("opts", "message"),
    [
        (["SOLVER.BASE_LRR", "1"], r"SOLVER\.BASE_LRR: .*no such key"),
        (["NOPE.X", "1"], r"NOPE\.X: .*no such key"),
        (["SOLVER.MAX_ITER", "many"], r"SOLVER\.MAX_ITER many"),
        (["SOLVER.MAX_ITER"], "has no value"),
        (["INPUT.FORMAT", "BGR"], r"INPUT\.FORMAT: the checkpoint, the data"),
        (["MODEL.RESNETS.STRIDE_IN_1X1", "True"], "the checkpoint, the data or another flag sets this"),
        (["MODEL.RETINANET.NUM_CLASSES", "3"], r"RETINANET\.NUM_CLASSES: the checkpoint, the data"),
        (["SOLVER.REFERENCE_WORLD_SIZE", "0"], "or another flag sets this; leave it out"),
        (["TRANSFER.PROTOCOL", "other"], "or another flag sets this; leave it out"),
        (["MODEL.FPN.NORM", "SyncBN"], r"MODEL\.FPN\.NORM SyncBN: a CPU has no"),
    ],
)
def test_bad_opts_are_named(opts, message, converted, scratch):
    with pytest.raises(InputError, match=message) as caught:
        cfg_of(converted, scratch, opts=opts)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("opts", "num_gpus", "message"),
    [
        ([], 3, "a batch of 2 images .* is not divisible by 3 GPUs: change --num-gpus"),
        (["SOLVER.IMS_PER_BATCH", "3"], 2, "a batch of 3 images .* is not divisible by 2 GPUs"),
        (["SOLVER.IMS_PER_BATCH", "0"], 0, "SOLVER.IMS_PER_BATCH 0: give 1 or more"),
    ],
)
def test_a_batch_that_the_gpus_cannot_share_is_refused(opts, num_gpus, message, converted, scratch):
    with pytest.raises(InputError, match=message):
        cfg_of(converted, scratch, opts=opts, num_gpus=num_gpus)


@pytest.mark.parametrize(
    ("opts", "words"),
    [
        (["MODEL.ROI_HEADS.NAME", "Nobody"], "Nobody"),
        (["SOLVER.LR_SCHEDULER_NAME", "Weekly"], "Weekly"),
        (["SOLVER.OPTIMIZER", "Adam"], "choose SGD or AdamW"),
    ],
)
def test_options_that_build_no_detector_are_refused(opts, words, converted, scratch):
    with pytest.raises(InputError, match=words) as caught:
        trainer.require_buildable(cfg_of(converted, scratch, opts=opts))
    assert "\n" not in str(caught.value)


def test_c4_cannot_freeze_its_head(converted, scratch):
    opts = ["MODEL.BACKBONE.FREEZE_AT", "5"]
    with pytest.raises(InputError, match="FREEZE_AT 5: a C4 detector has res5 in its head"):
        cfg_of(converted, scratch, protocol="voc_c4_24k", opts=opts)
    assert cfg_of(converted, scratch, opts=opts).MODEL.BACKBONE.FREEZE_AT == 5


@pytest.mark.parametrize(
    "content",
    ["MODEL: [", "[1, 2]", "", "MODEL: 3", "_BASE_: none.yaml", "SEED: !!python/object/apply:os.mkdir [boom]"],
)
def test_unusable_protocol_file_is_one_line(content, scratch, monkeypatch):
    monkeypatch.chdir(scratch)
    (scratch / "own.yaml").write_text(content)
    with pytest.raises(InputError, match=r"own\.yaml: ") as caught:
        protocol_cfg(scratch / "own.yaml")
    assert "\n" not in str(caught.value) and not (scratch / "boom").exists()


def test_masks_are_needed_only_where_they_are_used(converted, scratch):
    with pytest.raises(InputError, match=r"needs masks.*coco-det"):
        cfg_of(converted, scratch, mask_format="none")
    assert not cfg_of(converted, scratch, mask_format="none", protocol="voc_fpn_24k").MODEL.MASK_ON
    assert cfg_of(converted, scratch, mask_format="bitmask").INPUT.MASK_FORMAT == "bitmask"


class Reporting(DetectionCheckpointer):
    """Keeps what detectron2 reports as missing or unexpected."""

    def _load_model(self, checkpoint):
        self.incompatible = super()._load_model(checkpoint)
        return self.incompatible


@pytest.mark.slow
@pytest.mark.parametrize("protocol", ["voc_c4_24k", "coco_c4_1x", "coco_fpn_1x"])
def test_converted_file_loads_with_only_rpn_and_heads_missing(protocol, converted, scratch):
    cfg = cfg_of(converted, scratch, protocol=protocol, profile="paper")
    model = trainer.Trainer.build_model(cfg)
    checkpointer = Reporting(model)
    checkpointer.load(cfg.MODEL.WEIGHTS)
    report = checkpointer.incompatible
    assert not report.unexpected_keys and not report.incorrect_shapes
    parts = {".".join(key.split(".")[: 3 if "res5" in key else 2]) for key in report.missing_keys}
    heads = {"proposal_generator.rpn_head", "roi_heads.box_predictor"} | (
        {"roi_heads.mask_head"} if "coco" in protocol else set()
    )
    if "c4" in protocol:
        assert parts == heads | {"roi_heads.res5.norm"}
    else:
        assert parts == heads | {"roi_heads.box_head"} | {
            f"backbone.fpn_{kind}{level}" for kind in ("lateral", "output") for level in (2, 3, 4, 5)
        }
    assert checks.assert_backbone_loaded(model, converted.arrays(), converted.path) == 265
    assert len(checks.assert_trainable(model, cfg)) == 159  # 53 weights, 53 scales, 53 offsets
    _one_bit_off_is_seen(model, converted)
    _frozen_parameter_is_seen(model, cfg)


def _one_bit_off_is_seen(model, converted):
    place = checks.detector_names(model, "resnet50")["res5.2.conv3.norm.running_var"]
    tensor = model.state_dict()[place]
    tensor[7] = torch.nextafter(tensor[7], torch.tensor(9.0))
    with pytest.raises(RunError, match=f"1 of 265 backbone tensors .*{place}"):
        checks.assert_backbone_loaded(model, converted.arrays(), converted.path)


def _frozen_parameter_is_seen(model, cfg):
    place = checks.detector_names(model, "resnet50")["res3.0.conv1.weight"]
    dict(model.named_parameters())[place].requires_grad_(False)
    with pytest.raises(RunError, match=f"should train 159 .* trains 158; first difference: {place}"):
        checks.assert_trainable(model, cfg)


@pytest.mark.slow
def test_freeze_at_is_honoured(converted, scratch):
    cfg = cfg_of(converted, scratch, profile="paper", opts=["MODEL.BACKBONE.FREEZE_AT", "4"])
    trained = checks.assert_trainable(trainer.Trainer.build_model(cfg), cfg)
    assert {name.split(".")[2] for name in trained} == {"res5"}


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    """Six scenes of one bright rectangle each, registered once as COCO data for training and testing."""
    root, generator = tmp_path_factory.mktemp("scenes"), np.random.default_rng(0)
    images, annotations = [], []
    for index in range(1, 7):
        x, y, w, h = (int(v) for v in (*generator.integers(5, 40, 2), *generator.integers(25, 50, 2)))
        pixels = generator.integers(0, 90, (96, 96, 3), dtype=np.uint8)
        pixels[y : y + h, x : x + w] = 80 * (index % 3) + 60
        Image.fromarray(pixels).save(root / f"{index}.jpg")
        images.append({"id": index, "file_name": f"{index}.jpg", "width": 96, "height": 96})
        corners = [x, y, x + w, y, x + w, y + h, x, y + h]
        annotations.append(
            {"id": index, "image_id": index, "category_id": 1 + index % 3, "bbox": [x, y, w, h], "area": w * h,
             "iscrowd": 0, "segmentation": [corners]}
        )  # fmt: skip
    categories = [{"id": k, "name": f"class {k}"} for k in (1, 2, 3)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (root / "coco.json").write_text(json.dumps(content))
    register_coco_instances("six_scenes", {}, str(root / "coco.json"), str(root))
    yield {"train": ("six_scenes",), "test": ("six_scenes",)}
    DatasetCatalog.remove("six_scenes")


QUICK = ["SOLVER.MAX_ITER", "3", "TEST.PRECISE_BN.NUM_ITER", "1"]


@pytest.mark.slow
def test_small_run_from_end_to_end_twice(converted, scenes, scratch, capsys):
    metrics, facts = [], {}
    (scratch / "one").mkdir()
    (scratch / "one" / "metrics.json").write_text("of an earlier attempt\n")
    for attempt in ("one", "two"):
        cfg = cfg_of(converted, scratch / attempt, opts=QUICK, **scenes)
        values, facts = train_and_test(cfg, converted)
        metrics.append(values)
    assert metrics[0] == metrics[1]
    assert {"bbox/AP", "bbox/AP50", "bbox/AP75", "segm/AP", "segm/AP50"} <= set(metrics[0])
    assert all(value is None or 0 <= value <= 100 for value in metrics[0].values())
    assert metrics[0]["bbox/AP"] is not None and metrics[0]["segm/AP"] is not None
    out, err = capsys.readouterr()
    assert out == "" and "3/3" in err
    assert (facts["tensors_equal"], facts["trainable_backbone_tensors"], facts["resumed_at"]) == (265, 159, None)
    assert facts["classes_tested"] == 3
    files = sorted(path.name for path in (scratch / "one").iterdir())
    matches = [f"matches-{task}.npz" for task in ("bbox", "segm")]
    assert files == ["detections", "log.txt", *matches, "metrics.json", "predictions.json"]
    assert facts["coco_engine"] == "ultrafast-pycocotools 0.1.14"
    rows = [json.loads(line) for line in (scratch / "one" / "metrics.json").read_text().splitlines()]
    assert rows[-1]["iteration"] == 2 and math.isfinite(rows[-1]["total_loss"])


@pytest.mark.slow
def test_a_replaced_file_is_never_unpickled(converted, scenes, scratch):
    class Bomb:
        def __reduce__(self):
            return Path.mkdir, (scratch / "boom",)

    path = scratch / "x.pkl"
    path.write_bytes(pickle.dumps({"model": {"a": Bomb()}, "__author__": "x"}))
    replaced = dataclasses.replace(converted, path=path)
    with pytest.raises(InputError, match=r"x\.pkl: missing or changed since it was converted"):
        train_and_test(cfg_of(replaced, scratch / "run", opts=QUICK, **scenes), replaced)
    assert not (scratch / "boom").exists()


@pytest.mark.slow
def test_weights_that_do_not_arrive_stop_the_run(converted, scenes, scratch, monkeypatch):
    class Skipping(DetectionCheckpointer):
        def _load_file(self, filename):
            data = super()._load_file(filename)
            del data["model"]["res4.3.conv2.weight"]
            return data

    monkeypatch.setattr(trainer, "DetectionCheckpointer", Skipping)
    with pytest.raises(RunError, match=r"1 of 265 backbone tensors.*backbone\.bottom_up\.res4\.3\.conv2\.weight"):
        train_and_test(cfg_of(converted, scratch, opts=QUICK, **scenes), converted)


@pytest.mark.slow
def test_diverging_run_says_so(converted, scenes, scratch):
    opts = [*QUICK, "SOLVER.OPTIMIZER", "SGD", "SOLVER.BASE_LR", "1e12", "SOLVER.CLIP_GRADIENTS.ENABLED", "False"]
    with pytest.raises(RunError, match=r"(infinite|Inf).*SOLVER\.BASE_LR"):
        train_and_test(cfg_of(converted, scratch, opts=opts, **scenes), converted)


@pytest.mark.slow
def test_paper_run_continues_from_the_last_whole_checkpoint(converted, scenes, scratch):
    small = ["INPUT.MIN_SIZE_TRAIN", "(64,)", "INPUT.MIN_SIZE_TEST", "64", "DATALOADER.NUM_WORKERS", "0",
             "SOLVER.IMS_PER_BATCH", "2", "SOLVER.MAX_ITER", "4",
             "SOLVER.STEPS", "(3,)", "SOLVER.CHECKPOINT_PERIOD", "2", "SOLVER.BASE_LR", "1e-4",
             "TEST.PRECISE_BN.NUM_ITER", "1", "MODEL.ROI_BOX_HEAD.FC_DIM", "64"]  # fmt: skip
    cfg = cfg_of(converted, scratch, protocol="voc_fpn_24k", profile="paper", opts=small, **scenes)
    assert train_and_test(cfg, converted)[1]["resumed_at"] is None
    for name in ("model_final.pth", "model_0000003.pth"):
        with (scratch / name).open("r+b") as stream:
            stream.truncate(1000)
    _, facts = train_and_test(cfg, converted)
    assert (facts["resumed_at"], facts["tensors_equal"]) == (2, None)
    _, facts = train_and_test(cfg, converted)  # finished: only the test is left to do
    assert facts["resumed_at"] == 4
    _tuned_backbone_can_be_evaluated(scratch / "model_final.pth", converted)


def _tuned_backbone_can_be_evaluated(path, converted):
    state = torch.load(path, weights_only=True)["model"]
    backbone, again = read_backbone(path), convert(path, path.with_name("tuned.pkl"))
    for name, array in again.arrays().items():
        assert np.array_equal(array, state[f"backbone.bottom_up.{name}"].numpy())
    assert "config.yaml" in backbone.input.assumed and backbone.input.mean == pytest.approx(
        converted.input.mean, abs=1e-6
    )
    assert any(not np.array_equal(array, again.arrays()[name]) for name, array in converted.arrays().items())
    assert build_backbone(backbone)(torch.zeros(1, 3, 64, 64)).shape == (1, 2048)


def test_no_checkpoint_to_continue(scratch):
    (scratch / "model_0000001.pth").write_bytes(b"PK\x03\x04 cut short")
    torch.save({"model": {}}, scratch / "model_0000002.pth")
    assert resume.latest_readable(scratch) is None


def test_adamw_is_adamw(converted, scratch):
    # The fused kernel is wrong where a gradient's strides differ from its parameter's; here they must not.
    cfg = cfg_of(converted, scratch, opts=["SOLVER.CLIP_GRADIENTS.ENABLED", "False"])
    nets = []
    for _ in range(2):
        torch.manual_seed(0)
        layers = torch.nn.Conv2d(3, 8, 3, bias=False), torch.nn.BatchNorm2d(8), torch.nn.Conv2d(8, 4, 1)
        nets.append(torch.nn.Sequential(*layers).to(memory_format=torch.channels_last))
    norms = list(nets[1][1].parameters())
    rest = [*nets[1][0].parameters(), *nets[1][2].parameters()]
    groups = [{"params": rest, "weight_decay": 0.01}, {"params": norms, "weight_decay": 0.0}]
    optimizers = [trainer.Trainer.build_optimizer(cfg, nets[0]), torch.optim.AdamW(groups, lr=5e-4, foreach=False)]
    for step in range(4):
        images = torch.randn(2, 3, 9, 9, generator=torch.Generator().manual_seed(step))
        for net, optimizer in zip(nets, optimizers, strict=True):
            optimizer.zero_grad()
            net(images).square().mean().backward()
            optimizer.step()
    for found, wanted in zip(nets[0].parameters(), nets[1].parameters(), strict=True):
        assert torch.allclose(found, wanted, atol=1e-6)


def test_flat_metrics():
    nan = math.nan
    assert flat_metrics({"bbox": {"AP": 12.5, "AP50": -1.0, "AP-person": 3.0, "APl": nan}}) == {
        "bbox/AP": 12.5,
        "bbox/AP50": None,
        "bbox/APl": None,
    }
    assert flat_metrics({"segm": {"AP": nan, "AP50": nan, "AP75": nan, "APs": nan}}) == {
        "segm/AP": 0.0,
        "segm/AP50": 0.0,
        "segm/AP75": 0.0,
        "segm/APs": None,
    }
