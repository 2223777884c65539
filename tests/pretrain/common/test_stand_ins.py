"""Processes on the CPU in place of GPUs."""

import pytest

from pretrain.common.errors import InputError
from pretrain.common.stand_ins import VARIABLE, cpu_processes


@pytest.mark.parametrize("given", ["0", "-1", "two", "1.5", "²"])
def test_a_number_of_processes_is_needed(given, monkeypatch):
    monkeypatch.setenv(VARIABLE, given)
    with pytest.raises(InputError, match=r"^CPU_PROCESSES=.*: give a number of processes"):
        cpu_processes()


def test_none_by_default(monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    assert cpu_processes() == 0
    monkeypatch.setenv(VARIABLE, "")
    assert cpu_processes() == 0
    monkeypatch.setenv(VARIABLE, "3")
    assert cpu_processes() == 3
