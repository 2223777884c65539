"""The tasks as a table, as JSON, and one in full."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from benchmarks.__main__ import main
from benchmarks.report import listing
from benchmarks.report.listing import best_known, counterpart, summary
from benchmarks.report.published import REFERENCE
from benchmarks.tasks import TASKS, Cost, Metric, Published, Settings, Task
from pretrain.common.errors import InputError

CHECKOUT = Path(__file__).resolve().parents[3]


def own(name, **changes):
    values = {
        "title": name,
        "kind": "frozen",
        "layout": "imagenet",
        "version": 1,
        "metrics": (Metric(key="a", label="A"),),
    }
    values |= {"deterministic": False, "reference": f"protocol of {name}", "run": None}
    values |= {"settings": lambda setup: Settings(values={"k": 3, "p": {"q": setup.profile, "r": 1}}, precision="fp32")}
    return Task(name=name, **values | changes)


@pytest.mark.parametrize("width", [100, 120, 180])
def test_every_task_is_there_with_all_its_text_and_no_line_is_too_long(width):
    text = listing.to_text(list(TASKS.values()), width)
    assert max(map(len, text.splitlines())) <= width
    paragraphs = re.split(r"\n(?=\S)", text)  # the further lines of a task are indented
    for task in TASKS.values():
        (own_text,) = (one for one in paragraphs if one.split()[0] == task.name)
        plain = "".join(own_text.split())
        assert task.reference.replace(" ", "") in plain and task.metrics[0].label.split()[0] in own_text
        assert ("none" in own_text.splitlines()[0].split()) == (task.published is None)
    for task in TASKS.values():
        data = f"data:{listing.data_of(task)}".replace(" ", "")
        assert data in "".join(text.split())


def test_the_data_of_a_group_are_told_once():
    several = [own(name, group="g", data="the data") for name in ("one", "two")]
    text = listing.to_text([*several, own("three", data="the data"), own("four", data="the data")], 100)
    assert text.count("data: the data") == 3
    assert "g: --task g runs its 2 tasks" in text


def test_paths_break_between_their_parts():
    path = "facebookresearch/moco:" + "main_lincls_with_a_long_name/" * 4
    text = listing.to_text([own("three", reference=path)], 100)
    assert re.search(r"(moco:|/|_)\n    \w", text) and path in text.replace("\n    ", "")


def test_a_narrow_terminal_has_the_width_of_a_hundred(monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    longest = max(map(len, listing.to_text(list(TASKS.values())).splitlines()))
    assert 90 < longest <= 100


def test_a_row_says_data_metrics_group_and_cost():
    task = own("one", group="several", data="a set", cost=Cost(gpu_hours=1200, disk_gb=0.5, how="guessed"))
    others = [
        own("two", group="several", metrics=(Metric(key="a", label="A"), Metric(key="b", label="B", shown=False)))
    ]
    text = listing.to_text([task, *others], 100)
    assert "several: --task several runs its 2 tasks" in text and "1,200 GPU h, 0.5 GB" in text and "a set" in text
    assert re.search(r"^two +A +none", text, re.M)
    assert "A (+1 in the CSV)" in listing.to_markdown(others)
    assert "not estimated" in text and "prepare" in text  # of the second: data from the layout
    assert "a\\x1bb" in listing.to_text([own("x", reference="a\x1bb")])


def test_the_best_known_row_is_moco_v2s_of_200_epochs():
    known = summary(TASKS["voc-c4-24k"])["published"]
    table = pd.read_csv(REFERENCE, dtype=str, keep_default_na=False)
    rows = table[
        (table["detector"] == "Faster R-CNN R50-C4") & (table["schedule"] == "24k") & (table["metric"] == "AP")
    ]
    own_row = rows[(rows["method"] == "MoCo v2") & (rows["pretrain_epochs"] == "200")].iloc[0]
    assert known["best_known"]["values"]["AP"] == own_row["value"] == "57.0"
    assert known["best_known"]["source"] == own_row["source"]
    assert counterpart(known) == f"MoCo v2 200 ep: AP 57.0, AP50 82.4, AP75 63.6 ({known['rows']} rows)"
    assert counterpart(summary(TASKS["knn"])["published"]) == "MoCo v2 100 ep: 41.8 (10 rows)"
    assert counterpart(None) == "none"


def test_a_method_that_the_task_is_named_after_comes_first():
    task = own("linear-barlow", published=Published(detector="", schedule="", headings={"A": ("t", "a")}))
    rows = pd.DataFrame(
        [["MoCo v2", "200", "1.0", "", "w"], ["Barlow Twins", "1000", "2.0", "lr searched", "x"]],
        columns=["method", "epochs", "A", "differs in", "source"],
    )
    assert best_known(rows, task)["method"] == "Barlow Twins"


def test_an_unfamiliar_method_is_the_first_that_has_the_primary_number():
    task = own("x", published=Published(detector="", schedule="", headings={"A": ("t", "a"), "B": ("t", "b")}))
    rows = pd.DataFrame(
        [["W", "", "", "1.0", "", "w"], ["X", "", "2.0", "3.0", "", "x"], ["Y", "100", "4.0", "", "", "y"]],
        columns=["method", "epochs", "A", "B", "differs in", "source"],
    )
    found = best_known(rows, task)
    assert found == {"method": "X", "epochs": None, "values": {"A": "2.0", "B": "3.0"}, "source": "x"}
    assert counterpart({"rows": 1, "best_known": found}) == "X: A 2.0, B 3.0 (1 row)"


def test_the_command_prints_json_for_machines_and_markdown(capsys):
    assert main(["list", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [one["name"] for one in found] == list(TASKS)
    knn = next(one for one in found if one["name"] == "knn")
    assert knn["published"]["rows"] == 10 and knn["metrics"][0]["unit"] == "%" and "settings" not in knn
    assert main(["list", "--markdown"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split("|")[1].strip() == "task" and len(
        [line for line in lines if line.startswith("|")]
    ) == 2 + len(TASKS)


def test_one_task_has_its_settings_and_every_published_row(capsys):
    assert main(["list", "knn"]) == 0
    text = capsys.readouterr().out
    assert "| k           | 200     | 20      | 20     | 20      |" in text and "runs once" in text
    assert text.count("lightly-ai/lightly:README.md") == 10
    assert main(["list", "knn", "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert found["settings"]["demo"] == {
        "precision": "fp32",
        "values": {"k": 20, "temperature": 0.1, "resize": 64, "crop": 64},
    }
    assert len(found["published_rows"]) == 10 and all(row["source"] for row in found["published_rows"])


def test_a_detector_shows_its_config_of_eight_gpus(capsys):
    assert main(["list", "voc-c4-24k", "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert found["settings"]["paper"]["values"]["SOLVER"]["MAX_ITER"] == 24000
    assert found["settings"]["paper"]["values"]["SOLVER"]["IMS_PER_BATCH"] == 16
    assert found["settings"]["smoke"]["values"]["SOLVER"]["MAX_ITER"] < 1000


def test_settings_of_the_small_profiles_are_shown_where_they_differ():
    text = listing.details(own("one"))
    assert '| p.q       | "paper" | "smoke" | "demo" | "small" |' in text
    assert "| p.r       | 1       |         |        |         |" in text
    assert "no rows" in text and "not estimated" in text and "one run for each --seed" in text


def test_a_group_shows_each_of_its_tasks(monkeypatch, capsys):
    for name in ("one", "two"):
        monkeypatch.setitem(TASKS, name, own(name, group="several"))
    assert main(["list", "several"]) == 0
    text = capsys.readouterr().out
    assert text.count("## Settings") == 2 and "# one\n" in text and "# two\n" in text


def test_wrong_input_is_one_line():
    with pytest.raises(InputError, match="unknown task segmentation: `python -m benchmarks list` has all"):
        main(["list", "segmentation"])
    with pytest.raises(InputError, match="--markdown and --json exclude each other"):
        main(["list", "--markdown", "--json"])


def test_the_table_is_made_without_torch_and_into_a_closed_pipe():
    code = "import sys; from benchmarks.__main__ import main; main(['list']); sys.exit('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=CHECKOUT, capture_output=True, text=True, env=os.environ | {"COLUMNS": "100"}
    )
    assert done.returncode == 0, done.stderr
    assert max(map(len, done.stdout.splitlines())) <= 100
