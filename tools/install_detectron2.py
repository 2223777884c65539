"""Install detectron2's Python sources into this environment, unless it has a detectron2 already.

python tools/install_detectron2.py

Upstream detectron2 is not on the package index and builds C++ and CUDA code that nothing here uses (rotated boxes,
deformable convolutions). The index has a copy of upstream's sources as sal-detectron2: this fetches it, checks its
sha256, takes out what does not belong here (a binary for another Python, a top-level package ``tools``, requirements
that pin numpy < 2 and forget fvcore and iopath), re-packs it and installs it without resolving, so that no other
package changes. Needs pip and the ``wheel`` package (both are in requirements.txt's environment), nothing else.
"""

from __future__ import annotations

import importlib
import json
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from pretrain.common.errors import RunError, run_cli
from pretrain.common.files import file_sha256
from transfer.detection.detectron2_version import describe, detectron2_origin

NAME = "sal-detectron2"
VERSION = "0.7.2"
SHA256 = "491af0c7f79bdb2d178e46f6cb16a97c4ac968d45c41ea3f6b6435d59bbee561"
NEEDED_BYTES = 200_000_000
STALE = {"numpy<2": "numpy", "black": None, 'dataclasses; python_version < "3.7"': None}
"""Requirements in the wheel's metadata that are wrong today, with what replaces each."""
FORGOTTEN = ("fvcore", "iopath")
ORIGIN = {
    "what": "Facebook AI Research's detectron2, Apache-2.0, upstream commit a59f0563, re-packed without binaries",
    "license": "Apache-2.0",
    "upstream": "https://github.com/facebookresearch/detectron2",
    "upstream_commit": "a59f0563",
    "upstream_version": "0.6",
    "fetched": f"{NAME}=={VERSION}",
    "fetched_sha256": SHA256,
    "removed": ["compiled extension", "top-level package tools", "stale requirements"],
}


def main(argv: list[str]) -> int:
    """Use the detectron2 that is here, or install one; 0 on success. Takes no arguments."""
    origin = detectron2_origin()
    if origin["location"] is None:
        install()
        importlib.invalidate_caches()
        origin = detectron2_origin()
        print(f"its version reads {VERSION} where upstream's reads {ORIGIN['upstream_version']}", file=sys.stderr)
    _call("the installed detectron2 does not import", "-c", "import detectron2")
    print(f"detectron2: {describe(origin)}", file=sys.stderr)
    return 0


def install() -> None:
    """Fetch, check, re-pack and install. RunError with one line, and nothing left behind, if any step fails."""
    _call("re-packing detectron2 needs the wheel package (pip install wheel)", "-c", "import pip, wheel")
    for folder in (tempfile.gettempdir(), sysconfig.get_path("purelib")):
        if shutil.disk_usage(folder).free < NEEDED_BYTES:
            raise RunError(f"installing detectron2 needs {NEEDED_BYTES // 10**6} MB free in {folder}: make room first")
    print(f"fetching {NAME} {VERSION}: {ORIGIN['what']}", file=sys.stderr)
    with tempfile.TemporaryDirectory() as temporary:
        wheel = repack(checked(fetch(Path(temporary, "fetched"))), Path(temporary, "repacked"))
        try:
            _pip("installing detectron2 failed", "install", "--no-deps", "--no-index", str(wheel))
        except RunError:
            for left in ("detectron2", f"sal_detectron2-{VERSION}.dist-info"):
                shutil.rmtree(Path(sysconfig.get_path("purelib"), left), ignore_errors=True)
            raise


def fetch(folder: Path) -> Path:
    """Download the wheel into ``folder`` with this environment's pip and index; it is only tagged for Python 3.10."""
    only = ("--no-deps", "--only-binary=:all:", "--python-version", "3.10", "--retries", "2")
    _pip(f"{NAME} {VERSION} could not be fetched", "download", *only, "-d", str(folder), f"{NAME}=={VERSION}")
    return next(folder.glob("*.whl"))


def checked(wheel: Path) -> Path:
    """``wheel`` itself if it is the file that was examined; RunError otherwise."""
    found = file_sha256(wheel)
    if found != SHA256:
        raise RunError(f"{wheel.name} has sha256 {found[:16]}…, not the expected {SHA256[:16]}…: nothing was installed")
    return wheel


def repack(wheel: Path, folder: Path) -> Path:
    """Write a py3-none-any wheel of ``wheel``'s Python sources into ``folder``, with ORIGIN.json in its dist-info."""
    folder.mkdir(parents=True)
    _call(f"{wheel.name} could not be unpacked", "-m", "wheel", "unpack", str(wheel), "-d", str(folder))
    tree = next(path for path in folder.iterdir() if path.is_dir())
    for binary in tree.rglob("*.so"):
        binary.unlink()
    shutil.rmtree(tree / "tools", ignore_errors=True)
    info = next(tree.glob("*.dist-info"))
    (info / "top_level.txt").write_text("detectron2\n")
    (info / "ORIGIN.json").write_text(json.dumps(ORIGIN, indent=1) + "\n")
    _edit(info / "METADATA", right_requirements)
    _edit(info / "WHEEL", lambda text: re.sub(r"(?m)^Root-Is-Purelib: .*", "Root-Is-Purelib: true", text))
    _edit(info / "WHEEL", lambda text: re.sub(r"(?m)^Tag: .*", "Tag: py3-none-any", text))
    _call("the wheel could not be re-packed", "-m", "wheel", "pack", str(tree), "-d", str(folder))
    return next(folder.glob("*.whl"))


def right_requirements(metadata: str) -> str:
    """METADATA with the stale requirements replaced and the forgotten ones added; the rest as it was."""
    lines = []
    for line in metadata.splitlines():
        requirement = line.removeprefix("Requires-Dist: ")
        if requirement == line or requirement not in STALE:
            lines.append(line)
        elif STALE[requirement]:
            lines.append(f"Requires-Dist: {STALE[requirement]}")
    first = next(index for index, line in enumerate(lines) if line.startswith("Requires-Dist: "))
    lines[first:first] = [f"Requires-Dist: {name}" for name in FORGOTTEN]
    return "\n".join(lines) + "\n"


def _edit(path: Path, change: Callable[[str], str]) -> None:
    path.write_text(change(path.read_text(encoding="utf-8")), encoding="utf-8")


def _pip(trouble: str, *arguments: str) -> None:
    _call(trouble, "-m", "pip", "--disable-pip-version-check", "--no-input", *arguments)


def _call(trouble: str, *arguments: str) -> None:
    """Run this Python with ``arguments``; RunError with ``trouble`` and the last line it said if it fails."""
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True)
    if done.returncode:
        said = [line for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        errors = [line for line in said if line.startswith("ERROR")] or said or [f"exit status {done.returncode}"]
        raise RunError(f"{trouble}: {errors[-1].strip()}")


if __name__ == "__main__":
    run_cli(main)
