"""Records of others beside one's own, read from results/imported/<name>. Imports no torch.

A RunSpec says which run it is and not who ran it, so that a run of this machine and one of an import may have the same.
Then both stay, each in its store: an imported run never counts as done here, and in a table this machine's own is shown
unless the import is asked for.
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Iterable, Mapping

from benchmarks.records import ResultsStore, RunRecord, RunSpec, imports_dir
from pretrain.common.errors import InputError

MANIFEST = "manifest.json"
_SEED = re.compile(r"(.*?)( #\d+)?", re.S)  # of a suite's row of several pretraining runs, which stays last
Newest = Mapping[RunSpec, RunRecord]


def imports() -> list[str]:
    """Names of the imports, sorted; a half-written one is not among them."""
    try:
        entries = sorted(entry.name for entry in os.scandir(imports_dir()) if not entry.name.startswith("."))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise InputError(f"{imports_dir()} cannot be read ({error.strerror}): change its permissions") from None
    return [name for name in entries if (imports_dir() / name / MANIFEST).is_file()]


def require_imports(names: Iterable[str]) -> None:
    """InputError for the first of ``names`` that is no import."""
    there = imports()
    if unknown := [name for name in names if name not in there]:
        raise InputError(f"nothing is imported as {unknown[0]}: there is {', '.join(there) or 'no import'}")


def import_store(name: str) -> ResultsStore:
    """The records of the import ``name``."""
    return ResultsStore(imports_dir() / name / "runs")


def theirs(record: RunRecord, name: str) -> RunRecord:
    """``record`` as one of the import ``name``: labelled ``mine [name]``, a pretraining seed's ``mine [name] #0``."""
    base, seed = _SEED.fullmatch(record.label).groups()  # type: ignore[union-attr]  # it matches any text
    return dataclasses.replace(record, label=f"{base} [{name}]{seed or ''}", imported=name)


def newest_of(name: str) -> dict[RunSpec, RunRecord]:
    """``ResultsStore.all_newest`` of the import ``name``, as theirs."""
    return {spec: theirs(record, name) for spec, record in import_store(name).all_newest().items()}


def with_imports(own: Newest, preferred: Iterable[str] = ()) -> tuple[dict[RunSpec, RunRecord], dict[str, int]]:
    """``own`` with the finished runs of every import; and how many finished runs of each are hidden by another's.

    Of one spec the first of these counts: a finished run of ``preferred`` imports in their order, one's own, one of
    the other imports by name. InputError for an unknown name.
    """
    preferred = list(dict.fromkeys(preferred))
    require_imports(preferred)
    others = [name for name in imports() if name not in preferred]
    found: dict[RunSpec, RunRecord] = {}
    hidden: dict[str, int] = {}
    for name in [*preferred, "", *others]:
        for spec, record in (newest_of(name) if name else own).items():
            if spec not in found or found[spec].status != "ok":
                if record.status == "ok" or spec not in found:
                    found[spec] = record
            elif name and record.status == "ok":
                hidden[name] = hidden.get(name, 0) + 1
    return found, hidden
