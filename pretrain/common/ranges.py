"""Ranges of numeric settings, written beside their fields (``Annotated[float, NonNegative]``) and checked by a walk."""

from __future__ import annotations

import dataclasses
import math
import sys
from typing import Any, get_args, get_type_hints

from pretrain.common.errors import InputError

LEAST, MOST = sys.float_info.min, sys.float_info.max  # of the positive finite numbers


@dataclasses.dataclass(frozen=True)
class Range:
    """Least and greatest value, both allowed, and the two in words; of a tuple's field, for each of its numbers."""

    least: float
    most: float
    words: str


def at_least(least: int) -> Range:
    """Whole numbers from ``least`` up."""
    return Range(least, math.inf, f"at least {least}")


Count = Range(0, math.inf, "0 or more")
Fraction = Range(0, 1, "between 0 and 1")
NonNegative = Range(0, MOST, "finite and 0 or more")
Positive = Range(LEAST, MOST, "finite and above 0")
Seed = Range(0, 2**63 - 1, "between 0 and 2^63 - 1")


def ranges(config: type) -> dict[str, Range]:
    """Field name → its Range, for the annotated fields of a dataclass."""
    hints = get_type_hints(config, include_extras=True)
    marked = {
        name: next((mark for mark in get_args(hint) if isinstance(mark, Range)), None) for name, hint in hints.items()
    }
    return {name: mark for name, mark in marked.items() if mark}


def require_ranges(config: Any, flag: str = "--") -> None:
    """InputError that names the flag of the first number outside its range, in ``config`` and the configs in it.

    None is allowed where the field's type has it; NaN is outside every range. A config with rules between its fields
    has a method ``conflict`` that returns a flag without dashes and the rule, or None.
    """
    for name, limit in ranges(type(config)).items():
        value = getattr(config, name)
        values = value if isinstance(value, tuple) else (value,)
        if any(one is not None and not limit.least <= one <= limit.most for one in values):
            shown = " ".join(map(str, values))
            raise InputError(f"{flag}{name.replace('_', '-')} {shown}: must be {limit.words}")
    if hasattr(config, "conflict") and (conflict := config.conflict()):
        raise InputError(f"{flag}{conflict}")
    for field in dataclasses.fields(config):
        if dataclasses.is_dataclass(inner := getattr(config, field.name)):
            require_ranges(inner, f"{flag}{field.name.replace('_', '-')}.")
