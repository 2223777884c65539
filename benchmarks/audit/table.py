"""A table's long form read back, as strings: nothing of it is trusted. Imports no torch."""

from __future__ import annotations

import csv
import dataclasses
import io
import re
from collections.abc import Mapping
from pathlib import Path

from pretrain.common.errors import InputError, printable
from pretrain.common.files import read_text

NEEDED = ("checkpoint", "column", "metric", "mean", "std", "n", "runs")
LARGEST = 256 * 2**20  # bytes; 10,000 cells have 6 MB


@dataclasses.dataclass(frozen=True)
class Row:
    """One cell of the table, by column of the file."""

    texts: Mapping[str, str]

    @property
    def name(self) -> str:
        """``simclr / linear / top1``."""
        return printable(" / ".join(self.texts[key] for key in ("checkpoint", "column", "metric")))

    @property
    def runs(self) -> tuple[str, ...]:
        """Spec ids, 12 hex digits each."""
        return tuple(self.texts["runs"].split())

    @property
    def imported(self) -> str:
        """Name of the import that the runs are from; "" for this machine's own."""
        return self.texts.get("imported", "")


def read_table(path: Path) -> list[Row]:
    """The cells of a long form. InputError in one line if it is none."""
    try:
        reader = csv.DictReader(io.StringIO(read_text(path, LARGEST), newline=""), strict=True)
        names = reader.fieldnames or []
        if missing := [name for name in NEEDED if name not in names]:
            raise InputError(f"{path} has no column {missing[0]}: give the .csv that `tables`, `run` or `suite` wrote")
        rows = [Row({key: value for key, value in line.items() if key is not None}) for line in reader]
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror})") from None
    except InputError:
        raise
    except (ValueError, csv.Error) as error:
        raise InputError(f"{path} is no table ({printable(str(error))[:100]}): give the .csv beside a table") from None
    for number, row in enumerate(rows, 2):
        if any(value is None for value in row.texts.values()):
            raise InputError(f"{path}: row {number} has fewer columns than its heading")
        if strange := [run for run in row.runs if not re.fullmatch("[0-9a-f]{12}", run)]:
            raise InputError(f"{path}: row {number} names the run {printable(strange[0])[:40]}, not 12 hex digits")
    if not rows:
        raise InputError(f"{path} has no row")
    return rows
