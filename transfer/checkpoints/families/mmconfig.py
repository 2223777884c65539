"""Read the config of OpenMMLab's libraries, which checkpoints hold as the text of a Python file, without running it.

Literals, ``dict(…)`` of literals and names assigned before are evaluated; any other expression becomes None.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from typing import Any

_PATH = re.compile(r"^\S+\.(?:py|ya?ml|json)$", re.MULTILINE)  # a line above the text of each file
_LONGEST = 1 << 18  # characters of a text; longer ones are not read
_MOST = 200_000  # parts of its values, counted again at each use of a name
_MOST_KEYS = 128  # of one mapping, since mappings may be copied repeatedly


def read(meta: Any) -> dict[str, Any]:
    """The assignments of the config in a checkpoint's ``meta``; {} if it is missing or unreadable."""
    found = [meta.get(key) for key in ("cfg", "config")] if isinstance(meta, dict) else []
    for config in found:
        if isinstance(config, dict):
            return dict(config)
        if isinstance(config, str) and len(config) <= _LONGEST:
            return parse(config)
    return {}


def parse(text: str) -> dict[str, Any]:
    """The assignments of a config's text; a later mapping is merged into an earlier one, as with OpenMMLab's bases."""
    try:
        module = ast.parse(_PATH.sub("", text))
        config: dict[str, Any] = {}
        left = _MOST
        for statement in module.body:
            if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
                name, value = statement.targets[0].id, _value(statement.value, config)
                left -= _parts(value, left)
                if left < 0:
                    return {}
                config[name] = _merged(config.get(name), value)
    except (SyntaxError, ValueError, ArithmeticError, RecursionError, MemoryError):
        return {}
    return config


def find_all(value: Any, type_name: str) -> Iterator[dict[str, Any]]:
    """Every mapping in ``value`` whose "type" is ``type_name``, once; a pickled one can share parts or hold itself."""
    todo, seen = [value], set()
    while todo:
        value = todo.pop()
        if id(value) in seen or not isinstance(value, (dict, list, tuple)):
            continue
        seen.add(id(value))
        if isinstance(value, dict) and isinstance(kind := value.get("type"), str) and kind == type_name:
            yield value
        todo += reversed([*value.values()] if isinstance(value, dict) else value)


def _parts(value: Any, most: int) -> int:
    """Number of values that a walk through ``value`` visits, counted up to ``most`` + 1."""
    todo, count = [value], 0
    while todo and count <= most:
        value = todo.pop()
        count += 1
        if isinstance(value, (dict, list)):
            todo += value.values() if isinstance(value, dict) else value
    return count


def _merged(base: Any, new: Any) -> Any:
    if not (isinstance(base, dict) and isinstance(new, dict)) or new.get("_delete_"):
        return new
    return base | {key: _merged(base.get(key), value) for key, value in new.items()}


def _value(node: ast.expr, known: Mapping[str, Any]) -> Any:
    """The expression's value; None where it is more than a literal, a dict(…) or a known name."""
    match node:
        case ast.Constant(value=value):
            return value
        case ast.Name(id=name):
            return known.get(name)
        case ast.List(elts=parts) | ast.Tuple(elts=parts):
            return [_value(part, known) for part in parts]
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            value = _value(operand, known)
            return -value if isinstance(value, (int, float)) else None
        case ast.BinOp(op=ast.Mult() | ast.Div(), left=left, right=right):
            one, other = _value(left, known), _value(right, known)
            if not all(isinstance(part, (int, float)) for part in (one, other)):
                return None
            return float(one) * other if isinstance(node.op, ast.Mult) else (one / other if other else None)
        case ast.Dict(keys=keys, values=values):
            return _mapping(zip(keys, values, strict=True), known)
        case ast.Call(func=ast.Name(id="dict"), args=[], keywords=words):
            return _mapping(((word.arg and ast.Constant(word.arg), word.value) for word in words), known)
    return None


def _mapping(items: Any, known: Mapping[str, Any]) -> dict[Any, Any]:
    found: dict[Any, Any] = {}
    for key, node in items:
        value = _value(node, known)
        if key is None:  # **other
            found |= value if isinstance(value, dict) else {}
            if len(found) > _MOST_KEYS:
                raise ValueError
        elif isinstance(name := _value(key, known), str):
            found[name] = value
    return found
