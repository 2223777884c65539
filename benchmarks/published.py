"""Published numbers of the same task, detector and schedule, with their sources (results/reference/published.csv).

They stand below a table of profile paper: other numbers were measured on other data and may not stand beside them.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pandas as pd

REFERENCE = Path(__file__).resolve().parent.parent / "results" / "reference" / "published.csv"

_FPN = "Mask R-CNN R50-FPN, standard 2fc head, SyncBN in backbone+FPN only (MoCo-style)"
# protocol → (detector, schedule, {(task, metric) of the file: heading})
SAME: dict[str, tuple[str, str, dict[tuple[str, str], str]]] = {
    "knn": ("", "k=200 t=0.1", {("imagenet_knn", "top1"): "kNN top-1"}),
    "voc_c4_24k": (
        "Faster R-CNN R50-C4",
        "24k",
        {("voc0712_det", "AP"): "AP", ("voc0712_det", "AP50"): "AP50", ("voc0712_det", "AP75"): "AP75"},
    ),
    "coco_fpn_1x": (_FPN, "1x", {("coco_det", "boxAP"): "box AP", ("coco_seg", "maskAP"): "mask AP"}),
    "coco_c4_1x": (
        "Mask R-CNN R50-C4",
        "1x",
        {("coco_det", "boxAP"): "box AP", ("coco_seg", "maskAP"): "mask AP"},
    ),
}


def published(protocol: str) -> pd.DataFrame:
    """Rows method, epochs, the protocol's metrics, source; empty where nothing comparable is published.

    ``source`` ends in "(second hand)" where the number was read in a copy, not in the original.
    """
    detector, schedule, metrics = SAME.get(protocol, ("", "", {}))
    table = pd.read_csv(REFERENCE, dtype=str, keep_default_na=False)
    table["heading"] = [metrics.get(pair) for pair in zip(table["task"], table["metric"], strict=True)]
    table = table[(table["detector"] == detector) & (table["schedule"] == schedule) & table["heading"].notna()]
    if table.empty:
        return pd.DataFrame()
    table = table.assign(source=table["source"] + table["second_hand"].map({"yes": " (second hand)", "no": ""}))
    keys = ["method", "pretrain_epochs", "source"]
    wide = table.pivot_table(index=keys, columns="heading", values="value", aggfunc=" / ".join, sort=False)
    wide = wide.reindex(columns=list(dict.fromkeys(metrics.values()))).fillna("").reset_index()
    return wide[["method", "pretrain_epochs", *dict.fromkeys(metrics.values()), "source"]].rename(
        columns={"pretrain_epochs": "epochs"}
    )


def to_markdown(protocols: Iterable[str]) -> str:
    """A section a protocol that has published numbers."""
    parts = []
    for protocol in dict.fromkeys(protocols):
        rows = published(protocol)
        if not rows.empty:
            table = rows.to_markdown(index=False, disable_numparse=True)
            parts.append(f"### Published under {protocol}\n\n{table}\n")
    return "\n".join(parts)
