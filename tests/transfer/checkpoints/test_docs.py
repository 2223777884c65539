"""docs/checkpoints.md against the code: the table of families, and the example of a new one as it stands there."""

import re
from pathlib import Path

from tests.transfer.layouts import SAMPLES
from tests.transfer.layouts.parts import linear, under, zeros
from transfer.checkpoints.families import FAMILIES
from transfer.checkpoints.families.base import PUBLISHED_CODE, WRITTEN_IN_TEST
from transfer.checkpoints.reading.read import CheckpointFile

PAGE = (Path(__file__).parents[3] / "docs" / "checkpoints.md").read_text(encoding="utf-8")


def rows():
    table = PAGE.partition("| family |")[2].partition("\n\n")[0]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]
    return {row[0]: row[1:] for row in cells}


def test_the_table_has_every_source_by_its_title():
    assert {name: row[0] for name, row in rows().items()} == {name: family.title for name, family in FAMILIES.items()}


def test_the_table_says_how_each_layout_is_known():
    for name, (_, _, _, known) in rows().items():
        assert ("code" in known) >= (PUBLISHED_CODE in FAMILIES[name].known_from), name
        assert ("library" in known) >= (WRITTEN_IN_TEST in FAMILIES[name].known_from), name


def test_the_table_names_every_network_in_order():
    for sample in SAMPLES.values():
        empty = {"conv1.weight": zeros(64, 3, 7, 7), "layer4.1.bn1.weight": zeros(512)}
        made = sample(empty, empty)
        named = rows()[made.family][1]
        assert re.search(", ".join(made.networks), named) or set(made.networks) <= set(re.findall(r"\w+", named))


def test_the_example_reads_what_it_says_it_reads():
    code = PAGE.partition("```python\n")[2].partition("```")[0]
    assert len(code.splitlines()) <= 30
    scope = {}
    exec(code, scope)
    state = {"conv1.weight": zeros(64, 3, 7, 7), "layer2.0.skip.1.bias": zeros(128)}
    content = {
        "net": under("module.trunk.", state) | under("module.", linear("mlp.0", 9, 9)),
        "ema": under("trunk.", {name: zeros(1) for name in state}),
        "epoch": 3,
    }
    file = CheckpointFile(path=Path("x.pth"), content=content, meta=None)
    assert scope["FAMILY"].recognise(file) and not [s for s in FAMILIES.values() if s.recognise(file)]
    raw = scope["FAMILY"].extract(file, None)
    assert set(raw.state) == {"conv1.weight", "layer2.0.downsample.1.bias"}
    assert (raw.network, raw.networks) == ("trained", ("trained", "ema"))
    assert {"epoch", "net/mlp.0.weight", "ema/trunk.conv1.weight"} <= set(raw.dropped)
