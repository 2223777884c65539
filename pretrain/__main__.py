"""``python -m pretrain``: see command.py, which takes seconds to import; meanwhile signals are handled already."""

from __future__ import annotations

from pretrain.common.errors import run_cli


def main(argv: list[str]) -> int:
    """Pretrain: see command.py."""
    from pretrain.command import main as command

    return command(argv)


if __name__ == "__main__":
    run_cli(main)
