"""User modules, ``--plugin my_module``: they register methods, presets, families, tasks and suites.

The names are kept in the environment, where the processes that jobs run in find them. Imports no torch.
"""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path

from pretrain.common.errors import InputError, printable

VARIABLE = "TRANSFER_PLUGINS"


def use_plugins(names: tuple[str, ...]) -> None:
    """Import the modules, here and in every process started from here. InputError for one that cannot be imported."""
    known = os.environ.get(VARIABLE, "").split()
    os.environ[VARIABLE] = " ".join(dict.fromkeys([*known, *names]))
    load_plugins()


def load_plugins() -> None:
    """Import the modules given to ``use_plugins``, also from the working directory; may be called repeatedly."""
    for name in os.environ.get(VARIABLE, "").split():
        if str(Path.cwd()) not in sys.path:
            sys.path.insert(0, str(Path.cwd()))
        try:
            importlib.import_module(name)
        except InputError:
            raise
        except Exception as error:  # a user's module may raise anything
            reason = printable(f"{type(error).__name__}: {error}")[:200]
            raise InputError(f"--plugin {name}: it cannot be imported ({reason})") from error


def plugin_arguments(argv: list[str]) -> tuple[tuple[str, ...], list[str]]:
    """The names after each ``--plugin`` in ``argv``, and ``argv`` without them. InputError for one without a name."""
    names, rest, words = [], [], iter(argv)
    for word in words:
        flag, equals, value = word.partition("=")
        if flag != "--plugin":
            rest.append(word)
            continue
        name = value if equals else next(words, "")
        if not all(part.isidentifier() for part in name.split(".")):
            raise InputError(f"--plugin {printable(name)}: give the name of a module, as in import")
        names.append(name)
    return tuple(names), rest
