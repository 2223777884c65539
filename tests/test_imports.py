"""Which room may import which."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parent.parent
MAY = {
    "pretrain": {"pretrain"},
    "transfer": {"pretrain", "transfer"},
    "benchmarks": {"pretrain", "transfer", "benchmarks"},
    "tools": {"pretrain", "transfer", "benchmarks"},
}
ROOMS = set(MAY)


def imported(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


@pytest.mark.parametrize("room", sorted(ROOMS))
def test_imports_point_one_way(room):
    files = sorted((CHECKOUT / room).rglob("*.py"))
    assert files
    for path in files:
        roots = {name.split(".")[0] for name in imported(path)}
        assert roots & ROOMS <= MAY[room], f"{path} imports {sorted(roots & ROOMS - MAY[room])}"
        if room == "pretrain":
            assert "detectron2" not in roots, f"{path} imports detectron2"


def test_the_ground_floor_imports_no_other_room():
    for path in sorted((CHECKOUT / "pretrain" / "common").glob("*.py")):
        ours = {name for name in imported(path) if name.split(".")[0] in ROOMS}
        assert all(name.startswith("pretrain.common") for name in ours), f"{path} imports {sorted(ours)}"


def test_only_detection_and_conversion_import_detectron2_in_transfer():
    for path in sorted((CHECKOUT / "transfer" / "checkpoints").rglob("*.py")):
        if path.name != "verify.py":
            assert "detectron2" not in {name.split(".")[0] for name in imported(path)}, path


@pytest.mark.parametrize(
    ("modules", "absent"),
    [
        (
            "benchmarks.report.tables, benchmarks.report.listing, benchmarks.tasks.base, benchmarks.suites, "
            "benchmarks.__main__",
            "torch",
        ),
        ("benchmarks.data.root, benchmarks.data.prepare", "torch"),
        ("pretrain.train, pretrain.config, pretrain.checkpoint", "detectron2"),
    ],
)
def test_what_is_not_imported(modules, absent):
    code = f"import sys, {modules}; sys.exit({absent!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=CHECKOUT).returncode == 0
