"""A suite that is killed at random ends in the tables of one that is not."""

import re

import pytest

from tools import kill_probe


@pytest.mark.slow
def test_random_kills_change_no_byte_of_the_tables(tmp_path, monkeypatch):
    monkeypatch.setenv("DATA_DIR", str(tmp_path / "data"))  # put back afterwards
    said = kill_probe.probe(tmp_path, kills=4, seed=1)
    assert re.fullmatch(r"4 kills \(.*\) in .*: 3 tables equal byte for byte", said)
