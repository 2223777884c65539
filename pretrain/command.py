"""Pretrain a backbone: ``python -m pretrain demo-superinfo --data FOLDER [--seed N] [--method.lambda-a X …]``.

Progress goes to stderr; stdout is the path of the finished checkpoint.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, Literal

import tyro

from pretrain.common.errors import InputError
from pretrain.common.plugins import plugin_arguments, use_plugins
from pretrain.config import PretrainConfig
from pretrain.presets import PRESETS

USAGE = """usage: python -m pretrain PRESET --data FOLDER [settings]

Pretrain a ResNet without its classifier on a folder of images: one subfolder per class, or flat for methods that
need no labels. The same command continues an interrupted run and returns at once from a finished one.
`python -m pretrain PRESET --help` lists the settings.

Several GPUs, each with its part of the batch:
  torchrun --nproc-per-node=8 -m pretrain PRESET --data FOLDER      (nodes: --nnodes, --rdzv-endpoint)
Ctrl-C, SIGTERM and SIGHUP save and end with status 130, 143 and 129, and the same command continues; `--resume never`
discards what an earlier run of the same settings left.

presets:"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Arguments:
    """Pretrain a backbone; defaults are the preset's."""

    data: Path  # folder of images
    resume: Literal["auto", "never"] = "auto"  # never: discard what an earlier run of these settings left
    config: Annotated[PretrainConfig, tyro.conf.arg(name="")]


def usage() -> str:
    """The help text with one line per preset."""
    width = max(map(len, PRESETS)) + 2
    lines = [
        f"  {name:{width}}{config.backbone}, {config.image_size} px, batch {config.batch_size}, "
        + (f"{config.steps} steps" if config.steps is not None else f"{config.epochs} epochs")
        for name, config in PRESETS.items()
    ]
    return "\n".join([USAGE, *lines])


def parse(preset: str, flags: list[str]) -> Arguments:
    """The arguments of ``python -m pretrain PRESET FLAGS``. InputError for an unknown preset; tyro exits for a flag."""
    if preset not in PRESETS:
        raise InputError(f"unknown preset {preset}: choose from {', '.join(PRESETS)}")
    arguments = tyro.cli(
        tyro.conf.configure(tyro.conf.AvoidSubcommands)(Arguments),
        prog=f"python -m pretrain {preset}",
        args=flags,
        default=Arguments(data=tyro.MISSING, config=PRESETS[preset]),
    )
    steps = arguments.config.steps
    if steps is not None and any(flag.partition("=")[0] == "--epochs" for flag in flags):
        raise InputError(f"--epochs: {preset} counts steps ({steps}); give --steps N, or --steps None with --epochs")
    return arguments


def main(argv: list[str]) -> int:
    """Parse, train, print the checkpoint's path."""
    plugins, argv = plugin_arguments(argv)
    use_plugins(plugins)
    if not argv or argv[0] in ("-h", "--help"):
        print(usage())
        return 0 if argv else 2
    preset, *flags = argv
    arguments = parse(preset, flags)
    from pretrain.runtime.distributed import process_group, rank
    from pretrain.train import run  # after parsing: torchvision takes seconds to import

    with process_group():
        path = run(preset, arguments.config, arguments.data, arguments.resume)
        if rank() == 0:
            print(path)
    return 0
