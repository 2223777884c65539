"""tools/families_table.py: a row a file, with what was proved."""

import pytest

from tools import families_table


@pytest.mark.slow
def test_a_row_says_what_was_found_mapped_and_proved(capsys):
    assert families_table.main(["moco-v1", "byol", "--architecture", "resnet18"]) == 0
    _, _, moco, byol = (
        [cell.strip() for cell in line.strip("|").split("|")] for line in capsys.readouterr().out.splitlines()
    )
    assert moco[:4] == ["moco-v1", "moco", "query", "100/100"] and moco[5] == "bitwise"
    assert byol[:4] == ["byol", "byol", "online", "100/100"] and byol[5] == "bitwise"
    assert {row[4] for row in (moco, byol)} == {"0"}


def test_an_unknown_file_is_named(capsys):
    with pytest.raises(SystemExit):
        families_table.main(["moco-v9"])
    assert "no file moco-v9; there are pycontrast-memory" in capsys.readouterr().err
