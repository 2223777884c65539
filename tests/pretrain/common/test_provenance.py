"""git_state of a small repository."""

import subprocess

from pretrain.common import provenance


def test_changed_files_and_new_files_of_the_code_are_dirty_and_others_are_not(tmp_path, monkeypatch):
    def git(*words):
        subprocess.run(["git", "-C", str(tmp_path), *words], check=True, capture_output=True)

    monkeypatch.setattr(provenance, "CHECKOUT", tmp_path)
    git_state = provenance.git_state.__wrapped__  # what it found is kept for the process
    assert git_state() is None
    git("init")
    git("config", "user.email", "a@b")
    git("config", "user.name", "a")
    (tmp_path / "transfer").mkdir()
    (tmp_path / "transfer" / "a.py").write_text("1")
    git("add", ".")
    git("commit", "-m", "x")
    assert git_state()["dirty"] is False and len(git_state()["commit"]) == 40
    (tmp_path / "notes.txt").write_text("mine")
    assert git_state()["dirty"] is False
    (tmp_path / "transfer" / "own.yaml").write_text("a: 1")
    assert git_state()["dirty"] is True
    (tmp_path / "transfer" / "own.yaml").unlink()
    (tmp_path / "transfer" / "a.py").write_text("2")
    assert git_state()["dirty"] is True
