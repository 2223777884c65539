"""The tasks that can be run: protocol, data, metrics, published counterpart and cost of each. Imports no torch.

    python -m benchmarks list [TASK or GROUP] [--markdown | --json]

One task's settings need its libraries, detectron2 for a detector: only ``details`` imports them.
"""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
import textwrap
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from typing import Any

import pandas as pd

from benchmarks.data.layouts import LAYOUTS
from benchmarks.profiles import PROFILES
from benchmarks.report.published import gpus, published, published_settings
from benchmarks.report.text import for_markdown
from benchmarks.tasks import TASKS, Setup, Task
from pretrain.common.errors import printable

NARROWEST, WIDEST = 100, 180  # characters of a table on a terminal
KINDS = {"frozen": "frozen features", "finetune": "fine-tuning", "detection": "detection"}
FAMILIAR = ("MoCo v2", "MoCo v1", "SimCLR", "BYOL", "SimSiam", "supervised")  # methods that most papers compare with
EPOCHS = "200"  # of pretraining, the usual number in such comparisons
COLUMNS = ("task", "metrics", "published", "cost", "protocol", "data needed")
INDENT = "    "
NOTE = (
    "Cost: an estimate for one checkpoint under the published protocol, not a measurement; GB: the run's files beside "
    "the data. Tasks on frozen features share their extraction, a group of linear heads its pass. `list TASK` says how "
    "it is estimated, and has the settings and every published row."
)


def summary(task: Task) -> dict[str, Any]:
    """Everything about ``task`` that needs neither torch nor its data, as JSON has it."""
    rows = published(task)
    known = best_known(rows, task)
    return {
        "name": task.name,
        "title": task.title,
        "group": task.group or None,
        "kind": task.kind,
        "layout": task.layout,
        "protocol": task.reference,
        "data": data_of(task),
        "metrics": [dataclasses.asdict(metric) for metric in task.metrics],
        "deterministic": task.deterministic,
        "published": known and {"rows": len(rows), "best_known": known},
        "gpu_hours": task.cost.gpu_hours if task.cost else None,
        "disk_gb": task.cost.disk_gb if task.cost else None,
        "cost_how": task.cost.how if task.cost else None,
    }


def data_of(task: Task) -> str:
    """The data that the task needs, in words."""
    layout = LAYOUTS[task.layout]
    return task.data or f"{layout.about} (prepare {layout.prepare})"


def best_known(rows: pd.DataFrame, task: Task) -> dict[str, Any] | None:
    """Of the published ``rows`` the one that readers know best: its method, epochs, values and source.

    The method that the task is named after, else one of FAMILIAR; of EPOCHS epochs and under our protocol if possible.
    None where there are no rows.
    """
    if rows.empty or task.published is None:
        return None
    headings = list(task.published.headings)

    def unfamiliar(place: int) -> tuple[Any, ...]:
        row = rows.iloc[place]
        rank = next((rank for rank, name in enumerate(FAMILIAR) if row["method"].startswith(name)), len(FAMILIAR))
        namesake = row["method"].split()[0].lower() in task.name  # Barlow Twins of linear-sgd-barlow
        plain = row["method"] in FAMILIAR
        unlike = bool(row["differs in"])
        return not row[headings[0]], not namesake, rank, row["epochs"] != EPOCHS, not plain, unlike, place

    row = rows.iloc[min(range(len(rows)), key=unfamiliar)]
    values = {heading: row[heading] for heading in headings if row[heading]}
    return {"method": row["method"], "epochs": row["epochs"] or None, "values": values, "source": row["source"]}


def counterpart(found: Mapping[str, Any] | None) -> str:
    """``MoCo v2 200 ep: 67.5 (5 rows)``, with the metrics' names where there are several."""
    if not found:
        return "none"
    known, count = found["best_known"], found["rows"]
    several = len(known["values"]) > 1
    values = ", ".join(f"{name} {value}" if several else value for name, value in known["values"].items())
    epochs = f" {known['epochs']} ep" if known["epochs"] else ""
    return f"{known['method']}{epochs}: {values} ({count} row{'s' * (count != 1)})"


def _cells(about: Mapping[str, Any]) -> list[str]:
    """The texts of a row under COLUMNS."""
    shown = [metric["label"] for metric in about["metrics"] if metric["shown"]]
    hidden = len(about["metrics"]) - len(shown)
    metrics = ", ".join(shown) + (f" (+{hidden} in the CSV)" if hidden else "")
    unknown = about["gpu_hours"] is None
    cost = "not estimated" if unknown else f"{about['gpu_hours']:,g} GPU h, {about['disk_gb']:,g} GB"
    return [about["name"], metrics, counterpart(about["published"]), cost, about["protocol"], about["data"]]


def to_text(tasks: Sequence[Task], width: int | None = None) -> str:
    """A paragraph per task for a terminal of ``width`` characters (default this one's), wrapped, never cut.

    The first line has name, metrics, published counterpart and cost, the next ones the protocol and the data, which
    are left out where the task above, of the same group, has the same.
    """
    width = min(WIDEST, max(NARROWEST, width or shutil.get_terminal_size((NARROWEST, 24)).columns))
    rows = [_cells(summary(task)) for task in tasks]
    first, last = (max(len(row[column]) for row in [[*COLUMNS], *rows]) for column in (0, 3))
    left = width - first - last - 6
    widths = [first, left // 2, left - left // 2, last]
    lines = [*_wrapped(COLUMNS[:4], widths), "  ".join("─" * one for one in widths)]
    above: tuple[str, str] | None = None  # group and data of the task before
    for task, row in zip(tasks, rows, strict=True):
        if task.group and (above is None or above[0] != task.group):
            count = sum(one.group == task.group for one in tasks)
            lines.append(f"{task.group}: --task {task.group} runs its {count} task{'s' * (count != 1)}")
        same = bool(task.group) and above == (task.group, row[5])
        lines += _wrapped([row[0], row[1].split(" (+")[0], *row[2:4]], widths)
        for text in (row[4], *([] if same else [f"data: {row[5]}"])):
            lines += [INDENT + line for line in _Wrapper(width=width - len(INDENT)).wrap(printable(text))]
        above = (task.group, row[5])
    told = (textwrap.fill(line, width, break_on_hyphens=False) for line in NOTE.split("\n"))
    return "\n".join([*lines, "", *told])


class _Wrapper(textwrap.TextWrapper):
    """Also breaks a path or a name after / : _ and -."""

    def _split(self, text: str) -> list[str]:
        return [part for part in re.split(r"(\s+)|(?<=[/:_-])(?=\w)", text) if part]


def _wrapped(cells: Sequence[str], widths: Sequence[int]) -> list[str]:
    """The lines of one row of the table."""
    columns = [
        [part for line in printable_lines(text) for part in _Wrapper(width=width).wrap(line)]
        for text, width in zip(cells, widths, strict=True)
    ]
    return [
        "  ".join(part.ljust(width) for part, width in zip(line, widths, strict=True)).rstrip()
        for line in zip_longest(*columns, fillvalue="")
    ]


def printable_lines(text: str) -> list[str]:
    """The lines of ``text``, a plugin's perhaps, without control characters."""
    return [printable(line) for line in text.split("\n")]


def to_markdown(tasks: Sequence[Task]) -> str:
    """The same table in Markdown."""
    rows = [[for_markdown(", ".join(printable_lines(text))) for text in _cells(summary(task))] for task in tasks]
    table = pd.DataFrame(rows, columns=list(COLUMNS)).to_markdown(index=False, disable_numparse=True)
    return f"{table}\n\n{for_markdown(NOTE)}"


def to_json(tasks: Sequence[Task], *, detailed: bool = False) -> str:
    """A list of objects, one per task; ``detailed``: with settings by profile and all published rows."""
    found = [summary(task) for task in tasks]
    for about, task in zip(found, tasks, strict=True) if detailed else ():
        about["settings"] = settings_by_profile(task)
        about["published_rows"] = published(task).to_dict("records")
    return json.dumps(found, indent=2, ensure_ascii=False)


def settings_by_profile(task: Task) -> dict[str, dict[str, Any]]:
    """``{profile: {"precision": …, "values": …}}`` as they resolve on this machine; imports torch, perhaps detectron2.

    A detector's in paper are those of the published number of GPUs, in the small profiles those of the CPU.
    """
    found = {}
    for profile in ("paper", *(name for name in PROFILES if name != "paper")):
        on = gpus(task) if task.detects and profile == "paper" else 0
        settings = task.settings(Setup(profile=profile, num_gpus=on))
        found[profile] = {"precision": settings.precision, "values": json.loads(json.dumps(settings.values))}
    return found


def details(task: Task) -> str:
    """Everything about one task, in Markdown that also reads well on a terminal."""
    about = summary(task)
    once = "runs once, whatever --seed says" if task.deterministic else "one run for each --seed"
    cost = (
        f"{task.cost.gpu_hours:,g} GPU h, {task.cost.disk_gb:,g} GB: {task.cost.how}" if task.cost else "not estimated"
    )
    facts = {
        "column": task.title,
        "kind": KINDS[task.kind],
        "protocol": about["protocol"],
        "data": about["data"],
        "layout": task.layout,
        "metrics": "; ".join(_metric(metric) for metric in about["metrics"]),
        "seeds": once,
        "group": task.group or "none",
        "version": str(task.version),
        "cost": cost,
    }
    lines = [f"# {task.name}", "", *(f"- {name}: {for_markdown(text)}" for name, text in facts.items()), ""]
    number = gpus(task)
    machine = f" (paper: of {number} GPU{'s' * (number > 1)}; the others: of the CPU)" if task.detects else ""
    lines += [f"## Settings{machine}", "", _settings_table(settings_by_profile(task)), ""]
    rows = published(task)
    lines += [f"## Published counterpart: {len(rows) or 'no'} row{'s' * (len(rows) != 1)}"]
    lines += ["", rows.to_markdown(index=False, disable_numparse=True)] if len(rows) else []
    lines += ["", *_published_settings(task)] if task.settings_table else []
    return "\n".join(lines)


def _published_settings(task: Task) -> list[str]:
    """Where the published settings were read, and what the source says of the number, its spread and the cost."""
    found: Any = published_settings()
    for name in task.settings_table.split("."):
        found = found[name]
    about = {key: found[key] for key in ("source", "expected", "cost") if found.get(key)}
    title = f"## Published settings: [{task.settings_table}] of results/reference/protocols.toml"
    return [title, "", *(f"- {key}: {for_markdown(text)}" for key, text in about.items())]


def _metric(metric: Mapping[str, Any]) -> str:
    better = {True: ", higher is better", False: ", lower is better", None: ""}[metric["higher_is_better"]]
    return f"{metric['label']} ({metric['unit']}{better}{'' if metric['shown'] else ', only in the CSV'})"


def _settings_table(found: Mapping[str, Mapping[str, Any]]) -> str:
    """A row per key; a small profile's cell is empty where its value is that of paper."""
    flat = {name: {"precision": one["precision"], **_flat(one["values"])} for name, one in found.items()}
    keys = dict.fromkeys(key for values in flat.values() for key in values)
    rows = []
    for key in keys:
        first, *others = (
            json.dumps(values[key], ensure_ascii=False) if key in values else "-" for values in flat.values()
        )
        rows.append([key, first, *("" if text == first else text for text in others)])
    cells = [[for_markdown(text) for text in row] for row in rows]
    return pd.DataFrame(cells, columns=["setting", *flat]).to_markdown(index=False, disable_numparse=True)


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings under dotted keys."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        found |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) and value else {f"{prefix}{key}": value}
    return found


def listing(tasks: Sequence[Task] | None, *, markdown: bool, as_json: bool) -> str:
    """The text of the command: of all tasks (None) as a table, or of each of ``tasks`` in full."""
    if as_json:
        return to_json(tasks or list(TASKS.values()), detailed=tasks is not None)
    if tasks is not None:
        return "\n\n".join(details(task) for task in tasks)
    return to_markdown(list(TASKS.values())) if markdown else to_text(list(TASKS.values()))
