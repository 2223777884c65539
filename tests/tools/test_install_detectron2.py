"""Re-packing and installing detectron2, on a made-up wheel served from a folder. No network."""

import base64
import hashlib
import importlib.metadata
import json
import sys
import zipfile
from pathlib import Path

import pytest

from pretrain.common.errors import RunError
from tools import install_detectron2
from transfer.detection import detectron2_version

METADATA = """\
Metadata-Version: 2.1
Name: sal-detectron2
Version: 0.7.2
Requires-Dist: Pillow>=7.1
Requires-Dist: numpy<2
Requires-Dist: dataclasses; python_version < "3.7"
Requires-Dist: black
Requires-Dist: packaging
Requires-Dist: black==23.3.0; extra == "dev"
"""
FILES = {
    "detectron2/__init__.py": '__version__ = "0.7.2"\n',
    "detectron2/layers/__init__.py": "",
    "detectron2/_C.cpython-310-x86_64-linux-gnu.so": "binary",
    "tools/__init__.py": "",
    "tools/train_net.py": "",
    "sal_detectron2-0.7.2.dist-info/METADATA": METADATA,
    "sal_detectron2-0.7.2.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: false\nTag: cp310-cp310-linux\n",
    "sal_detectron2-0.7.2.dist-info/top_level.txt": "detectron2\ntools\n",
}


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    """A small wheel with everything that is wrong with the real one, alone in a folder that pip can fetch from."""
    path = tmp_path / "index" / "sal_detectron2-0.7.2-cp310-none-any.whl"
    path.parent.mkdir()
    record = "".join(f"{name},sha256={_record_hash(text)},{len(text)}\n" for name, text in FILES.items())
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in {**FILES, "sal_detectron2-0.7.2.dist-info/RECORD": record}.items():
            archive.writestr(name, text)
    return path


def _record_hash(text: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()


@pytest.fixture
def site(tmp_path: Path, wheel: Path, monkeypatch) -> Path:
    """The folder that pip installs to and fetches for in this test, instead of this environment and the network."""
    folder = tmp_path / "site"
    for name, value in {"TARGET": folder, "NO_INDEX": "1", "FIND_LINKS": wheel.parent, "EXTRA_INDEX_URL": ""}.items():
        monkeypatch.setenv(f"PIP_{name}", str(value))
    monkeypatch.setattr(install_detectron2.sysconfig, "get_path", lambda name: str(tmp_path))
    return folder


def test_repacking_leaves_the_python_sources_and_right_metadata(wheel, tmp_path):
    packed = install_detectron2.repack(wheel, tmp_path / "out")
    assert packed.name == "sal_detectron2-0.7.2-py3-none-any.whl"
    with zipfile.ZipFile(packed) as archive:
        names = set(archive.namelist())
        info = "sal_detectron2-0.7.2.dist-info/"
        metadata, tags, origin_json, top = (
            archive.read(info + name).decode() for name in ("METADATA", "WHEEL", "ORIGIN.json", "top_level.txt")
        )
    assert {name for name in names if not name.startswith(info)} == {
        "detectron2/__init__.py",
        "detectron2/layers/__init__.py",
    }
    required = {line.split(": ", 1)[1] for line in metadata.splitlines() if line.startswith("Requires-Dist")}
    assert required == {"Pillow>=7.1", "numpy", "packaging", "fvcore", "iopath", 'black==23.3.0; extra == "dev"'}
    assert {"Root-Is-Purelib: true", "Tag: py3-none-any"} < set(tags.splitlines())
    assert top == "detectron2\n"
    assert json.loads(origin_json)["license"] == "Apache-2.0"


def test_a_wheel_with_the_expected_hash_is_fetched_and_installed_with_its_origin(wheel, site, monkeypatch):
    monkeypatch.setattr(install_detectron2, "SHA256", hashlib.sha256(wheel.read_bytes()).hexdigest())
    install_detectron2.install()
    assert (site / "detectron2" / "__init__.py").exists()
    assert not (site / "tools").exists()
    (found,) = importlib.metadata.distributions(name="sal-detectron2", path=[str(site)])
    assert json.loads(found.read_text("ORIGIN.json"))["upstream_commit"] == "a59f0563"


def test_a_wheel_with_another_hash_leaves_nothing_installed(wheel, site):
    with pytest.raises(RunError, match=r"not the expected 491af0c7.*nothing was installed"):
        install_detectron2.install()
    assert not site.exists()


def test_an_index_without_the_wheel_is_one_line_and_leaves_nothing(wheel, site):
    wheel.unlink()
    with pytest.raises(RunError, match="could not be fetched: ERROR") as caught:
        install_detectron2.install()
    assert "\n" not in str(caught.value)
    assert not site.exists()


def test_a_failing_install_is_cleared_away(wheel, site, tmp_path, monkeypatch):
    half = [tmp_path / "detectron2", tmp_path / "sal_detectron2-0.7.2.dist-info"]

    def breaks(trouble, command, *arguments):
        for folder in half:
            folder.mkdir()
        raise RunError("no space left")

    monkeypatch.setattr(install_detectron2, "fetch", lambda folder: wheel)
    monkeypatch.setattr(install_detectron2, "checked", lambda path: path)
    monkeypatch.setattr(install_detectron2, "_pip", breaks)
    with pytest.raises(RunError, match="no space left"):
        install_detectron2.install()
    assert not any(folder.exists() for folder in half)


def test_too_little_disk_is_said_before_anything_is_fetched(site, monkeypatch):
    monkeypatch.setattr(install_detectron2, "NEEDED_BYTES", 10**18)
    monkeypatch.setattr(install_detectron2, "fetch", lambda folder: pytest.fail("fetched"))
    with pytest.raises(RunError, match="MB free"):
        install_detectron2.install()


@pytest.mark.parametrize(
    ("name", "record", "content", "told"),
    [
        ("sal_detectron2", "ORIGIN.json", {"what": "re-packed"}, "sal-detectron2 1.5 (re-packed) in "),
        ("detectron2", "direct_url.json", {"url": "git+https://x"}, "detectron2 1.5 (git+https://x) in "),
        (None, None, None, "a source tree (origin not recorded) in "),
    ],
)
def test_the_origin_reader_says_whose_detectron2_is_used(tmp_path, monkeypatch, name, record, content, told):
    (tmp_path / "detectron2").mkdir()
    (tmp_path / "detectron2" / "__init__.py").touch()
    if name:
        info = tmp_path / f"{name}-1.5.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name.replace('_', '-')}\nVersion: 1.5\n")
        (info / record).write_text(json.dumps(content))
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    monkeypatch.delitem(sys.modules, "detectron2", raising=False)
    found = detectron2_version.detectron2_origin()
    assert found["source"] == content
    assert detectron2_version.describe(found) == told + str(tmp_path / "detectron2")


def test_the_origin_reader_says_when_there_is_none(monkeypatch):
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.delitem(sys.modules, "detectron2", raising=False)
    assert set(detectron2_version.detectron2_origin().values()) == {None}
    assert detectron2_version.describe(detectron2_version.detectron2_origin()) == "not installed"
