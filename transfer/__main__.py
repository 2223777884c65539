"""Convert checkpoints into detectron2's format, with proof.

    python -m transfer convert CHECKPOINT [-o OUT.pkl]      # writes <stem>.pkl and <stem>.json beside the input
    python -m transfer verify FILE.pkl [CHECKPOINT]         # proves an earlier conversion again
    python -m transfer inspect FILE                         # shows a file's content and the command to try
    python -m transfer export CHECKPOINT -o OUT.safetensors # writes the backbone under torchvision's names

CHECKPOINT is a file (.pth, .pt, .safetensors, .pkl) or the folder of a pretraining run. No code in a file is ever run.
"""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from pretrain.common.errors import InputError, run_cli
from pretrain.common.plugins import plugin_arguments, use_plugins
from transfer.checkpoints.given import Given
from transfer.checkpoints.reading.file_format import find_checkpoint

Prefixes = Annotated[tuple[str, ...], tyro.conf.UseAppendAction, tyro.conf.arg(metavar="PREFIX")]
Name = Annotated[str | None, tyro.conf.arg(metavar="NAME")]
Statistic = Annotated[tuple[float, float, float] | None, tyro.conf.arg(metavar="C1 C2 C3")]
Switch = Annotated[bool, tyro.conf.FlagCreatePairsOff]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Choice:
    """The backbone to read from a file, and its input where the file does not record it."""

    family: Name = None
    """Family of the file (default: detected; see inspect)."""
    network: Name = None
    """Network to take from a file with several (default: the published choice)."""
    prefix: Annotated[str | None, tyro.conf.arg(metavar="PREFIX")] = None
    """Prefix of the names of the ResNet's tensors (see inspect)."""
    drop: Prefixes = ()
    """Leave out left-over tensors whose names have this prefix, such as a head; may be repeated."""
    stride_in_1x1: Switch = False
    """The stride of a bottleneck is in its first convolution, as in Caffe's ResNets."""
    no_stride_in_1x1: Switch = False
    """The stride is in the 3×3 convolution, whatever the file says."""
    pixel_mean: Statistic = None
    """Mean of the images in [0, 1] per channel, in the channel order."""
    pixel_std: Statistic = None
    """Standard deviation of the images in [0, 1] per channel, in the channel order."""
    channel_order: Literal["RGB", "BGR"] | None = None
    """Channel order of the images and of the pixel statistics."""

    def arguments(self) -> dict[str, Any]:
        """The keyword arguments of read_backbone: a prefix is the network of the family "prefix"."""
        if self.stride_in_1x1 and self.no_stride_in_1x1:
            raise InputError("--stride-in-1x1 and --no-stride-in-1x1 exclude each other: give one of them")
        given = Given(
            drop=self.drop,
            stride_in_1x1=self.stride_in_1x1 if self.stride_in_1x1 or self.no_stride_in_1x1 else None,
            pixel_mean=self.pixel_mean,
            pixel_std=self.pixel_std,
            channel_order=self.channel_order,
        )
        if self.prefix is None:
            return {"family": self.family, "network": self.network, "given": given}
        if self.family or self.network:
            raise InputError("--prefix names both family and network: leave --family and --network out")
        return {"family": "prefix", "network": self.prefix, "given": given}


# Each command imports its own module: detectron2 takes seconds, and a refusal does not need it.


@dataclasses.dataclass(frozen=True, kw_only=True)
class Convert(Choice):
    """Convert a checkpoint to a detectron2 .pkl, with proof."""

    file: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="CHECKPOINT")]
    output: Annotated[Path | None, tyro.conf.arg(aliases=["-o"], metavar="OUT.pkl")] = None
    """Result, or a folder for it (default: beside the input)."""

    def run(self) -> None:
        """Print the path of the .pkl to stdout and the proof to stderr."""
        find_checkpoint(self.file)  # before the imports that take seconds
        from transfer.checkpoints import convert

        converted = convert.convert(self.file, self.output, **self.arguments())
        for line in convert.summary(converted):
            print(line, file=sys.stderr)
        print(converted.path)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Verify:
    """Prove a converted .pkl again, alone or against its checkpoint."""

    file: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="FILE.pkl")]
    checkpoint: Annotated[tyro.conf.Positional[Path | None], tyro.conf.arg(metavar="CHECKPOINT")] = None
    detector: Annotated[str | None, tyro.conf.arg(metavar="PROTOCOL")] = None
    """Also load it into this protocol's detector and compare every tensor."""

    def run(self) -> None:
        """Print the proof to stderr."""
        from transfer.checkpoints import verify

        for line in verify.verify(self.file, self.checkpoint, self.detector):
            print(line, file=sys.stderr)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Inspect:
    """Show a file's content and the command to try."""

    file: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="FILE")]

    def run(self) -> None:
        """Print to stdout."""
        find_checkpoint(self.file)
        from transfer.checkpoints import inspect

        for line in inspect.inspect(self.file):
            print(line)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Export(Choice):
    """Write the backbone of a checkpoint under torchvision's names."""

    file: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="CHECKPOINT")]
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"], metavar="OUT.safetensors")]

    def run(self) -> None:
        """Print the path to stdout and the network to stderr."""
        find_checkpoint(self.file)
        from transfer.checkpoints.export import export

        backbone = export(self.file, self.output, **self.arguments())
        network = f", its network {backbone.network}" if backbone.network else ""
        print(
            f"{backbone.architecture} of {backbone.family} ({backbone.reason}){network}, sha256 {backbone.sha256[:12]}",
            file=sys.stderr,
        )
        print(self.output)


Command = (
    Annotated[Convert, tyro.conf.subcommand("convert")]
    | Annotated[Verify, tyro.conf.subcommand("verify")]
    | Annotated[Inspect, tyro.conf.subcommand("inspect")]
    | Annotated[Export, tyro.conf.subcommand("export")]
)


def parse(argv: list[str]) -> Convert | Verify | Inspect | Export:
    """Parse ``argv`` into a command. SystemExit(2) with the usage if it is none."""
    command: Convert | Verify | Inspect | Export = tyro.cli(
        Command,
        prog="python -m transfer",
        description=__doc__,
        args=argv,
    )
    return command


def main(argv: list[str]) -> int:
    """Run one of the four commands. Paths of written files go to stdout, the proof to stderr."""
    plugins, argv = plugin_arguments(argv)
    use_plugins(plugins)
    parse(argv).run()
    return 0


if __name__ == "__main__":
    run_cli(main)
