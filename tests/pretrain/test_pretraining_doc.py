"""docs/pretraining.md against the code: its tables, and the new method as it stands there.

``python -m pytest tests/pretrain/test_pretraining_doc.py``
"""

import dataclasses
import re
import sys
import types
from pathlib import Path

from pretrain import train
from pretrain.methods import METHODS
from pretrain.metrics import read_metrics
from pretrain.presets import PRESETS

PAGE = (Path(__file__).parents[2] / "docs" / "pretraining.md").read_text(encoding="utf-8")


def rows(header):
    table = PAGE.partition(header)[2].partition("\n\n")[0]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]


def test_the_table_has_every_method_and_every_large_preset():
    listed = {row[0].strip("`"): row[1] for row in rows("| method | presets |")}
    assert set(listed) == set(METHODS)
    named = set()
    for cell in listed.values():
        name = ""
        for part in re.findall(r"`([^`]+)`", cell):
            name = part if not part.startswith("-") else name.rsplit("-", 1)[0] + part
            named.add(name)
    assert named - {"demo-random"} == {name for name in PRESETS if "-r50-" in name}


def test_the_settings_are_the_presets():
    for row in rows("| presets | batch |"):
        for family in re.findall(r"`([^`]+)`", row[0]):
            for name, preset in PRESETS.items():
                if name.startswith(f"{family}-r50"):
                    assert row[1] == f"{preset.batch_size:,}" and preset.lr_scaling == "linear", name
                    assert str(preset.learning_rate) in row[3].split() + row[3].replace("(", " ").split(), name
                    assert preset.optimizer.upper() in row[2].upper(), name
                    assert ("cosine" in row[5]) == (preset.schedule == "cosine"), name
                    assert ("10 epochs" in row[5]) == (round(preset.warmup * preset.epochs) == 10), name
                    assert f"{preset.weight_decay:g}".replace("e-0", "e-").replace("0.0001", "1e-4") in row[4], name
    for name, method in METHODS.items():
        temperature = getattr(method.config(), "temperature", None)
        if temperature is not None:
            (row,) = (row for row in rows("| method | presets |") if row[0] == f"`{name}`")
            assert row[4] == str(temperature)


def test_the_new_method_is_short_and_trains(flat_folder, results, tiny, monkeypatch):
    code = PAGE.partition("```python\n")[2].partition("```")[0]
    assert len(code.splitlines()) <= 60
    module = types.ModuleType("rotnet")
    monkeypatch.setitem(sys.modules, "rotnet", module)  # where dataclasses look for the names of a class's module
    exec(compile(code, "rotnet.py", "exec"), module.__dict__)
    monkeypatch.setitem(METHODS, "rotnet", module.ENTRY)
    config = dataclasses.replace(tiny, method=module.RotNetConfig(), steps=2)
    path = train.run("x", config, flat_folder)
    losses = read_metrics(path.parent / "metrics.jsonl")
    assert [row["step"] for row in losses] == [0, 1] and 0.5 < losses[0]["loss"] < 4 and path.exists()
