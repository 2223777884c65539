"""Fixtures of the tests of benchmarks."""

import json

import pytest


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A data root with an imagenet section only, and a file that is no checkpoint."""
    monkeypatch.setenv("RESULTS_DIR", str(tmp_path / "results"))
    folder = tmp_path / "toy"
    folder.mkdir()
    section = {"classes": ["a", "b"], "counts": {"train": 4, "val": 2}, "fingerprint": "f" * 64}
    record = {"name": "toy", "synthetic": True, "description": "a toy", "config": {}, "imagenet": section}
    (folder / "data.json").write_text(json.dumps(record))
    for name, count in (("a", 10), ("b", 9)):
        (folder / "imagenet" / "train" / name).mkdir(parents=True)
        for number in range(count):
            (folder / "imagenet" / "train" / name / f"{number}.JPG").touch()
        (folder / "imagenet" / "train" / name / "notes.txt").touch()
    (tmp_path / "x.pth").write_text("<html>404 not found</html>")
    return folder
