"""Fine-tuning against a plain loop over copies of the network, in two processes, and after a kill."""

import dataclasses
import errno
import os
import signal
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torchvision.models import resnet18
from torchvision.transforms import v2

from benchmarks.checkpoints import EvaluatedCheckpoint
from benchmarks.data.root import DataRoot
from benchmarks.predictions import Predictions
from benchmarks.run import Context
from benchmarks.tasks.base import Settings, Setup
from benchmarks.tasks.compute import finetune as module
from benchmarks.tasks.compute.classify import Classified, classify
from benchmarks.tasks.compute.features import build_backbone, eval_transform, labelled_images, profile_view
from benchmarks.tasks.compute.finetune import Network, Trainer, build_optimizer, finetune, rate, set_rates, train
from benchmarks.tasks.compute.history import History
from benchmarks.tasks.compute.replicas import flipped
from benchmarks.tasks.finetune import STYLES, settings, style_of
from pretrain.augment.crops import Crop
from pretrain.common.errors import InputError, RunError
from pretrain.common.pixels import PixelInput
from pretrain.data import decode
from pretrain.loader import CropDataset
from pretrain.runtime.resume import saves
from tests.benchmarks.doubles import make_spec
from tests.pretrain.conftest import one_thread, write_images  # noqa: F401  (a fixture)
from transfer.checkpoints.backbone import backbone_of, weights_digest
from transfer.checkpoints.reading.read import load_checkpoint

pytestmark = pytest.mark.usefixtures("one_thread")
CLASSES, PER_CLASS, TESTED = 6, 4, 2
IMAGENET = PixelInput()
# 24 images, 3 steps an epoch of 4 + 4 images.
STYLE = dataclasses.replace(
    STYLES["semi-1-vicreg"], percent=100, epochs=2, batch=8, replicas=2, learning_rate_head=0.05, weight_decay=1e-3
)


@dataclasses.dataclass(frozen=True)
class Stored:
    """A checkpoint on disk that can go to another process."""

    path: str
    input: PixelInput = IMAGENET

    def load(self):
        return dataclasses.replace(backbone_of(load_checkpoint(self.path)), input=self.input)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finetune")
    for split, count in (("train", PER_CLASS), ("val", TESTED)):
        for label in range(CLASSES):
            write_images(folder / "imagenet" / split / f"c{label}", count, seed=10 * label + (split == "val"))
    torch.manual_seed(0)
    torch.save(resnet18(weights=None).state_dict(), folder / "x.pth")
    return folder


@pytest.fixture
def context(folder, tmp_path):
    return make_context(folder, tmp_path / "run")


def make_context(folder, run, seed=0):
    counts = {"train": CLASSES * PER_CLASS, "val": CLASSES * TESTED}
    section = {"classes": [f"c{label}" for label in range(CLASSES)], "counts": counts, "fingerprint": "f" * 64}
    about = {"name": "toy", "synthetic": True, "description": "", "config": {}}
    run.mkdir(exist_ok=True)
    return Context(
        spec=make_spec(task="semi-1-vicreg", seed=seed),
        root=DataRoot(path=folder, sections={"imagenet": section}, **about),
        checkpoint=EvaluatedCheckpoint(label="x", stored=Stored(str(folder / "x.pth"))),
        folder=run,
        num_gpus=0,
        loader_workers=0,
    )


def fp32(style=STYLE):
    return Settings(values={"crop": 48, **dataclasses.asdict(style)}, precision="fp32")


def final(run):
    """The newest save: the network's tensors and its history."""
    state = torch.load(saves(run)[0], weights_only=True)
    return state["network"], state["history"]


@pytest.mark.parametrize("name", ["semi-1-swav", "semi-10-barlow"])
def test_rates_against_torchs_schedulers(name):
    style, per_epoch = STYLES[name], 3
    weights = [nn.Parameter(torch.zeros(1)) for _ in range(2)]
    groups = [{"params": [weights[0]]}, {"params": [weights[1]], "lr": style.learning_rate_head}]
    theirs = torch.optim.SGD(groups, lr=style.learning_rate_trunk, momentum=0.9)
    scheduler = (
        torch.optim.lr_scheduler.MultiStepLR(theirs, [12, 16], gamma=0.2)
        if name == "semi-1-swav"
        else torch.optim.lr_scheduler.CosineAnnealingLR(theirs, 20)
    )
    for epoch in range(style.epochs):
        for place in range(per_epoch):
            for group, peak in zip(
                theirs.param_groups, (style.learning_rate_trunk, style.learning_rate_head), strict=True
            ):
                assert rate(style, peak, epoch * per_epoch + place, per_epoch) == pytest.approx(group["lr"], rel=1e-9)
        theirs.step()
        scheduler.step()


def test_the_cosine_by_step_falls_from_the_peak_to_a_thousandth():
    style = STYLES["finetune-lightly"]
    found = [rate(style, 0.05, step, 10) for step in range(300)]
    x = np.arange(300) / 299
    np.testing.assert_allclose(found, 5e-5 + (0.05 - 5e-5) * (1 + np.cos(np.pi * x)) / 2, rtol=1e-9)
    assert found[0] == 0.05 and found[-1] == pytest.approx(5e-5)
    assert rate(dataclasses.replace(style, epochs=1), 0.05, 0, 1) == pytest.approx(5e-5)


def test_two_steps_against_a_copy_of_the_network_per_gpu(context, monkeypatch):
    monkeypatch.setattr(module, "Network", Double)
    trainer = Trainer(context, STYLE, fp32())
    copies = [Double(context.backbone(), CLASSES, STYLE, 0) for _ in range(2)]
    groups = [{"params": copies[0].head.parameters(), "lr": 0.05}, {"params": copies[0].backbone.parameters()}]
    theirs = torch.optim.SGD(groups, 0.03, momentum=0.9, weight_decay=1e-3)
    batches, losses = trainer._batches(0), []
    for step in range(2):
        trainer._step(step, next(batches))
        for number, one in enumerate(copies):
            one.zero_grad()
            x, y = by_hand(trainer, number, step)
            losses.append(F.cross_entropy(one(x), y))
            losses[-1].backward()
        for first, second in zip(copies[0].parameters(), copies[1].parameters(), strict=True):
            first.grad = (first.grad + second.grad) / 2
        theirs.step()
        copies[1].load_state_dict(copies[0].state_dict())  # each GPU then has the first one's weights and statistics
    assert trainer.history.loss.item() == pytest.approx(sum(loss.item() for loss in losses) / 2, rel=1e-6)
    for name, ours in trainer.network.state_dict().items():
        torch.testing.assert_close(ours, copies[0].state_dict()[name], rtol=1e-5, atol=1e-8, msg=name)
    start = build_backbone(context.backbone()).state_dict()
    assert not torch.allclose(start["conv1.weight"].double(), trainer.network.backbone.conv1.weight)
    assert not torch.allclose(start["bn1.running_mean"].double(), trainer.network.backbone.bn1.running_mean)


def by_hand(trainer, replica, step):
    """The images and labels of one of two replicas, four at a step, with torchvision's flip and normalisation."""
    order, flips = np.random.default_rng(np.random.SeedSequence([0, 0, 0])).permutation(24), flipped(0, 0, 24, 0.5)
    chosen = order[replica::2][4 * step : 4 * step + 4]
    dataset = CropDataset(trainer.images, [Crop(size=48, scale=(0.08, 1.0))], seed=0, crop_backend="torch")
    crops = [dataset[(0, int(index))][0][0].float() / 255 for index in chosen]
    mirrored = [v2.functional.hflip(crop) if flips[index] else crop for crop, index in zip(crops, chosen, strict=True)]
    x = v2.Normalize(IMAGENET.mean, IMAGENET.std)(torch.stack(mirrored))
    return x, torch.tensor([trainer.images.labels[index] for index in chosen])


def test_the_checkpoint_that_other_runs_read_stays_as_it_is(context):
    backbone = context.backbone()
    network = Network(backbone, CLASSES, STYLE, 0)
    optimizer = build_optimizer(network, STYLE)
    set_rates(optimizer, STYLE, 0, 1)
    network(torch.randn(4, 3, 48, 48)).sum().backward()
    optimizer.step()
    assert weights_digest(backbone.state) == backbone.sha256
    assert not torch.equal(network.backbone.conv1.weight, backbone.state["conv1.weight"])


def test_the_head_is_drawn_by_the_seed_as_the_style_says(context):
    backbone = context.backbone()
    before = torch.random.get_rng_state()
    normal = Network(backbone, 600, STYLE, 0).head
    default = Network(backbone, 600, STYLES["semi-1-swav"], 0).head
    assert torch.equal(torch.random.get_rng_state(), before)
    assert normal.weight.std().item() == pytest.approx(0.01, rel=0.01) and not normal.bias.any()
    assert default.weight.std().item() == pytest.approx(1 / np.sqrt(3 * 512), rel=0.02) and default.bias.any()
    assert torch.equal(Network(backbone, 600, STYLE, 0).head.weight, normal.weight)
    assert not torch.equal(Network(backbone, 600, STYLE, 1).head.weight, normal.weight)


def test_images_come_as_the_network_expects_them(folder, tmp_path):
    other = PixelInput(mean=(0.1, 0.2, 0.3), std=(0.5, 1.0, 2.0), order="BGR")
    samples = SimpleNamespace(crops=[torch.arange(24, dtype=torch.uint8).view(2, 3, 2, 2)], index=torch.tensor([3, 1]))
    found = module.pixels(samples, np.array([False, True, False, False]), other, torch.device("cpu"))
    for channel in range(3):
        plain = samples.crops[0][:, 2 - channel].double() / 255
        plain[1] = plain[1].flip(1)  # image 1 alone
        expected = (plain - other.mean[channel]) / other.std[channel]
        torch.testing.assert_close(found[:, channel].double(), expected, rtol=1e-5, atol=1e-6)


def test_a_killed_run_ends_in_the_same_weights_bit_for_bit(folder, tmp_path, monkeypatch):
    """With seed 1, and bf16's rounding; killed after four of six steps, in the middle of an epoch."""
    bf16 = dataclasses.replace(fp32(), precision="bf16")
    whole, killed = make_context(folder, tmp_path / "whole", 1), make_context(folder, tmp_path / "killed", 1)
    train(whole, STYLE, bf16)
    monkeypatch.setattr(module, "FIRST_SAVE_SECONDS", 0.0)
    monkeypatch.setattr(module, "SAVE_SECONDS", 0.0)
    child = os.fork()
    if child == 0:
        proper = Trainer._step

        def step(self, number, samples):
            if number == 5:
                os.kill(os.getpid(), signal.SIGKILL)
            proper(self, number, samples)

        Trainer._step = step
        try:
            train(killed, STYLE, bf16)
        finally:
            os._exit(99)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert [path.name for path in saves(killed.folder)] == ["state-000000005.pt", "state-000000004.pt"]
    newest = saves(killed.folder)[0]
    newest.write_bytes(newest.read_bytes()[:1000])  # as a full disk leaves it: the one before it is taken
    train(killed, STYLE, bf16)
    (network, history), (weights, expected) = final(killed.folder), final(whole.folder)
    assert all(torch.equal(network[name], weights[name]) for name in weights)
    assert history.pop("resumed_at") == 4 and expected.pop("resumed_at") is None
    for one in (history, expected):
        one.pop("seconds")
        for epoch in one["epochs"]:
            assert epoch.pop("seconds") >= 0
    assert torch.equal(history["best"].pop("confidence"), expected["best"].pop("confidence"))
    assert torch.equal(history["best"].pop("predicted"), expected["best"].pop("predicted"))
    assert history == expected and len(history["epochs"]) == 2


def test_a_disk_that_is_full_at_the_end_leaves_the_last_save(context, monkeypatch):
    style = dataclasses.replace(STYLE, epochs=1)

    def full(predictions, folder):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space"):
        patch.setattr(Predictions, "save", full)
        finetune(context, style, fp32(style))
    assert [path.name for path in saves(context.folder)] == ["state-000000003.pt"]
    monkeypatch.setattr(Trainer, "_step", None)  # nothing is trained again
    assert finetune(context, style, fp32(style)).predictions and not saves(context.folder)


class Double(Network):
    """In float64, where rounding does not grow."""

    def __init__(self, *args):
        super().__init__(*args)
        self.double()

    def forward(self, x):
        return super().forward(x.double())


def train_in_double(context, style, settings):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "Network", Double)
        train(context, style, settings)


@pytest.mark.slow
def test_two_processes_end_as_one(folder, tmp_path, monkeypatch):
    style = dataclasses.replace(STYLE, epochs=1, replicas=4)  # two replicas each; the first's statistics count
    one, two = make_context(folder, tmp_path / "one"), make_context(folder, tmp_path / "two")
    proper, states = module._result, {}

    def result_of(context, *args):
        states[context.folder] = torch.load(saves(context.folder)[0], weights_only=True)
        return proper(context, *args)

    monkeypatch.setattr(module, "_result", result_of)
    monkeypatch.setattr(module, "train", train_in_double)
    alone = finetune(one, style, fp32(style))
    monkeypatch.setattr(module, "processes", lambda context, style: 2)
    together = finetune(two, style, fp32(style))
    for name, tensor in states[one.folder]["network"].items():
        torch.testing.assert_close(states[two.folder]["network"][name], tensor, rtol=1e-6, atol=1e-9, msg=name)
    losses = [states[context.folder]["history"]["epochs"][0]["loss"] for context in (one, two)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)
    assert together.metrics == alone.metrics and together.config["processes"] == 2 and alone.config["processes"] == 1
    np.testing.assert_allclose(together.predictions.confidence, alone.predictions.confidence, rtol=1e-5)
    assert together.predictions.predicted.tolist() == alone.predictions.predicted.tolist()
    assert saves(one.folder) == saves(two.folder) == []


def test_testing_against_one_image_at_a_time(context):
    network = Network(context.backbone(), CLASSES, STYLES["semi-1-swav"], 0)
    images, y = labelled_images(context.root, "val")
    view, off = profile_view("smoke"), torch.autocast("cpu", torch.bfloat16, enabled=False)
    found = classify(network, context.backbone(), view, images, y, CLASSES, autocast=off, workers=1)
    assert network.training and found.predicted.tolist()
    network.eval()
    transform = eval_transform(view, context.backbone())
    with torch.no_grad():
        scores = [network(transform(decode(path))[None])[0].softmax(0) for path in images]
    ranks = [int((one > one[label]).sum()) for one, label in zip(scores, y, strict=True)]
    assert found.predicted.tolist() == [int(one.argmax()) for one in scores]
    assert found.confidence.tolist() == pytest.approx([one.max().item() for one in scores], rel=1e-4)
    assert found.top1 == pytest.approx(100 * np.mean([place == 0 for place in ranks]))
    assert found.top5 == pytest.approx(100 * np.mean([place < 5 for place in ranks]))
    few = classify(network, context.backbone(), view, images, y % 5, 5, autocast=off, workers=0)
    assert few.top5 is None


def test_unreadable_images_end_the_run_in_one_line(folder, tmp_path):
    for split, label in (("train", 1), ("val", 2)):
        broken = tmp_path / split
        for part in ("train", "val"):
            for number in range(CLASSES):
                target = broken / "imagenet" / part / f"c{number}"
                target.parent.mkdir(parents=True, exist_ok=True)
                target.symlink_to(folder / "imagenet" / part / f"c{number}")
        (broken / "imagenet" / split / f"c{label}").unlink()
        write_images(broken / "imagenet" / split / f"c{label}", PER_CLASS if split == "train" else TESTED)
        (broken / "imagenet" / split / f"c{label}" / "001.jpg").write_bytes(b"no image")
        (broken / "x.pth").symlink_to(folder / "x.pth")
        for workers in (0, 1):
            context = make_context(broken, tmp_path / f"run-{split}")
            context = dataclasses.replace(context, loader_workers=workers)
            with pytest.raises(InputError, match=rf"^cannot read image .*{split}/c{label}/001.jpg"):
                finetune(context, dataclasses.replace(STYLE, epochs=1), fp32())


def test_a_loss_that_is_no_number_ends_the_run(context):
    style = dataclasses.replace(STYLE, learning_rate_trunk=1e30, learning_rate_head=1e30)
    with pytest.raises(RunError, match=r"the loss is not finite after step 3 of 6: the fine-tuning diverged"):
        finetune(context, style, fp32(style))


def test_saves_that_do_not_fit_name_the_flag_that_starts_anew(context):
    torch.save({"step": 1, "network": {}, "optimizer": {}, "history": {}}, context.folder / "state-000000001.pt")
    with pytest.raises(RunError, match=r"has saves of another version: give --rerun always to start anew"):
        train(context, STYLE, fp32())


def result(top1, top5, number):
    return Classified(top1=top1, top5=top5, predicted=torch.full((3,), number), confidence=torch.ones(3))


def test_the_best_epoch_is_the_first_of_the_highest_that_were_tested():
    history = History()
    for number, found in enumerate([result(10.0, 60.0, 1), None, result(30.0, 50.0, 3), result(30.0, 55.0, 4)], 1):
        history.add(torch.tensor(float(number)))
        history.add(torch.tensor(1.0))
        history.end_epoch(found, 2)
    assert history.best["epoch"] == 3 and history.best["predicted"].tolist() == [3, 3, 3]
    assert [one["loss"] for one in history.epochs] == [1.0, 1.5, 2.0, 2.5]
    assert [one["top1"] for one in history.epochs] == [10.0, None, 30.0, 30.0]
    assert [one["top5"] for one in history.tested] == [60.0, 50.0, 55.0]


@pytest.mark.parametrize(("top5", "expected"), [("same epoch", 50.0), ("best", 60.0)])
def test_top_five_is_that_of_the_best_epoch_or_the_best_of_any(context, monkeypatch, top5, expected):
    results = [result(10.0, 60.0, 1), result(30.0, 50.0, 2), result(20.0, 55.0, 3)]
    results = [dataclasses.replace(one, predicted=torch.arange(12) % 6, confidence=torch.ones(12)) for one in results]
    monkeypatch.setattr(module, "classify", lambda *args, **options: results.pop(0))
    style = dataclasses.replace(STYLE, epochs=3, top5=top5, batch=24)
    found = finetune(context, style, fp32(style))
    assert found.metrics == {"top1": 30.0, "top5": expected, "top1_last": 20.0}
    assert found.notes == ("best of 3 tested epochs, chosen on val",) and found.config["best_epoch"] == 2
    assert found.test_images == 12 and found.predictions.correct.shape == (12,)
    assert found.config["labels"]["images"] == 24 and found.config["steps_per_epoch"] == 1
    assert saves(context.folder) == []


def test_every_style_trains_in_its_smallest_form(context):
    for name in STYLES:
        style = dataclasses.replace(style_of(name, "smoke"), epochs=1)
        found = finetune(context, style, dataclasses.replace(settings(name, Setup(profile="smoke")), precision="fp32"))
        assert 0 <= found.metrics["top1"] <= found.metrics["top5"] <= 100
        assert found.config["labels"]["images"] == (24 if style.percent == 100 else 6)
        assert found.config["labels"]["source"] == ("all" if style.percent == 100 else "drawn")
