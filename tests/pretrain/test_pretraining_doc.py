"""docs/pretraining.md against the code: its tables, and the new method as it stands there."""

import fnmatch
import re
import sys
import types
from dataclasses import replace
from pathlib import Path

from pretrain import train
from pretrain.augment.views import VIEWS, ViewsConfig
from pretrain.methods import METHODS
from pretrain.methods.byol import BYOLConfig
from pretrain.methods.simsiam import SimSiamConfig
from pretrain.presets import PRESETS
from pretrain.runtime.metrics import read_metrics

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
            name = part if not part.startswith("-") else name.partition("-r50")[0] + "-r50" + part
            named.add(name)
    assert named - {"demo-random"} == {name for name in PRESETS if "-r50-" in name}


RATES = {"linear": "{}·B/256", "sqrt": "{}·√B"}
NAMED_VIEWS = {
    (VIEWS["simclr"], None): "SimCLR's",
    (VIEWS["byol1"], VIEWS["byol2"]): "BYOL's two",
    (replace(VIEWS["A"], crop_scale=(0.08, 1.0)), None): "A, crops from 0.08",
    (ViewsConfig(jitter=0.0, grayscale=0.0, blur=0.0), None): "crop and flip",
    **{(VIEWS[letter], None): letter for letter in "ABCDE"},
}


def in_words(preset):
    """A preset as the page puts it, by setting."""
    mantissa, exponent = f"{preset.weight_decay:.1e}".split("e")
    schedule = "cosine"
    if preset.schedule == "steps":
        schedule = "a tenth at {:.0f} and {:.0f} %".format(*(100 * drop for drop in preset.lr_drops))
    if preset.warmup:
        schedule = f"{round(preset.warmup * preset.epochs)} epochs of warm-up, {schedule}"
    words = {
        "batch": f"{preset.batch_size:,}",
        "optimiser": f"{preset.optimizer.upper()}, momentum {preset.momentum}",
        "peak rate": RATES[preset.lr_scaling].format(preset.learning_rate),
        "weight decay": f"{float(mantissa):g}e{int(exponent)}",
        "schedule": schedule,
        "rate of biases": f"{preset.bias_lr_ratio:g} × the weights'",
        "views": NAMED_VIEWS[preset.views, preset.views2],
    }
    if isinstance(preset.method, BYOLConfig | SimSiamConfig):
        words["rate of the predictor"] = "the peak throughout" if preset.fixed_lr_modules else "scheduled"
    return words


def test_the_settings_are_the_presets():
    """Every setting of every ImageNet preset is in one row of the table, with the preset's value and a source."""
    found = {name: {} for name in PRESETS if "-r50-" in name}
    for setting, patterns, value, published, source in rows("| setting | presets | preset value |"):
        assert published and (":" in source or source.startswith("arXiv")), setting
        for pattern in re.findall(r"`([^`]+)`", patterns):
            for name in fnmatch.filter(found, pattern):
                assert setting not in found[name], (name, setting)
                found[name][setting] = value
    assert found == {name: in_words(PRESETS[name]) for name in found}


def test_the_temperatures_are_the_methods():
    for name, method in METHODS.items():
        temperature = getattr(method.Config(), "temperature", None)
        if temperature is not None:
            (row,) = (row for row in rows("| method | presets |") if row[0] == f"`{name}`")
            assert row[4] == str(temperature)


def test_the_new_method_is_short_and_trains(flat_folder, results, tiny, monkeypatch):
    code = PAGE.partition("```python\n")[2].partition("```")[0]
    assert len(code.splitlines()) <= 60
    module = types.ModuleType("rotnet")
    monkeypatch.setitem(sys.modules, "rotnet", module)  # where dataclasses look for the names of a class's module
    exec(compile(code, "rotnet.py", "exec"), module.__dict__)
    monkeypatch.setitem(METHODS, "rotnet", module.RotNet)
    config = replace(tiny, method=module.RotNetConfig(), steps=2)
    path = train.run("x", config, flat_folder)
    losses = read_metrics(path.parent / "metrics.jsonl")
    assert [row["step"] for row in losses] == [0, 1] and 0.5 < losses[0]["loss"] < 4 and path.exists()
