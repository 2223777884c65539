"""What the jobs of each kind ask Slurm for, from a TOML file and from KEY=VALUE words. Imports no torch."""

from __future__ import annotations

import dataclasses
import difflib
import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_type_hints

from benchmarks.executors.base import KINDS
from pretrain.common.errors import InputError, printable

_TIME = re.compile(r"(?:(?P<days>\d+)-)?(?P<first>\d+)(?::(?P<second>\d+))?(?::(?P<third>\d+))?")
# sbatch's options that decide where submitit's files are and how jobs end.
OURS = frozenset(
    {"array", "output", "error", "open-mode", "signal", "job-name", "requeue", "no-requeue", "ntasks", "wrap"}
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """Of one kind of job. ``gpus`` of a node; ``time`` of Slurm, minutes or [days-]hours:minutes:seconds.

    ``at_most``: jobs of one array side by side. ``requeues``: how often a job that ran out of its time is started
    again. ``warn``: seconds before the end of its time at which a job saves. ``setup``: shell lines before the job.
    ``sbatch``: further options of sbatch by name. "" and 0 leave a thing to the cluster.
    """

    partition: str = ""
    account: str = ""
    qos: str = ""
    constraint: str = ""
    gpus: int = 0
    nodes: int = 1
    cpus: int = 0
    memory_gb: float = 0.0
    time: str = "4:00:00"
    at_most: int = 100
    requeues: int = 20
    warn: int = 90
    setup: tuple[str, ...] = ()
    sbatch: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def minutes(self) -> int:
        """The time limit in minutes, rounded up."""
        return _minutes(self.time)


def _minutes(text: str) -> int:
    """As sbatch reads ``--time``. ValueError for another text, or none above 0."""
    found = _TIME.fullmatch(text.strip())
    if not found:
        raise ValueError
    days, first, second, third = (None if one is None else int(one) for one in found.groups())
    if days is not None or third is not None:
        seconds = (days or 0) * 86400 + first * 3600 + (second or 0) * 60 + (third or 0)  # type: ignore[operator]
    else:
        seconds = first * 60 + (second or 0)  # type: ignore[operator]
    if not seconds:
        raise ValueError
    return -(-seconds // 60)


def parse_options(words: Sequence[str]) -> dict[str, Options]:
    """The options of each of KINDS from TOML files and KEY=VALUE or KIND.KEY=VALUE words; later ones count.

    A key that stands alone is that of every kind, unless a kind has its own. "import" is absent where nothing asks for
    it: then conversions run where the command runs. InputError names the first wrong word.
    """
    common: dict[str, Any] = {}
    of_kind: dict[str, dict[str, Any]] = {}
    for word in words:
        before, equals, value = word.partition("=")
        if equals and re.fullmatch(r"[a-z_.]+", before):
            kind, dot, key = before.rpartition(".")
            if dot and kind not in KINDS:
                raise InputError(f"--slurm {word}: {_choose(kind, KINDS)}")
            (of_kind.setdefault(kind, {}) if dot else common).update(_checked({key: value}, f"--slurm {word}"))
        else:
            _add_file(Path(word).expanduser(), common, of_kind)
    found = {}
    for kind in KINDS:
        if kind != "import" or kind in of_kind:
            inherited = of_kind.get("detector", {}) if kind == "finetune" else {}
            found[kind] = Options(**common | inherited | of_kind.get(kind, {}))
    return found


def _add_file(path: Path, common: dict[str, Any], of_kind: dict[str, dict[str, Any]]) -> None:
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"--slurm {path}: give a TOML file or KEY=VALUE ({error.strerror})") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"--slurm {path}: not TOML ({printable(str(error))[:200]})") from None
    for kind in [key for key, value in values.items() if isinstance(value, dict) and key != "sbatch"]:
        if kind not in KINDS:
            raise InputError(f"{path}: [{kind}]: {_choose(kind, KINDS)}")
        of_kind.setdefault(kind, {}).update(_checked(values.pop(kind), f"{path}: [{kind}]"))
    common.update(_checked(values, str(path)))


def _choose(word: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(word, known, 1)
    return (
        f"unknown {word or repr(word)}: did you mean {close[0]}?"
        if close
        else f"unknown {word}: choose {', '.join(known)}"
    )


def _checked(values: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The values in their fields' types. InputError that begins with ``where``."""
    types = get_type_hints(Options)
    found: dict[str, Any] = {}
    for key, value in values.items():
        if key not in types:
            raise InputError(f"{where}: {_choose(key, list(types))}")
        try:
            found[key] = _converted(key, value, types[key])
        except (ValueError, TypeError, OverflowError):
            raise InputError(f"{where}: {key} is {printable(repr(value))[:80]}: {_EXPECTED[key]}") from None
    return found


_EXPECTED = {
    **dict.fromkeys(("partition", "account", "qos", "constraint"), "give a word"),
    **dict.fromkeys(("gpus", "cpus", "requeues"), "give a whole number, 0 or more"),
    **dict.fromkeys(("nodes", "at_most", "warn"), "give a whole number, 1 or more"),
    "memory_gb": "give GB of a node, 0 or more",
    "time": "give minutes, or [days-]hours:minutes:seconds",
    "setup": "give a list of shell lines",
    "sbatch": f"give a table of sbatch's options but {', '.join(sorted(OURS))}",
}


def _converted(key: str, value: Any, kind: Any) -> Any:
    """ValueError or TypeError where ``value`` is not one for ``key``."""
    if key == "setup":
        lines = [value] if isinstance(value, str) else value
        if not all(isinstance(line, str) for line in lines):
            raise TypeError
        return tuple(lines)
    if key == "sbatch":
        if not isinstance(value, dict) or OURS & {name.replace("_", "-") for name in value}:
            raise TypeError
        return {name: one if isinstance(one, bool) else str(one) for name, one in value.items()}
    if isinstance(value, bool) or (kind is str and not isinstance(value, str | int)):
        raise TypeError
    number = kind(value)
    if kind is int and number != float(value):
        raise ValueError
    if kind is not str and not (1 if key in ("nodes", "at_most", "warn") else 0) <= number < 1e6:
        raise ValueError
    if key == "time":
        _minutes(number)
    return number
