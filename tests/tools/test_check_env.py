"""What tools/check_env.py finds missing, and where it looks for data."""

import pytest

from pretrain.common.errors import InputError
from tools import check_env


@pytest.fixture
def requirements(tmp_path, monkeypatch):
    """Replaces requirements.txt by the lines given."""

    def replace(*lines: str) -> None:
        path = tmp_path / "requirements.txt"
        path.write_text("\n".join(lines) + "\n")
        monkeypatch.setattr(check_env, "REQUIREMENTS", path)

    monkeypatch.setattr(check_env, "detectron2_origin", lambda: {"location": "here"})
    return replace


def test_everything_missing_is_named_in_one_line(requirements, capsys):
    requirements("# comment", "numpy", "no-such-thing>=2", "pytest>=999", "packaging>=999", "wheel")
    with pytest.raises(InputError) as caught:
        check_env.main(["--missing"])
    message = str(caught.value)
    assert "no-such-thing>=2 (import no_such_thing)" in message
    assert "packaging>=999 (found " in message
    assert "numpy" not in message
    assert "\n" not in message


def test_what_only_development_needs_is_told_but_not_insisted_on(requirements, monkeypatch, capsys):
    requirements("numpy", "no-such-linter")
    monkeypatch.setattr(check_env, "DEVELOPMENT", frozenset({"no-such-linter"}))
    assert check_env.main(["--missing"]) == 0
    assert "no-such-linter" in capsys.readouterr().err


def test_a_missing_detectron2_and_an_old_python_count_as_missing(requirements, monkeypatch):
    requirements("numpy")
    monkeypatch.setattr(check_env, "detectron2_origin", lambda: {"location": None})
    monkeypatch.setattr(check_env, "OLDEST_PYTHON", (99, 0))
    assert check_env.missing()[0][0].startswith("Python 99.0 or newer")
    assert check_env.missing()[0][1] == "detectron2 (python tools/install_detectron2.py)"


def test_data_sets_are_reported_found_partly_found_and_absent(tmp_path, monkeypatch):
    for name in ("VOC2007/Annotations", "VOC2007/ImageSets/Main", "VOC2007/JPEGImages", "VOC2012/JPEGImages"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "prepared" / "emoji-smoke").mkdir(parents=True)
    (tmp_path / "prepared" / "emoji-smoke" / "data.json").touch()
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    monkeypatch.setenv("DATA_DIR", str(tmp_path / "prepared"))
    monkeypatch.delenv("IMAGENET_DIR", raising=False)
    rows = dict(check_env.datasets())
    assert rows["VOC2007"] == f"found in {tmp_path / 'VOC2007'}"
    assert "(Annotations, ImageSets/Main missing)" in rows["VOC2012"]
    assert rows["COCO"].startswith(f"not found in {tmp_path / 'coco'}")
    assert rows["ImageNet"] == "not found: IMAGENET_DIR is not set"
    assert rows["prepared"].startswith("emoji-smoke in ")


def test_the_whole_report_names_the_machine(capsys):
    check_env.main([])
    labels = {line.split()[0] for line in capsys.readouterr().out.splitlines()}
    assert labels >= {"python", "torch", "detectron2", "device", "cores", "memory", "disk", "COCO", "ImageNet"}
