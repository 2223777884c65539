"""Published numbers beside ours, with their sources (results/reference/published.csv). Imports no torch.

They stand below a table of profile paper: other numbers were measured on other data and may not stand beside them.
Rows of the same detector and schedule are two groups: those known to equal our protocol in normalisation, in having one
learning rate for every method and in the pretraining data, and the others. What a source does not say is "unstated",
which equals nothing. docs/published.md explains the file's columns and every value in VOCABULARY.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import pandas as pd
import yaml

_CHECKOUT = Path(__file__).resolve().parents[2]
REFERENCE = _CHECKOUT / "results" / "reference" / "published.csv"
PROTOCOLS = _CHECKOUT / "transfer" / "detection" / "protocols"

UNSTATED = "unstated"
FROZEN = "frozen features"
VOCABULARY: dict[str, tuple[str, ...]] = {  # column of the file → what may stand in it
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


@dataclasses.dataclass(frozen=True, kw_only=True)
class Counterpart:
    """The file's rows that may stand beside a protocol of ours: ``headings`` maps their (task, metric) to a column."""

    detector: str
    schedule: str
    headings: dict[tuple[str, str], str]


_MASK_AND_BOX = {("coco_det", "boxAP"): "box AP", ("coco_seg", "maskAP"): "mask AP"}
COUNTERPARTS = {
    "knn": Counterpart(detector="", schedule="k=200 t=0.1", headings={("imagenet_knn", "top1"): "kNN top-1"}),
    "voc_c4_24k": Counterpart(
        detector="Faster R-CNN R50-C4",
        schedule="24k",
        headings={("voc0712_det", metric): metric for metric in ("AP", "AP50", "AP75")},
    ),
    "coco_fpn_1x": Counterpart(
        detector="Mask R-CNN R50-FPN, standard 2fc head, SyncBN in backbone+FPN only (MoCo-style)",
        schedule="1x",
        headings=_MASK_AND_BOX,
    ),
    "coco_c4_1x": Counterpart(detector="Mask R-CNN R50-C4", schedule="1x", headings=_MASK_AND_BOX),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Setting:
    """What a row must share with our protocol, beyond detector and schedule, to be called the same."""

    norm: str
    lr_searched: str = "no"
    pretrain_data: tuple[str, ...] = ("ImageNet-1k", "none")  # "none": trained from random initialisation, as ours is

    def differences(self, row: pd.Series) -> str:
        """Names of the columns in which ``row`` of the file is not known to be the same; empty for one that is."""
        same = {
            "norm": row["norm"] == self.norm,
            "lr_searched": row["lr_searched"] == self.lr_searched,
            "pretrain_data": row["pretrain_data"] in self.pretrain_data,
        }
        return ", ".join(_SHOWN[column] for column, equal in same.items() if not equal)


def setting(protocol: str) -> Setting:
    """Our setting, the norm from the protocol's file; a protocol without a file there trains no network."""
    path = PROTOCOLS / f"{protocol}.yaml"
    if not path.is_file():
        return Setting(norm=FROZEN)
    model = yaml.safe_load(path.read_text(encoding="utf-8"))["MODEL"]
    kind = model["RESNETS"]["NORM"]
    parts = {"backbone": "RESNETS", "FPN": "FPN", "heads": "ROI_BOX_HEAD"}
    normed = [part for part, key in parts.items() if model.get(key, {}).get("NORM") == kind]
    return Setting(norm=f"{kind} ({', '.join(normed)})")


def published(protocol: str) -> pd.DataFrame:
    """One row for each model of a source; empty where nothing comparable is published.

    Columns: method, epochs, the protocol's metrics (percent, as printed in the source), "differs in" (empty for a row
    under the same protocol), the columns of VOCABULARY, source. ``source`` ends in "(second hand)" where the number was
    read in a copy, not in the original.
    """
    if protocol not in COUNTERPARTS:
        return pd.DataFrame()
    counterpart = COUNTERPARTS[protocol]
    table = pd.read_csv(REFERENCE, dtype=str, keep_default_na=False)
    table["heading"] = [counterpart.headings.get(pair) for pair in zip(table["task"], table["metric"], strict=True)]
    table = table[
        (table["detector"] == counterpart.detector)
        & (table["schedule"] == counterpart.schedule)
        & table["heading"].notna()
    ]
    table = table.assign(source=table["source"] + table["second_hand"].map({"yes": " (second hand)", "no": ""}))
    keys = ["method", "pretrain_epochs", *VOCABULARY, "source"]
    wide = table.pivot_table(index=keys, columns="heading", values="value", aggfunc=" / ".join, sort=False)
    headings = list(dict.fromkeys(counterpart.headings.values()))
    wide = wide.reindex(columns=headings).fillna("").reset_index()
    wide["differs in"] = wide.apply(setting(protocol).differences, axis=1)
    wide = wide[["method", "pretrain_epochs", *headings, "differs in", *VOCABULARY, "source"]]
    return wide.rename(columns={"pretrain_epochs": "epochs", **_SHOWN})


def _shared(protocol: str, ours: Setting) -> str:
    """What the rows of the first group have in common, beside the data."""
    if ours.norm == FROZEN:
        return f"Frozen features, {COUNTERPARTS[protocol].schedule}"
    return f"Detector, schedule, norm ({ours.norm}), one learning rate for every method"


def _markdown(rows: pd.DataFrame) -> str:
    return rows.to_markdown(index=False, disable_numparse=True)


def to_markdown(protocols: Mapping[str, bool]) -> str:
    """For each protocol that has published numbers, the rows under the same protocol and below them the others.

    The value says whether ours ran as the protocol's file has it: with fewer GPUs or with options no row is the same.
    """
    parts = []
    for protocol, as_published in protocols.items():
        rows = published(protocol)
        if rows.empty:
            continue
        if not as_published:
            rows["differs in"] = [", ".join(filter(None, ["our GPUs or options", what])) for what in rows["differs in"]]
        ours, same = setting(protocol), rows["differs in"] == ""
        shared = rows[same].drop(columns="differs in")
        parts.append(
            f"### Published under the same protocol as {protocol}\n\n"
            f"{_shared(protocol, ours)}, pretraining data ({' or '.join(ours.pretrain_data)}).\n\n"
            + (f"{_markdown(shared)}\n" if same.any() else "No published row is known to share them all.\n")
        )
        if not same.all():
            parts.append(
                f"### Published, same detector and schedule as {protocol}, but not known to be the same in the rest\n\n"
                f"{_markdown(rows[~same])}\n"
            )
    return "\n".join(parts)
