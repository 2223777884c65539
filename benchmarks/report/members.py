"""Which labels are pretraining runs of one row: ``NAME #SEED`` of a suite's row NAME, and NAME itself where it is one.

A suite that has run with each row once and then with several seeds finds the run of one of these seeds done, recorded
as NAME. It is a member of the row if it is the same checkpoint as a member, or a run of the members' preset. Only
records are asked, so that every machine has the same table. Imports no torch.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.records import RunRecord, RunSpec

MEMBER = re.compile(r"(.+) #\d+")
FOLDER = re.compile(r"(.+)-[0-9a-f]{12}")  # of a pretraining run: its preset and the digest of its settings
Pair = tuple[str, RunSpec]


def pooled_groups(pairs: Sequence[Pair], newest: Mapping[RunSpec, RunRecord]) -> dict[str, str]:
    """Label → label of its row, for the members of rows; a checkpoint that is merely named as a row keeps it apart."""
    by_label: dict[str, list[RunRecord]] = {}
    for label, spec in pairs:
        by_label.setdefault(label, []).extend([newest[spec]] if spec in newest else [])
    rows: dict[str, list[str]] = {}
    for label in by_label:
        if found := MEMBER.fullmatch(label):
            rows.setdefault(found[1], []).append(label)
    groups: dict[str, str] = {}
    for base, members in rows.items():
        if base in by_label:
            known = [record for label in members for record in by_label[label]]
            own = by_label[base]
            if not own or not all(_is_member(record, known) for record in own):
                continue
            groups[base] = base
        groups |= dict.fromkeys(members, base)
    return groups


def _is_member(record: RunRecord, known: Sequence[RunRecord]) -> bool:
    if _identity(record) in map(_identity, known):
        return True
    preset = preset_of(record)
    return bool(preset) and all(preset_of(one) == preset for one in known)


def _identity(record: RunRecord) -> tuple[object, object]:
    return record.spec.checkpoint_sha256, record.spec.input


def preset_of(record: RunRecord) -> str:
    """Of the pretraining run that made the checkpoint; "" of any other checkpoint."""
    found = FOLDER.fullmatch(Path(str((record.checkpoint or {}).get("path", ""))).parent.name)
    return found[1] if found else ""
