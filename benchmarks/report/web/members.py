"""Which labels are pretraining runs of one row: ``NAME #SEED`` of a suite's row NAME, and NAME itself where it is one.

A suite that has run with each row once and then with several seeds finds the run of one of these seeds done, recorded
as NAME. It is a member of the row if it is the same checkpoint as a member, or if its pretraining had the same settings
but for the seed. Imports no torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.records import RunRecord, RunSpec
from benchmarks.report.paper.own import MEMBER
from pretrain.common.files import digest, read_mapping

Pair = tuple[str, RunSpec]


def pooled_groups(pairs: Sequence[Pair], newest: Mapping[RunSpec, RunRecord]) -> dict[str, str]:
    """Label → label of its row, for the members of rows; a checkpoint that is merely named as a row keeps it apart."""
    checkpoints: dict[str, dict[tuple[object, object], RunRecord]] = {}
    for label, spec in pairs:
        if spec in newest:
            checkpoints.setdefault(label, {}).setdefault((spec.checkpoint_sha256, spec.input), newest[spec])
    labels = dict.fromkeys(label for label, _ in pairs)
    rows: dict[str, list[str]] = {}
    for label in labels:
        if found := MEMBER.fullmatch(label):
            rows.setdefault(found[1], []).append(label)
    groups: dict[str, str] = {}
    for base, members in rows.items():
        if base in labels:
            known = [one for label in members for one in checkpoints.get(label, {}).items()]
            own = list(checkpoints.get(base, {}).items())
            if not own or not all(_is_member(one, known) for one in own):
                continue
            groups[base] = base
        groups |= dict.fromkeys(members, base)
    return groups


def _is_member(
    one: tuple[tuple[object, object], RunRecord], known: Sequence[tuple[tuple[object, object], RunRecord]]
) -> bool:
    if one[0] in [identity for identity, _ in known]:
        return True
    recipe = recipe_of(one[1])
    return bool(recipe) and recipe in [recipe_of(record) for _, record in known]


def recipe_of(record: RunRecord) -> str:
    """A digest of the settings of the pretraining beside the checkpoint, without seed; "" where they are not there."""
    path = (record.checkpoint or {}).get("path")
    stored: dict[str, Any] = read_mapping(Path(str(path)).parent / "settings.json") or {} if path else {}
    config = stored.get("config")
    if not isinstance(config, dict) or "seed" not in config:
        return ""
    return digest({**stored, "config": {key: value for key, value in config.items() if key != "seed"}})
