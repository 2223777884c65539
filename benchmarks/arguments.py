"""The flags of `python -m benchmarks …`: one dataclass per command. Imports no torch."""

from __future__ import annotations

import dataclasses
import os
from itertools import takewhile
from pathlib import Path
from typing import Annotated, Literal

import tyro

from benchmarks.data.emoji import Pretraining
from benchmarks.profiles import ProfileName
from pretrain.common.errors import InputError

ExecutorName = Literal["local", "slurm"]
Rerun = Literal["missing", "always", "never"]
MOST_SEED = 2**31 - 1  # NumPy's generator, which detectron2 seeds, takes no more than 32 bits


def require_seeds(seeds: tuple[int, ...], where: str) -> None:
    """InputError that begins with ``where`` and names the first downstream seed that cannot be used."""
    if strange := [seed for seed in seeds if not 0 <= seed <= MOST_SEED]:
        raise InputError(f"{where} {strange[0]}: give 0 to {MOST_SEED}")


def visible_gpus() -> tuple[str, ...]:
    """GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them; no torch needed."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:  # CUDA ignores what follows the first invalid entry, such as -1
        items = (item.strip() for item in visible.split(","))
        return tuple(takewhile(lambda item: item and not item.startswith("-"), items))
    return tuple(map(str, range(len(list(Path("/proc/driver/nvidia/gpus").glob("*"))))))


def default_workers() -> int:
    """One worker per GPU; without GPUs one per core."""
    if gpus := visible_gpus():
        return len(gpus)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class SuiteArguments:
    """Data, pretraining, conversion, the suite's tasks, the table; done work is skipped."""

    suite: tyro.conf.Positional[str]
    """smoke, demo, small, paper, a suite that a plugin registers, or the path of a .toml file."""
    checkpoint: tuple[str, ...] = ()
    """Your own checkpoints as further rows, each NAME=PATH or PATH."""
    data: tuple[Path, ...] = ()
    """Your data roots, made by `python -m benchmarks prepare`: small needs them, and a suite on the embedded set then
    runs on yours, with the columns of their layouts."""
    profile: ProfileName | None = None
    """Another profile than the suite's own."""
    preset: tuple[str, ...] = ()
    """Other presets for the suite's rows, each OLD=NEW, such as demo-superinfo=superinfo-r50-100ep-b256."""
    pretrain_seeds: int | None = None
    """Pretrain every row that many times; its numbers are then the mean over the runs, with both spreads."""
    flags: str = ""
    """Flags of `python -m pretrain` for every row with a preset, after its own, with the equals sign:
    --flags="--backbone resnet50 --steps 445"."""
    workers: int = dataclasses.field(default_factory=default_workers)
    """Jobs side by side, one thread each."""
    executor: ExecutorName = "local"
    """Where jobs run: on this machine, or through Slurm (docs/cluster.md)."""
    slurm: tuple[str, ...] = ()
    """Of --executor slurm: a TOML file, KEY=VALUE and KIND.KEY=VALUE: partition=gpu detector.gpus=8 time=1-0:00:00."""
    num_gpus: int | None = None
    """GPUs of a detector, of fine-tuning and of linear-sgd, 0 for the CPU; default all for paper, else at most one."""
    opts: tuple[str, ...] = ()
    """detectron2 options KEY VALUE …; they become part of the run's identity."""
    search: tuple[str, ...] = ()
    """Values of detectron2 keys to choose from on held-out training images, each KEY=V1,V2,…; a protocol of its own."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunArguments:
    """Checkpoints × tasks × seeds on data roots; prints the paths of the new records."""

    task: tuple[str, ...]
    """Tasks by name, or groups such as linear-sgd and semi: `python -m benchmarks list` has them all."""
    data: tuple[Path, ...]
    """Data roots made by `python -m benchmarks prepare`; each task runs on every root that has its layout."""
    checkpoint: tuple[str, ...] = ()
    """Checkpoint files, NAME=PATH or PATH."""
    series: tuple[str, ...] = ()
    """Checkpoints of one pretraining run, each NAME='/run/ckpt_*.pth': rows NAME @EPOCH by the epochs in the files'
    names, and a figure of every metric and the runs' cost against the epoch."""
    seed: tuple[int, ...] = (0,)
    """Seeds of the downstream runs."""
    profile: ProfileName = "paper"
    """Sizes and iterations: paper is the published protocol; small is for your photographs on one GPU or a CPU; demo
    and smoke fit a CPU."""
    rerun: Rerun = "missing"
    """Whether to run again where a record exists; failed runs count as missing."""
    workers: int = dataclasses.field(default_factory=default_workers)
    """Jobs side by side, one thread each."""
    executor: ExecutorName = "local"
    """Where jobs run: on this machine, or through Slurm (docs/cluster.md)."""
    slurm: tuple[str, ...] = ()
    """Of --executor slurm: a TOML file, KEY=VALUE and KIND.KEY=VALUE: partition=gpu detector.gpus=8 time=1-0:00:00."""
    num_gpus: int | None = None
    """GPUs of a detector, of fine-tuning and of linear-sgd, 0 for the CPU; default all for paper, else at most one."""
    opts: tuple[str, ...] = ()
    """detectron2 options KEY VALUE …; they become part of the run's identity."""
    search: tuple[str, ...] = ()
    """Values of detectron2 keys to choose from on held-out training images, each KEY=V1,V2,…; a protocol of its own."""
    estimate: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Time some full-size iterations of each detector here, print hours, memory and disk of all runs, and stop."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class RehearsalArguments:
    """Profile paper from end to end in minutes, on generated miniatures; then checks of your checkpoints and data.

    On one GPU and on all of them; without GPUs in one process and in two. Status 1 if anything failed.
    """

    checkpoint: tuple[str, ...] = ()
    """Your checkpoints, each NAME=PATH or PATH: all tasks run with the first, one per layout with others."""
    data: tuple[Path, ...] = ()
    """Your data roots, made by `python -m benchmarks prepare`: checked, and some of their images read."""
    task: tuple[str, ...] = ()
    """Tasks or groups; default all."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class StatusArguments:
    """What is done, running where, queued and failed on this results folder, and the time left."""

    all: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Every line, not 20 of a kind."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class RetryArguments:
    """Give the `run` and `suite` commands again that had failed runs or were stopped; done work is skipped."""

    show: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Print them only."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class CancelArguments:
    """End jobs in Slurm; without words all of this results folder, and the commands that run on this host."""

    words: tyro.conf.Positional[tuple[str, ...]] = ()
    """Words that are all in the job's name, or its number in Slurm."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class LogsArguments:
    """The end of the newest log of a job."""

    words: tyro.conf.Positional[tuple[str, ...]] = ()
    """Words that are all in its name, or a run's id."""
    lines: int = 30
    """How much of it."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class TablesArguments:
    """Collate the finished runs: all of a profile, or as a paper's table lays them out.

    A layout is a built-in one or a TOML of yours (docs/tables.md): Markdown, CSV, LaTeX, HTML, BibTeX and figures.
    """

    table: tyro.conf.Positional[str]
    """A profile (smoke, demo, small, paper), a built-in layout or the path of a .toml file."""
    data: str | None = None
    """Only runs on this data set."""
    name: Annotated[str | None, tyro.conf.arg(metavar="NAME")] = None
    """File name of the tables; default PROFILE-all, with --data PROFILE-DATA; of a layout its own name."""
    profile: ProfileName | None = None
    """Of a layout: the profile of the runs, in place of the layout's."""
    row: tuple[str, ...] = ()
    """Of a layout: your rows by label, in this order; default those that it lists, else all."""
    delta_to: str | None = None
    """Of a layout: the row that differences are against."""
    ranks: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Of a layout: NAME-ranks too, the rows' mean ranks and Kendall's tau between the columns, with intervals."""
    check: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Write nothing: status 1, and the first file that differs from the one in the folder, if any does."""
    output: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None
    """Folder of the files; default results/tables."""
    theirs: tuple[str, ...] = ()
    """Imports whose runs are shown where this machine has run the same, too."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class CompareArguments:
    """Two checkpoints: all that differs besides the weights, then paired differences with intervals."""

    a: tyro.conf.Positional[str]
    """A checkpoint's name in the tables, or a suite's row of several pretraining runs."""
    b: tyro.conf.Positional[str]
    """The other one: differences are A − B."""
    profile: ProfileName
    """The profile of the runs."""
    task: tuple[str, ...] = ()
    """Tasks or groups; default all that both have."""
    sizes: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """AP of small, medium and large objects too: four times as long."""
    force: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Compare runs of other settings or data of one task too; the table marks them."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ListArguments:
    """The tasks: protocol, data needed, metrics, published counterpart, estimated GPU hours and disk."""

    task: tyro.conf.Positional[str | None] = None
    """A task or a group: its settings in every profile and all published rows; default a table of all tasks."""
    markdown: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """The table in Markdown, not for a terminal."""
    json: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """JSON, for machines."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ShowArguments:
    """A run's test images as PNGs.

    Of a detector a folder: the best and the worst images, truth beside predictions; mistakes by kind and class;
    precision-recall curves; contact sheets of the classes. Of a classifier one PNG: the classes it confuses, its worst
    images, and nearest neighbours among the training images.
    """

    record: tyro.conf.Positional[Path]
    """A run record, results/runs/<spec>/<attempt>.json."""
    output: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None
    """PNG to write, of a detector the folder for its PNGs; default beside the record."""
    count: int = 6
    """Of a detector the number of best images and of worst ones; of a classifier that of confused pairs."""
    class_name: Annotated[str | None, tyro.conf.arg(name="class")] = None
    """Of a detector only a contact sheet of this class, larger."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class EmojiArguments:
    """The embedded synthetic set."""

    profile: Literal["smoke", "demo"] = "smoke"
    """Its size."""
    pretraining: Pretraining = "all"
    """Drawings of the classification images: all, or, beside scenes that show a part of them (the same in the three
    sets): that part, other drawings of the same classes, or other classes."""
    workers: int = dataclasses.field(default_factory=lambda: os.cpu_count() or 1)
    """Processes; the files do not depend on their number."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class FolderArguments:
    """Data in a folder."""

    source: tyro.conf.Positional[Path]
    """Folder of the data."""
    name: Annotated[str | None, tyro.conf.arg(metavar="NAME")] = None
    """Name of the root; default <kind>-<folder's name>."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class SourceArguments(FolderArguments):
    """Your own data."""

    val_fraction: float = 0.2
    """Fraction held out if the source has no split."""
    seed: int = 0
    """Seed of that split."""
    drop_unreadable: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Leave out missing and broken images, with their annotations."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class VocArguments(SourceArguments):
    """Your PASCAL VOC devkit or folder."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImagenetArguments(SourceArguments):
    """Your folders of images, one per class."""

    labels_1percent: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Training images, one name per line, for fine-tuning on 1 % of the labels; default a draw by class."""
    labels_10percent: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Likewise for 10 %."""
    factors: Annotated[Path | None, tyro.conf.arg(metavar="CSV")] = None
    """Known factors of the images, for the task factors: column image, and a column per factor."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class CocoArguments(SourceArguments):
    """Your COCO folder."""

    annotations: Path | None = None
    """The JSON file, if it is not detected."""
    images: Path | None = None
    """The folder of images, if it is not detected."""
    val_annotations: Path | None = None
    """The JSON file of the validation split."""
    val_images: Path | None = None
    """The folder of its images; default --images."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class CityscapesArguments(FolderArguments):
    """Cityscapes: the folder with leftImg8bit/ and gtFine/."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class LvisArguments(FolderArguments):
    """LVIS v1: the folder with lvis_v1_train.json and lvis_v1_val.json."""

    images: Annotated[Path | None, tyro.conf.arg(metavar="COCO")] = None
    """The folder with COCO's train2017 and val2017; default SOURCE, SOURCE/coco or the coco beside it."""


TorchvisionName = Literal[
    "FGVCAircraft",
    "Caltech101",
    "StanfordCars",
    "CIFAR10",
    "CIFAR100",
    "DTD",
    "Flowers102",
    "Food101",
    "OxfordIIITPet",
    "SUN397",
    "VOC2007",
]


@dataclasses.dataclass(frozen=True, kw_only=True)
class TorchvisionArguments:
    """A set of ssl-transfer's many-shot suite, read by torchvision's own class, with its published split."""

    dataset: tyro.conf.Positional[TorchvisionName]
    """The set, under torchvision's name."""
    source: tyro.conf.Positional[Path]
    """torchvision's root: the folder that holds the set's (dtd, food-101, ...)."""
    name: Annotated[str | None, tyro.conf.arg(metavar="NAME")] = None
    """Name of the root; default the set's in lower case."""
    download: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Let torchvision download the set into SOURCE first."""


PrepareArguments = (
    Annotated[EmojiArguments, tyro.conf.subcommand("emoji")]
    | Annotated[VocArguments, tyro.conf.subcommand("voc")]
    | Annotated[CocoArguments, tyro.conf.subcommand("coco")]
    | Annotated[CityscapesArguments, tyro.conf.subcommand("cityscapes")]
    | Annotated[LvisArguments, tyro.conf.subcommand("lvis")]
    | Annotated[TorchvisionArguments, tyro.conf.subcommand("torchvision")]
    | Annotated[ImagenetArguments, tyro.conf.subcommand("imagenet")]
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SheetArguments:
    """Contact sheet of a data root."""

    root: tyro.conf.Positional[Path]
    """Folder with a data.json."""
    output: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None
    """PNG to write; default results/sheets/<name>.png."""
