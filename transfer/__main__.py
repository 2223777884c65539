"""Checkpoints into detectron2's format, with proof.

    python -m transfer convert CHECKPOINT [-o OUT.pkl]      # writes <stem>.pkl and <stem>.json beside the input
    python -m transfer verify FILE.pkl [CHECKPOINT]         # proves an earlier conversion again
    python -m transfer inspect FILE                         # says what a file is and what to try
    python -m transfer export CHECKPOINT -o OUT.safetensors # the backbone back, under torchvision's names

CHECKPOINT is a file (.pth, .pt, .safetensors, .pkl) or the folder of a pretraining run. No code in a file is ever run.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from pretrain.common.errors import InputError, run_cli
from transfer.checkpoints.given import Given


def main(argv: list[str]) -> int:
    """Run one of the four commands. Paths of what was written go to stdout, the proof to stderr."""
    options = _parser().parse_args(argv)
    status: int = options.run(options)
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m transfer", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True, metavar="convert|verify|inspect|export")
    convert = commands.add_parser("convert", help="checkpoint to detectron2 .pkl, with proof")
    convert.add_argument("file", type=Path, metavar="CHECKPOINT")
    convert.add_argument(
        "-o",
        "--output",
        dest="out",
        type=Path,
        metavar="OUT.pkl",
        help="result, or a folder for it (default: beside the input)",
    )
    _add_choice(convert)
    convert.set_defaults(run=_convert)
    verify = commands.add_parser("verify", help="prove a .pkl, alone or against its checkpoint")
    verify.add_argument("file", type=Path, metavar="FILE.pkl")
    verify.add_argument("checkpoint", type=Path, nargs="?", metavar="CHECKPOINT")
    verify.add_argument(
        "--detector", metavar="PROTOCOL", help="also load it into this protocol's detector and compare every tensor"
    )
    verify.set_defaults(run=_verify)
    inspect = commands.add_parser("inspect", help="what a file is and what to try")
    inspect.add_argument("file", type=Path, metavar="FILE")
    inspect.set_defaults(run=_inspect)
    export = commands.add_parser("export", help="the backbone of a checkpoint under torchvision's names")
    export.add_argument("file", type=Path, metavar="CHECKPOINT")
    export.add_argument("-o", "--output", dest="out", type=Path, metavar="OUT.safetensors", required=True)
    _add_choice(export)
    export.set_defaults(run=_export)
    return parser


def _add_choice(command: argparse.ArgumentParser) -> None:
    command.add_argument("--family", metavar="NAME", help="what the file is (default: detected; see inspect)")
    command.add_argument(
        "--network", metavar="NAME", help="which network, where a file has several (default: the published choice)"
    )
    command.add_argument("--prefix", metavar="PREFIX", help="how the names of the ResNet's tensors begin (see inspect)")
    command.add_argument(
        "--drop",
        metavar="PREFIX",
        action="append",
        default=[],
        help="leave out the left-over tensors whose names begin so, a head for example; may be repeated",
    )
    command.add_argument(
        "--stride-in-1x1",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="a bottleneck's stride is in its first convolution, as in Caffe's ResNets",
    )
    for statistic in ("mean", "std"):
        command.add_argument(
            f"--pixel-{statistic}",
            type=float,
            nargs=3,
            metavar=("C1", "C2", "C3"),
            help=f"{statistic} of the images in [0, 1] by channel, in the channel order",
        )
    command.add_argument("--channel-order", choices=("RGB", "BGR"), help="of the images and of the pixel statistics")


def _choice(options: argparse.Namespace) -> dict[str, Any]:
    """What to take, as read_backbone has it: a prefix is the network of the family "prefix"."""
    given = Given(
        drop=tuple(options.drop),
        stride_in_1x1=options.stride_in_1x1,
        pixel_mean=tuple(options.pixel_mean) if options.pixel_mean else None,
        pixel_std=tuple(options.pixel_std) if options.pixel_std else None,
        channel_order=options.channel_order,
    )
    if options.prefix is None:
        return {"family": options.family, "network": options.network, "given": given}
    if options.family or options.network:
        raise InputError("--prefix takes what is under it: leave --family and --network out")
    return {"family": "prefix", "network": options.prefix, "given": given}


# Each command imports its own module: detectron2 takes seconds, and inspect does not need it.


def _convert(options: argparse.Namespace) -> int:
    from transfer.checkpoints import convert

    converted = convert.convert(options.file, options.out, **_choice(options))
    for line in convert.summary(converted):
        print(line, file=sys.stderr)
    print(converted.path)
    return 0


def _verify(options: argparse.Namespace) -> int:
    from transfer.checkpoints import verify

    for line in verify.verify(options.file, options.checkpoint, options.detector):
        print(line, file=sys.stderr)
    return 0


def _inspect(options: argparse.Namespace) -> int:
    from transfer.checkpoints import inspect

    for line in inspect.inspect(options.file):
        print(line)
    return 0


def _export(options: argparse.Namespace) -> int:
    from transfer.checkpoints.export import export

    backbone = export(options.file, options.out, **_choice(options))
    network = f", its network {backbone.network}" if backbone.network else ""
    print(
        f"{backbone.architecture} of {backbone.family} ({backbone.reason}){network}, sha256 {backbone.sha256[:12]}",
        file=sys.stderr,
    )
    print(options.out)
    return 0


if __name__ == "__main__":
    run_cli(main)
