"""Published numbers beside ours, with their sources (results/reference/published.csv). Imports no torch.

Shown below tables of profile paper only: the other profiles measure on other data and are not comparable.
Rows of the same detector and schedule make two groups: those known to equal our protocol in norm, in having one
learning rate for every method and in the pretraining data, and the others. A value that the source omits is "unstated",
which equals nothing. docs/published.md explains the file's columns and every value in VOCABULARY.
"""

from __future__ import annotations

import dataclasses
import functools
import tomllib
from collections.abc import Mapping
from typing import Any

import pandas as pd

from benchmarks.tasks import TASKS, Task
from pretrain.common.provenance import CHECKOUT
from transfer.detection.protocol_files import protocol_keys

REFERENCE = CHECKOUT / "results" / "reference" / "published.csv"
SETTINGS = REFERENCE.with_name("protocols.toml")

NETWORK = "resnet50"  # of every published detector
GPUS = 8  # of a published protocol that says nothing else
UNSTATED = "unstated"
FROZEN = "frozen features"
TRAINED = "BatchNorm in training"  # of no row: none states its statistics
VOCABULARY: dict[str, tuple[str, ...]] = {  # column of the file → its allowed values
    "norm": (
        "naiveSyncBN (backbone)",
        "naiveSyncBN (backbone, FPN)",
        "naiveSyncBN (backbone, FPN, heads)",
        "SyncBN (backbone)",
        "SyncBN (backbone, FPN)",
        "SyncBN (backbone, FPN, heads)",
        "synchronised BN (backbone)",
        "FrozenBN (backbone)",
        FROZEN,
        UNSTATED,
    ),
    "lr_searched": ("no", "yes", UNSTATED),
    "pretrain_data": ("ImageNet-1k", "COCO", "none", UNSTATED),
    "base_weights": ("own", "authors' release", "re-trained", "MSRA", "torchvision", "random init", UNSTATED),
}
_SHOWN = {
    "norm": "norm",
    "lr_searched": "lr searched",
    "pretrain_data": "pretraining data",
    "base_weights": "base weights",
}


@functools.cache
def published_settings() -> dict[str, Any]:
    """The settings of classification protocols as their authors' code has them: results/reference/protocols.toml."""
    return tomllib.loads(SETTINGS.read_text(encoding="utf-8"))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Setting:
    """What a row must share with our protocol, beyond detector and schedule, to be called the same."""

    norm: str
    lr_searched: str = "no"
    pretrain_data: tuple[str, ...] = ("ImageNet-1k", "none")  # "none": trained from random initialisation, as ours is

    def differences(self, row: pd.Series) -> str:
        """Names of the columns in which ``row`` of the file differs or may differ; empty if none."""
        same = {
            "norm": row["norm"] == self.norm,
            "lr_searched": row["lr_searched"] == self.lr_searched,
            "pretrain_data": row["pretrain_data"] in self.pretrain_data,
        }
        return ", ".join(_SHOWN[column] for column, equal in same.items() if not equal)


def setting(task: Task) -> Setting:
    """Our setting, the norm from a detection task's protocol; tasks on frozen features have none."""
    if task.kind == "finetune":
        return Setting(norm=TRAINED)
    if task.protocol is None:
        return Setting(norm=FROZEN)
    model = protocol_keys(task.protocol)["MODEL"]
    kind = model["RESNETS"]["NORM"]
    parts = {"backbone": "RESNETS", "FPN": "FPN", "heads": "ROI_BOX_HEAD"}
    normed = [part for part, key in parts.items() if model.get(key, {}).get("NORM") == kind]
    return Setting(norm=f"{kind} ({', '.join(normed)})")


def gpus(task: Task) -> int:
    """Number of GPUs that the task's published numbers are of: a detection protocol's SOLVER.REFERENCE_WORLD_SIZE."""
    if task.protocol is None:
        return GPUS
    return int(protocol_keys(task.protocol).get("SOLVER", {}).get("REFERENCE_WORLD_SIZE") or GPUS)


def published(task: Task) -> pd.DataFrame:
    """One row per model of a source; empty if nothing comparable is published.

    Columns: method, epochs, the task's metrics (percent, as printed in the source), "differs in" (empty for a row
    under the same protocol), the columns of VOCABULARY, source. ``source`` ends in "(second hand)" where the number was
    read in a copy, not in the original.
    """
    if task.published is None:
        return pd.DataFrame()
    counterpart = task.published
    columns = {pair: heading for heading, pair in counterpart.headings.items()}
    table = pd.read_csv(REFERENCE, dtype=str, keep_default_na=False)
    table["heading"] = [columns.get(pair) for pair in zip(table["task"], table["metric"], strict=True)]
    table = table[
        (table["detector"] == counterpart.detector)
        & (table["schedule"] == counterpart.schedule)
        & table["heading"].notna()
    ]
    table = table.assign(source=table["source"] + table["second_hand"].map({"yes": " (second hand)", "no": ""}))
    keys = ["method", "pretrain_epochs", *VOCABULARY, "source"]
    wide = table.pivot_table(index=keys, columns="heading", values="value", aggfunc=" / ".join, sort=False)
    headings = list(counterpart.headings)
    wide = wide.reindex(columns=headings).fillna("").reset_index()
    wide["differs in"] = wide.apply(setting(task).differences, axis=1)
    wide = wide[["method", "pretrain_epochs", *headings, "differs in", *VOCABULARY, "source"]]
    return wide.rename(columns={"pretrain_epochs": "epochs", **_SHOWN})


def _shared(task: Task, ours: Setting) -> str:
    """The settings that the rows of the first group share, apart from the data."""
    if ours.norm == FROZEN:
        return f"Frozen features, {task.published.schedule if task.published else ''}"
    return f"Detector, schedule, norm ({ours.norm}), one learning rate for every method"


def _markdown(rows: pd.DataFrame) -> str:
    return rows.to_markdown(index=False, disable_numparse=True)


def to_markdown(as_published: Mapping[str, bool]) -> str:
    """For each task with published numbers, the rows under the same protocol, then the others.

    The value says whether our runs used the protocol unchanged: with fewer GPUs, options or another network no row is
    the same.
    """
    parts = []
    for name, as_ours in as_published.items():
        task = TASKS[name]
        rows = published(task)
        if rows.empty:
            continue
        if not as_ours:
            rows["differs in"] = [
                ", ".join(filter(None, ["our GPUs, options or network", what])) for what in rows["differs in"]
            ]
        ours, same = setting(task), rows["differs in"] == ""
        shared = rows[same].drop(columns="differs in")
        parts.append(
            f"### Published under the same protocol as {name}\n\n"
            f"{_shared(task, ours)}, pretraining data ({' or '.join(ours.pretrain_data)}).\n\n"
            + (f"{_markdown(shared)}\n" if same.any() else "No published row is known to share them all.\n")
        )
        if not same.all():
            parts.append(
                f"### Published, same detector and schedule as {name}, but not known to be the same in the rest\n\n"
                f"{_markdown(rows[~same])}\n"
            )
    return "\n".join(parts)
