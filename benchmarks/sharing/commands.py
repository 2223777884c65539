"""The commands `export` and `import` and their flags. Imports no torch."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import tyro

from benchmarks.profiles import ProfileName
from benchmarks.tasks import named
from pretrain.common.errors import InputError


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExportArguments:
    """Finished runs of this machine, with predictions and matches, into one file that another machine imports.

    The records name paths of this machine. Each run's newest finished attempt is packed; imports of others are not.
    """

    file: tyro.conf.Positional[Path | None] = None
    """The .zip to write."""
    profile: ProfileName | None = None
    """Only runs of this profile."""
    label: tuple[str, ...] = ()
    """Only these checkpoints, as tables call them; a suite's row stands for all its pretraining runs."""
    task: tuple[str, ...] = ()
    """Only these tasks or groups."""
    logs: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """With the runs' logs and losses."""
    model_index: Annotated[Path | None, tyro.conf.arg(metavar="FILE.yaml")] = None
    """Numbers of one --label as a Hugging Face model card's metadata (model-index), with or without a .zip."""
    source_url: str | None = None
    """For --model-index: address of the paper or repository that the numbers are from."""
    hub_dataset: tuple[str, ...] = ()
    """For --model-index: ids of data sets on the hub, each NAME=ID, such as emoji-demo=me/emoji; default their names
    here."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImportArguments:
    """An archive of `export`, verified, beside your own runs: rows "label [NAME]" of `tables` and `compare`."""

    file: tyro.conf.Positional[Path]
    """The .zip."""
    name: Annotated[str, tyro.conf.arg(name="as")]
    """Name of its origin."""


def export_main(argv: list[str]) -> int:
    """``export``: see ExportArguments."""
    from benchmarks.sharing.exporting import Wanted, export
    from benchmarks.sharing.model_index import write_model_index

    arguments = tyro.cli(ExportArguments, args=argv, prog="python -m benchmarks export")
    if arguments.file is None and arguments.model_index is None:
        raise InputError("nothing to write: give FILE.zip, or --model-index FILE.yaml")
    if arguments.model_index is None and (arguments.source_url or arguments.hub_dataset):
        raise InputError("--source-url and --hub-dataset are for --model-index: give it too")
    tasks = tuple(dict.fromkeys(task.name for name in arguments.task for task in named(name)))
    wanted = Wanted(profile=arguments.profile, labels=arguments.label, tasks=tasks)
    if arguments.model_index is not None:
        write_model_index(arguments.model_index, wanted, arguments.source_url, arguments.hub_dataset)
        print(arguments.model_index)
    if arguments.file is not None:
        print(f"{arguments.file}: {export(arguments.file, wanted, logs=arguments.logs)}")
    return 0


def import_main(argv: list[str]) -> int:
    """``import``: see ImportArguments."""
    from benchmarks.sharing.importing import import_archive

    arguments = tyro.cli(ImportArguments, args=argv, prog="python -m benchmarks import")
    print(import_archive(arguments.file, arguments.name))
    return 0
