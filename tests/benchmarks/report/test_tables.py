"""Tables from records."""

import dataclasses
import re
import shutil
import statistics
import subprocess
from pathlib import Path

import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from benchmarks.__main__ import main
from benchmarks.records import ResultsStore
from benchmarks.report import chart
from benchmarks.report.cells import Cell, collect
from benchmarks.report.latex import escape
from benchmarks.report.long_form import long_form
from benchmarks.report.tables import complete, to_latex, to_markdown, write_tables
from benchmarks.tasks import TASKS, named
from pretrain.common.errors import InputError
from tests.benchmarks.doubles import make_record, make_spec
from tests.benchmarks.report.records import VALUES, rows_of, saved
from tests.benchmarks.report.test_text import HOSTILE


def test_csv_has_the_provenance_of_every_cell(pairs, tmp_path):
    _, paths = write_tables(pairs, "smoke", "t")
    frame = pd.read_csv(next(path for path in paths if path.suffix == ".csv"), keep_default_na=False)
    row = frame[(frame["checkpoint"] == "alpha") & (frame["metric"] == "top1")].iloc[0]
    specs = [spec for label, spec in pairs if label == "alpha" and spec.task == "low-shot"]
    assert float(row["mean"]) == statistics.mean(VALUES["alpha"])
    assert float(row["std"]) == pytest.approx(statistics.stdev(VALUES["alpha"]))
    task = f"low-shot v{TASKS['low-shot'].version}"
    assert (int(row["n"]), row["seeds"], row["profile"], row["task"]) == (3, "0 1 2", "smoke", task)
    assert row["runs"].split() == [spec.spec_id for spec in specs]
    assert row["commit"] == "c" * 12 and row["data_fingerprint"] == "f" * 12


def keep_figures(monkeypatch, kept):
    """Append the figures that are saved to ``kept``; their files are empty."""

    def save(canvas, path):
        kept.append(canvas.figure)
        Path(path).touch()

    monkeypatch.setattr(chart.FigureCanvasAgg, "print_png", save)


def test_chart_has_a_panel_a_column_and_a_bar_a_checkpoint(pairs, tmp_path, monkeypatch):
    drawn = []
    keep_figures(monkeypatch, drawn)
    _, paths = write_tables(pairs, "smoke", "t")
    assert paths[-1].suffix == ".png" and paths[-1].exists()
    panels = {axis.get_title(): axis for axis in drawn[0].axes if axis.get_visible()}
    assert set(panels) == {"10-shot top-1", "VOC C4 AP", "VOC C4 AP50", "VOC C4 AP75"}
    bars = [bar.get_width() for bar in panels["10-shot top-1"].patches]
    assert bars == [statistics.mean(values) for values in VALUES.values()]
    assert "31.0 ± 1.0 (3)" in "".join(text.get_text() for text in panels["10-shot top-1"].texts)


def test_caption_names_profile_data_protocol_and_commit(pairs):
    text = to_markdown(collect(pairs), "smoke")
    for part in (
        "smoke",
        "toy (a toy)",
        "imagenet ffffffff",
        "voc ffffffff",
        "Tasks: " + ", ".join(f"{name} v{TASKS[name].version}" for name in ("low-shot", "voc-c4-24k")) + ".",
        "c" * 12,
    ):
        assert part in text


def test_caption_names_the_network_and_which_rows_have_which(pairs, tmp_path, monkeypatch):
    assert "(low-shot, voc-c4-24k). resnet50. Data" in to_markdown(collect(pairs), "smoke")
    monkeypatch.setenv("RESULTS_DIR", str(tmp_path / "other"))
    mixed = []
    for label, architecture in (("a", "resnet18"), ("b", "resnet50"), ("c", "resnet18"), ("old", None)):
        spec = make_spec(checkpoint_sha256=label[0] * 64)
        ResultsStore().save(make_record(spec, {"top1": 1.0}, label=label, architecture=architecture))
        mixed.append((label, spec))
    assert "resnet18 (a, c), resnet50 (b). Data" in to_markdown(collect(mixed), "smoke")
    assert list(long_form(collect(mixed)).drop_duplicates("checkpoint").architecture) == [
        *("resnet18", "resnet50", "resnet18", ""),
    ]


def test_a_record_of_another_profile_never_enters(pairs):
    with pytest.raises(InputError, match="profile"):
        write_tables([*pairs, ("x", make_spec(profile="demo"))], "smoke", "t")


def test_the_caption_says_what_the_runs_say_of_themselves(tmp_path, monkeypatch):
    monkeypatch.setenv("RESULTS_DIR", str(tmp_path))
    model = {
        "MODEL": {"MASK_ON": True, "BACKBONE": {"NAME": "build_resnet_fpn_backbone"}},
        "SOLVER": {"MAX_ITER": 90000},
    }
    runs = {
        "a": (make_spec(), {"notes": ("decay 1 is the largest of its grid",)}),
        "b": (make_spec(checkpoint_sha256="b" * 64), {"notes": ("decay 1 is the largest of its grid",)}),
        "c": (make_spec(task="coco-fpn-1x", precision="bf16"), {"config": model}),
    }
    for label, (spec, more) in runs.items():
        ResultsStore().save(make_record(spec, {"top1": 1.0}, label=label, **more))
    text = to_markdown(collect([(label, spec) for label, (spec, _) in runs.items()]), "smoke")
    assert "Notes: linear: decay 1 is the largest of its grid (a, b). " in text
    assert "coco-fpn-1x: Mask R-CNN FPN, 90,000 iterations. " in text and "Faster" not in text
    assert "Computed in fp32 (linear), bf16 (coco-fpn-1x). " in text


def test_hostile_labels_are_rows_like_others(results, capsys):
    pairs = saved(*((label, {"checkpoint_sha256": f"{i:064x}"}, 1.0 * i) for i, label in enumerate(HOSTILE)))
    _, paths = write_tables(pairs, "smoke", "t")
    markdown = paths[0].read_text(encoding="utf-8")
    assert complete(paths) and paths[-1].suffix == ".png" and "warning" not in capsys.readouterr().err
    rows = [line for line in markdown.splitlines() if line.startswith("|")][2:]
    assert [re.sub(r"\\\|", "", row).count("|") for row in rows] == [3] * len(HOSTILE)
    assert all(re.search(rf"\| {i}\.0 \(1\) *\|$", row) for i, row in enumerate(rows))
    frame = pd.read_csv(paths[1], keep_default_na=False)
    assert frame[frame["metric"] == "top1"]["mean"].astype(float).tolist() == list(range(len(HOSTILE)))
    assert not frame["checkpoint"].str.match(r"[=+@]|-[^\d]").any()
    assert frame["checkpoint"].nunique() == len(HOSTILE)


@pytest.mark.parametrize(
    ("field", "value"),
    [("data_name", r"a|b <i> $\x$ [l](http://x.y)"), ("overrides", ("A", "`1`|\n=2")), ("data_name", "\udce9" * 300)],
)
def test_hostile_names_of_data_and_options_break_no_row(results, capsys, field, value):
    pairs = saved(("a", {}, 1.0), ("a", {field: value}, 2.0))
    _, paths = write_tables(pairs, "smoke", "t")
    markdown = paths[0].read_text(encoding="utf-8")
    head, _, row = (line for line in markdown.splitlines() if line.startswith("|"))
    assert re.sub(r"\\\|", "", head).count("|") == row.count("|") == 4 and "<i>" not in markdown
    assert complete(paths) and len(paths) == 4 and "warning" not in capsys.readouterr().err


def test_a_chart_that_fails_costs_no_table_and_leaves_no_old_one(pairs, results, monkeypatch, capsys):
    monkeypatch.setattr(chart, "draw", lambda *arguments: 1 / 0)
    (results / "tables").mkdir()
    (results / "tables" / "t.png").write_bytes(b"of yesterday")
    _, paths = write_tables(pairs, "smoke", "t")
    assert complete(paths) and len(paths) == 3 and not (results / "tables" / "t.png").exists()
    said = capsys.readouterr().err
    assert "| alpha" in said and said.splitlines()[-1] == "warning: no chart: ZeroDivisionError: division by zero"


def test_a_table_that_cannot_be_written_is_printed(pairs, results, capsys):
    (results / "tables").write_text("a file")
    assert main(["tables", "smoke"]) == 1
    said = capsys.readouterr()
    assert "| alpha" in said.err and "warning: not written" in said.err and said.out == ""
    assert sum("warning" in line for line in said.err.splitlines()) <= 2


def test_one_file_that_cannot_be_written_is_named_and_the_others_are(pairs, results, capsys):
    (results / "tables" / "t.csv").mkdir(parents=True)
    _, paths = write_tables(pairs, "smoke", "t")
    assert [path.suffix for path in paths] == [".md", ".tex", ".png"] and not complete(paths)
    assert "t.csv (Is a directory)" in capsys.readouterr().err


def test_failed_runs_alone_say_so_and_draw_nothing(results):
    (results / "tables").mkdir()
    (results / "tables" / "t.png").write_bytes(b"of yesterday")
    pairs = saved(
        ("a", {}, "out of memory"), ("b", {"checkpoint_sha256": "b" * 64}, "out of memory"), ("b", {"seed": 1}, "<no>")
    )
    _, paths = write_tables(pairs, "smoke", "t")
    markdown = paths[0].read_text(encoding="utf-8")
    assert complete(paths) and len(paths) == 3 and not (results / "tables" / "t.png").exists()
    assert "Every run failed, so there is no number: out of memory (linear: a, b" in markdown and "&lt;no>" in markdown
    assert "Data:" not in markdown and "Bold" not in markdown
    assert rows_of(markdown)["a"]["linear top-1"] == "failed"
    assert "No run has ended yet" in to_markdown(collect([("x", make_spec(seed=9))]), "smoke")


def test_a_large_chart_shows_part_and_says_so(results, monkeypatch):
    figures = []
    monkeypatch.setattr(chart, "PANELS", 3)
    keep_figures(monkeypatch, figures)
    metric, record = TASKS["knn"].metrics[0], make_record(make_spec(), {})
    cells = [
        Cell(f"row {row}", f"column {column}", metric, (dataclasses.replace(record, metrics={"top1": value}),), 0)
        for column in range(5)
        for row in range(100)
        for value in [row / 10 if column != 1 else None]
    ]
    assert chart.draw(cells, results / "t.png", "t")
    (figure,) = figures
    axes = [axis for axis in figure.axes if axis.get_visible()]
    assert [axis.get_title() for axis in axes] == [f"column {column} top-1" for column in (0, 2, 3)]
    assert {len(axis.patches) for axis in axes} == {chart.ROWS}
    names = [text.get_text() for text in axes[0].get_yticklabels()]
    best = range(100 - chart.ROWS + chart.FIRST, 100)
    assert names == [f"row {row}" for row in (*range(chart.FIRST), *best)]
    assert f"{chart.ROWS} of 100 rows" in figure.get_suptitle() and "3 of 5 columns" in figure.get_suptitle()


@pytest.mark.parametrize("pooled", [False, True])
def test_the_text_after_each_bar_ends_inside_its_panel(results, monkeypatch, pooled):
    figures = []
    keep_figures(monkeypatch, figures)
    metric = TASKS["knn"].metrics[0]
    records = tuple(
        make_record(make_spec(checkpoint_sha256=f"{run:064x}", seed=seed), {"top1": 50.0 + 5 * run + seed})
        for run in range(3)
        for seed in range(5)
    )
    cells = [Cell("a", f"column {column}", metric, records, 0, pooled=pooled) for column in range(4)]
    assert chart.draw(cells, results / "t.png", "t")
    (figure,) = figures
    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw(renderer)
    for axis in figure.axes:
        (text,) = axis.texts
        assert ("(3×5)" in text.get_text()) == pooled
        assert text.get_window_extent(renderer).x1 < axis.get_window_extent(renderer).x1


def test_the_name_of_a_data_set_leaves_no_folder(pairs, results):
    _, paths = write_tables(pairs, "smoke", "smoke-../../x\n" + "y" * 300)
    assert {path.parent for path in paths} == {results / "tables"} and len(paths) == 4


def test_latex_is_escaped_with_the_plus_minus_in_math(pairs):
    text = to_latex(collect(pairs), "smoke")
    assert r"beta\_2" in text and r"$31.0 \pm 1.0$ (3)" in text and r"\toprule" in text
    assert "±" not in text
    assert not re.search(r"(?<!\\)[_#&](?=[a-z])", text.split("\\midrule")[1].split("\\bottomrule")[0])


def test_escape_covers_every_special_character():
    assert escape(r"a_b%&$#{}~^\±") == (r"a\_b\%\&\$\#\{\}\textasciitilde{}\textasciicircum{}\textbackslash{}$\pm$")


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")
def test_latex_compiles(pairs, tmp_path):
    """Labels too that LaTeX would take for markup; other alphabets need other fonts."""
    labels = [label for label in HOSTILE if label.isascii() and len(label) < 100]
    pairs = [*pairs, *((label, make_spec(checkpoint_sha256=f"{i:064x}")) for i, label in enumerate(labels))]
    document = (
        "\\documentclass{article}\\usepackage[utf8]{inputenc}\\usepackage{booktabs,graphicx}\\begin{document}\n"
        f"{to_latex(collect(pairs), 'smoke')}\n\\end{{document}}"
    )
    (tmp_path / "table.tex").write_text(document)
    command = ["pdflatex", "-halt-on-error", "-interaction=nonstopmode", "table.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stdout[-2000:]
    assert (tmp_path / "table.pdf").stat().st_size > 1000


def test_a_whole_group_is_named_once_in_the_caption_and_one_note_of_its_columns_too(tmp_path, monkeypatch):
    monkeypatch.setenv("RESULTS_DIR", str(tmp_path))
    names = [task.name for task in named("linear-sgd")]
    specs = [make_spec(task=name, precision="bf16") for name in [*names, "knn"]]
    note = "the best epoch, chosen on the test images"
    for spec in specs:
        kept = {"notes": (note,)} if spec.task.endswith(("-moco", "-swav")) else {}
        ResultsStore().save(make_record(spec, {"top1": 1.0}, label="a", **kept))
    text = to_markdown(collect([("a", spec) for spec in specs]), "smoke")
    assert "Computed in bf16 (linear-sgd, knn). " in text
    assert f"Tasks: linear-sgd v{TASKS[names[0]].version}, knn v{TASKS['knn'].version}." in text
    assert f"Notes: moco linear, swav linear: {note} (a). " in text
    some = to_markdown(collect([("a", spec) for spec in specs[1:]]), "smoke")
    assert "linear-sgd-swav" in some and "(linear-sgd," not in some


def test_fingerprints_of_one_layout_name_the_tasks_that_read_a_part_of_it(results):
    """Fine-tuning on 1 % and on 10 % of the labels, of the images that knn reads whole."""
    data = {"knn": "0", "semi-1-swav": "1", "semi-1-barlow": "1", "semi-10-swav": "2"}
    specs = [make_spec(task=task, data_fingerprint=digit * 64) for task, digit in data.items()]
    for spec in specs:
        ResultsStore().save(make_record(spec, {"top1": 1.0}, label="a"))
    text = to_markdown(collect([("a", spec) for spec in specs]), "smoke")
    found = "imagenet 00000000, imagenet 11111111 of semi-1-swav semi-1-barlow, imagenet 22222222 of semi-10-swav"
    assert f"fingerprints {found}. Tasks:" in text
