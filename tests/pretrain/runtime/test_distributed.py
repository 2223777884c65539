"""Two gloo processes against one."""

import os
import socket
import subprocess
import sys
import traceback
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.optim.optimizer import register_optimizer_step_pre_hook

from pretrain import train
from pretrain.common.errors import InputError, RunError
from pretrain.config import resolve
from pretrain.methods import METHODS, Batch, Sizes
from pretrain.methods.superinfo import SuperInfo, SuperInfoConfig
from pretrain.presets import PRESETS
from pretrain.runtime import distributed
from pretrain.runtime.metrics import read_metrics
from tests.pretrain.conftest import write_images

WORLD = 2
pytestmark = pytest.mark.usefixtures("one_thread")


def in_processes(action, folder):
    """What ``action()`` returns in each of WORLD joined processes; its exit status where it does not return."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    children = []
    for rank in range(WORLD):
        children.append(os.fork())
        if children[-1] == 0:
            os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(WORLD), "MASTER_ADDR": "127.0.0.1"}
            os.environ["MASTER_PORT"] = str(port)
            status = 99
            try:
                with distributed.process_group():
                    torch.save(action(), folder / f"{rank}.pt")
                status = 0
            except SystemExit as stop:
                status = stop.code
            except (InputError, RunError) as error:
                print(f"error: {error}", file=sys.stderr)
                status = 2
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stderr.flush()
                os._exit(status)
    ends = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    return [torch.load(folder / f"{rank}.pt") if end == 0 else end for rank, end in enumerate(ends)]


def test_gathering_sharing_and_agreeing(tmp_path):
    def action():
        rank = distributed.rank()
        rows = torch.tensor([[1.0, 2.0], [3.0, 4.0]]) + 10 * rank
        rows.requires_grad_()
        everyone = distributed.gather(rows)
        (everyone * torch.arange(8.0).view(4, 2)).sum().backward()
        constant = distributed.gather_no_grad(torch.tensor([rank, 7]))
        agreed = distributed.any_rank(rank == 1, False, True)
        first, mean = (
            distributed.broadcast_object(f"from {rank}"),
            distributed.mean_over_ranks(torch.tensor(float(rank))),
        )
        return [everyone.detach(), rows.grad, distributed.local_rows(everyone).detach(), constant, agreed, first, mean]

    ends = in_processes(action, tmp_path)
    for rank, (everyone, gradient, own, constant, agreed, first, mean) in enumerate(ends):
        assert torch.equal(everyone, torch.tensor([[1.0, 2], [3, 4], [11, 12], [13, 14]]))
        # Each of the two processes has a loss of everyone's rows: their gradients add up.
        assert torch.equal(gradient, 2 * torch.arange(8.0).view(4, 2)[2 * rank : 2 * rank + 2])
        assert torch.equal(own, everyone[2 * rank : 2 * rank + 2]) and constant.tolist() == [0, 7, 1, 7]
        assert agreed == (True, False, True) and first == "from 0" and mean == 0.5


def test_one_process_is_the_identity():
    rows = torch.ones(3, 2, requires_grad=True)
    assert distributed.gather(rows) is rows and distributed.local_rows(rows).shape == (3, 2)
    assert not distributed.gather_no_grad(rows).requires_grad
    assert distributed.any_rank(True, False) == (True, False) and distributed.all_gather_object(5) == [5]
    with pytest.raises(InputError, match="mine"), distributed.fail_together():
        raise InputError("mine")


def test_an_error_on_one_process_ends_all_with_one_line(tmp_path, capfd):
    def action():
        with distributed.fail_together():
            if distributed.rank() == 1:
                raise RunError("only here")

    assert in_processes(action, tmp_path) == [1, 2]
    assert capfd.readouterr().err.count("error: only here") == 1


@pytest.mark.parametrize("form", ["vmf", "bounded"])
def test_without_noise_no_parameter_waits_for_a_gradient(form, tmp_path):
    """DistributedDataParallel stops at the second step where a parameter had none at the first."""

    def action():
        torch.manual_seed(0)
        config = SuperInfoConfig(dim=4, hidden_dim=8, parameterisation=form, deterministic=True)
        sizes = Sizes(feature_dim=12, num_classes=0, num_images=8)
        method = SuperInfo(config, nn.Sequential(nn.Flatten(), nn.Linear(12, 12)), sizes)
        wrapped = nn.parallel.DistributedDataParallel(method)
        for _ in range(2):
            views = [torch.randn(4, 3, 2, 2), torch.randn(4, 3, 2, 2)]
            wrapped(Batch(views=views, index=torch.arange(4), label=None), 0.5)["loss"].backward()
        return True

    assert in_processes(action, tmp_path) == [True, True]


@pytest.mark.parametrize(("differentiable", "share"), [(False, 1 / WORLD), (True, 1.0)])
def test_barlow_twins_published_code_divides_its_gradient_by_the_processes(differentiable, share, tmp_path):
    """facebookresearch/barlowtwins main.py sums the correlations outside of autograd, then takes DDP's mean.

    So its rate for biases, 0.0048, belongs to a gradient of 1/16 on its 16 GPUs; ours, by ``gather``, is whole.
    """
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(2, 2 * WORLD, 6, generator=generator)
    linear = nn.Linear(6, 3)
    nn.init.normal_(linear.weight, generator=generator)

    def loss_of(z1, z2):
        correlation = z1.T @ z2 / inputs.shape[1]
        if not differentiable and distributed.world_size() > 1:
            torch.distributed.all_reduce(correlation)
        on, everything = correlation.diagonal(), correlation.square().sum()
        return (1 - on).square().sum() + 0.0051 * (everything - on.square().sum())

    def action():
        z1, z2 = (linear(distributed.local_rows(view)) for view in inputs)
        loss = loss_of(*(distributed.gather(z) for z in (z1, z2))) if differentiable else loss_of(z1, z2)
        loss.backward()
        return distributed.mean_over_ranks(linear.bias.grad), loss.detach()

    found = in_processes(action, tmp_path)
    loss = loss_of(*(linear(view) for view in inputs))
    loss.backward()
    for gradient, value in found:
        torch.testing.assert_close(value, loss.detach())
        torch.testing.assert_close(gradient, share * linear.bias.grad)


class PerProcess(nn.Module):
    """BatchNorm of the whole batch as WORLD processes compute it: each over its own share of every view."""

    def __init__(self, norm, batch):
        super().__init__()
        self.weight, self.bias, self.eps, self.batch = norm.weight, norm.bias, norm.eps, batch

    def forward(self, x):
        shares = x.unflatten(0, (-1, WORLD, self.batch // WORLD))
        normed = [
            F.batch_norm(share.flatten(0, 1), None, None, self.weight, self.bias, training=True, eps=self.eps)
            for share in shares.unbind(1)
        ]
        return torch.stack([share.unflatten(0, (-1, self.batch // WORLD)) for share in normed], 1).flatten(0, 2)


def split_norms(module, batch):
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm1d | nn.BatchNorm2d):
            setattr(module, name, PerProcess(child, batch))
        else:
            split_norms(child, batch)
    return module


def in_double(method):
    """The networks in float64; queues and banks stay float32, as the embeddings they hold."""
    method.double()
    for module in method.modules():
        for name, buffer in module.named_buffers(recurse=False):
            if not isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d) and buffer.is_floating_point():
                setattr(module, name, buffer.float())
        if isinstance(module, nn.Linear):  # directions come in float32, and some are the input of another head
            module.register_forward_pre_hook(lambda _, inputs: tuple(one.double() for one in inputs))
    return method


@pytest.mark.slow
@pytest.mark.parametrize(
    "method", sorted({"superinfo", "simclr", "supervised", "mocov2", "byol-superinfo"} & set(METHODS))
)
def test_two_processes_equal_one_on_the_same_global_batch(method, class_folders, results, tiny, tmp_path, monkeypatch):
    """Losses of two steps and the first gradients to 1e-5, from the folder of images to metrics.jsonl."""
    config = replace(
        tiny,
        method=PRESETS[f"smoke-{method}"].method,
        steps=2,
        precision="fp32",
        optimizer="sgd",
        learning_rate=1e-3,
        zero_init_residual=False,
    )

    def action():
        gradients = []

        def keep(optimizer, args, kwargs):
            if not gradients:
                gradients.extend(p.grad.clone() for group in optimizer.param_groups for p in group["params"])

        handle = register_optimizer_step_pre_hook(keep)
        path = train.run("x", config, class_folders)
        handle.remove()
        return gradients, [row["loss"] for row in read_metrics(path.parent / "metrics.jsonl")]

    # In float64, for BatchNorm over few samples turns rounding into differences far above it.
    build, make = train.build_method, train.make_batch

    def make_double(*arguments):
        batch = make(*arguments)
        return replace(batch, views=[view.double() for view in batch.views])

    monkeypatch.setattr(train, "make_batch", make_double)
    monkeypatch.setattr(train, "build_method", lambda *given: in_double(build(*given)))
    two = in_processes(action, tmp_path)
    monkeypatch.setattr(train, "build_method", lambda *given: split_norms(in_double(build(*given)), config.batch_size))
    gradients, losses = action()
    largest = max(gradient.abs().max().item() for gradient in gradients)
    assert len(losses) == 2 and largest > 0.01
    for end in two:
        assert end[1] == pytest.approx(losses, abs=1e-5)
        apart = max((a - b).abs().max().item() for a, b in zip(end[0], gradients, strict=True))
        assert apart <= 1e-5


def test_a_batch_that_does_not_split_is_refused(tiny):
    with pytest.raises(InputError, match="batch of 8 does not split over 3 processes"):
        resolve(tiny, 24, torch.device("cpu"), 3)


@pytest.mark.slow
def test_torchrun_writes_once_continues_and_names_an_error_once(tmp_path):
    write_images(tmp_path / "images", 40)
    sizes = {"backbone": "resnet18", "image-size": "32", "batch-size": "8", "steps": "4", "save-every": "2"}
    flags = [part for name, value in sizes.items() for part in (f"--{name}", value)]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = os.environ | {"RESULTS_DIR": str(tmp_path / "results"), "OMP_NUM_THREADS": "1"}

    def torchrun(*more):
        command = [*launcher, "-m", "pretrain", "smoke-simclr", "--data", str(tmp_path / "images"), *flags, *more]
        return subprocess.run(command, env=environment, capture_output=True, text=True)

    done = torchrun()
    assert done.returncode == 0 and done.stdout.count("\n") == 1, done.stderr
    assert len(read_metrics((tmp_path / "results" / done.stdout.strip()).parent / "metrics.jsonl")) == 4
    for path in (tmp_path / "images").iterdir():
        path.write_bytes(path.read_bytes()[:300])
    broken = torchrun("--seed", "1")
    assert broken.returncode == 1 and broken.stderr.count("error: 1 of 40 images could not be read") == 1
