"""Tables from records."""

import dataclasses
import re
import shutil
import statistics
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from benchmarks.__main__ import main
from benchmarks.records import ResultsStore
from benchmarks.report import chart
from benchmarks.report.cells import Cell, best_cells, collect, recorded
from benchmarks.report.tables import complete, escape, long_form, to_latex, to_markdown, write_tables
from benchmarks.tasks import TASKS
from pretrain.common.errors import InputError
from tests.benchmarks.doubles import IMAGENET_INPUT, make_record, make_spec
from tests.benchmarks.report.test_text import HOSTILE
from transfer.detection.config import PROTOCOLS

VALUES = {"alpha": [10.0, 12.0, 17.0], "beta_2": [30.0, 31.0, 32.0], "gamma": [40.0]}


@pytest.fixture
def pairs(tmp_path, monkeypatch):
    """Three checkpoints on low-shot with 3, 3 and 1 seeds, and one VOC run of which one failed."""
    monkeypatch.setenv("RESULTS_DIR", str(tmp_path))
    store, expected = ResultsStore(), []
    for row, (label, values) in enumerate(VALUES.items()):
        for seed, value in enumerate(values):
            spec = make_spec(task="low-shot", checkpoint_sha256=f"{row}" * 64, seed=seed)
            store.save(make_record(spec, {"top1": value}, label=label))
            expected.append((label, spec))
    for row, (label, error) in enumerate([("alpha", None), ("beta_2", "out of memory")]):
        spec = make_spec(task="voc-c4-24k", checkpoint_sha256=f"{row}" * 64)
        metrics = {} if error else {"bbox/AP": 1.25, "bbox/AP50": None, "bbox/AP75": 0.5}
        store.save(make_record(spec, metrics, label=label, error=error))
        expected.append((label, spec))
    return expected


def rows_of(markdown):
    lines = [line for line in markdown.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {row[0]: dict(zip(cells[0], row, strict=True)) for row in cells[2:]}


def test_mean_std_and_n_against_the_standard_library(pairs):
    table = rows_of(to_markdown(collect(pairs), "smoke"))
    for label in ("alpha", "beta_2"):
        mean, std = statistics.mean(VALUES[label]), statistics.stdev(VALUES[label])
        assert table[label]["10 per class top-1"] == f"{mean:.1f} ± {std:.1f} (3)"
    assert table["gamma"]["10 per class top-1"] == "40.0 (1)"


def test_what_has_no_number_says_why(pairs):
    table = rows_of(to_markdown(collect(pairs), "smoke"))
    assert table["alpha"]["VOC C4 AP"] == "1.2 (1)"
    assert table["alpha"]["VOC C4 AP50"] == "undefined"
    assert table["beta_2"]["VOC C4 AP"] == "failed"
    assert table["gamma"]["VOC C4 AP"] == ""


def cells_of(tmp_path, monkeypatch, values):
    monkeypatch.setenv("RESULTS_DIR", str(tmp_path))
    expected = []
    for row, (label, seeds) in enumerate(values.items()):
        for seed, value in enumerate(seeds):
            spec = make_spec(task="low-shot", checkpoint_sha256=f"{row}" * 64, seed=seed)
            ResultsStore().save(make_record(spec, {"top1": value}, label=label))
            expected.append((label, spec))
    cells = collect(expected)
    return {cell.label for cell in cells if id(cell) in best_cells(cells)}


@pytest.mark.parametrize(
    ("values", "bold"),
    [
        ({"a": [10, 11, 12, 13, 14], "b": [20, 21, 22, 23, 24]}, {"b"}),
        ({"a": [10, 11, 12, 13], "b": [20, 21, 22, 23]}, set()),  # n = 4
        ({"a": [10, 11, 12, 13, 14], "b": [30]}, set()),  # the best has n = 1, which is no σ of 0
        ({"a": [10], "b": [30, 30, 30, 30, 31]}, set()),  # nor has the runner-up
        ({"a": [10, 11, 12, 13, 14], "b": [13, 14, 15, 16, 17]}, set()),  # 3 apart, the error is exactly 1
        ({"a": [10, 11, 12, 13, 14], "b": [13.1, 14.1, 15.1, 16.1, 17.1]}, {"b"}),
        # The runner-up is beaten clearly, the third, whose seeds scatter, is not.
        ({"a": [0, 10, 20, 0, 20], "b": [11, 11, 11, 11, 12], "c": [13, 13, 13, 13, 14]}, set()),
        ({"a": [10, 11, 12, 13, 14]}, set()),  # nothing to compare with
    ],
)
def test_bold(tmp_path, monkeypatch, values, bold):
    assert cells_of(tmp_path, monkeypatch, values) == bold


@pytest.mark.parametrize(("rows", "seeds", "most"), [(2, 5, 2.2), (4, 5, 0.3), (2, 10, 1.2)])
def test_bold_is_rare_among_equal_rows(rows, seeds, most):
    """Percent of 5,000 columns of equal rows that have a winner. The rule before had 33 % (2 rows) and 9 % (4 rows)."""
    generator, spec = np.random.default_rng(0), make_spec(task="low-shot")
    metric = TASKS["low-shot"].metrics[0]
    cells = [
        Cell(str(row), str(column), metric, tuple(make_record(spec, {"top1": 50 + value}) for value in values), 0)
        for column in range(5000)
        for row, values in enumerate(generator.normal(size=(rows, seeds)))
    ]
    assert 100 * len(best_cells(cells)) / 5000 < most


def test_csv_has_the_provenance_of_every_cell(pairs, tmp_path):
    _, paths = write_tables(pairs, "smoke", "t")
    frame = pd.read_csv(next(path for path in paths if path.suffix == ".csv"), keep_default_na=False)
    row = frame[(frame["checkpoint"] == "alpha") & (frame["metric"] == "top1")].iloc[0]
    specs = [spec for label, spec in pairs if label == "alpha" and spec.task == "low-shot"]
    assert float(row["mean"]) == statistics.mean(VALUES["alpha"])
    assert float(row["std"]) == pytest.approx(statistics.stdev(VALUES["alpha"]))
    assert (int(row["n"]), row["seeds"], row["profile"], row["protocol"]) == (3, "0 1 2", "smoke", "lbfgs-10")
    assert row["runs"].split() == [spec.spec_id for spec in specs]
    assert row["commit"] == "c" * 12 and row["data_fingerprint"] == "f" * 12


def test_chart_has_a_panel_a_column_and_a_bar_a_checkpoint(pairs, tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(
        Figure, "savefig", lambda self, path, **more: (drawn.append(self), Path(path).write_bytes(b"x"))
    )
    _, paths = write_tables(pairs, "smoke", "t")
    assert paths[-1].suffix == ".png" and paths[-1].exists()
    panels = {axis.get_title(): axis for axis in drawn[0].axes if axis.get_visible()}
    assert set(panels) == {"10 per class top-1", "VOC C4 AP", "VOC C4 AP50", "VOC C4 AP75"}
    bars = [bar.get_width() for bar in panels["10 per class top-1"].patches]
    assert bars == [statistics.mean(values) for values in VALUES.values()]
    assert "31.0 ± 1.0 (3)" in "".join(text.get_text() for text in panels["10 per class top-1"].texts)


def test_caption_names_profile_data_protocol_and_commit(pairs):
    text = to_markdown(collect(pairs), "smoke")
    for part in (
        "smoke",
        "toy (a toy)",
        "imagenet ffffffff",
        "voc ffffffff",
        "low-shot/lbfgs-10",
        "voc-det/voc_c4_24k",
        "c" * 12,
    ):
        assert part in text


def test_caption_names_the_network_and_which_rows_have_which(pairs, tmp_path, monkeypatch):
    assert "voc-det). resnet50. Data" in to_markdown(collect(pairs), "smoke")
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


def test_recorded_takes_one_profile_and_data_set_only(pairs):
    ResultsStore().save(make_record(make_spec(profile="demo"), {"top1": 99.0}))
    ResultsStore().save(make_record(make_spec(data_name="else"), {"top1": 98.0}))
    ResultsStore().save(make_record(make_spec(task_version=0), {"top1": 97.0}))
    ResultsStore().save(make_record(make_spec(protocol="sgd_of_old"), {"top1": 96.0}))
    assert sorted(recorded("smoke", "toy"), key=str) == sorted(pairs, key=str)  # the failed one too
    assert recorded("paper") == []


def columns_of(tmp_path, monkeypatch, variants):
    monkeypatch.setenv("RESULTS_DIR", str(tmp_path))
    specs = [make_spec(**variant) for variant in variants]
    for value, spec in enumerate(specs):
        ResultsStore().save(make_record(spec, {"top1": float(value)}))
    row = rows_of(to_markdown(collect([("mine", spec) for spec in specs]), "smoke"))["mine"]
    return {heading: value for heading, value in row.items() if heading != "checkpoint"}


def test_what_must_not_share_a_cell_has_a_column_of_its_own(tmp_path, monkeypatch):
    variants = [
        {},
        {"data_fingerprint": "e" * 64},
        {"num_gpus": 8},
        {"overrides": ("A", "1")},
        {"precision": "bf16"},
        {"protocol_digest": "b" * 64},  # a YAML of the same name was edited
    ]
    columns = columns_of(tmp_path, monkeypatch, variants)
    assert sorted(columns.values()) == [f"{value}.0 (1)" for value in range(6)]
    for words in ("8 GPUs", "A 1", "bf16", "settings bbbbbb"):
        assert sum(words in heading for heading in columns) == 1
    assert all("toy" not in heading for heading in columns)  # one data set needs no naming


def test_with_two_data_sets_every_column_names_its_own(tmp_path, monkeypatch):
    variants = [{}, {"data_name": "other"}, {"task": "knn", "protocol": "knn"}]
    columns = columns_of(tmp_path, monkeypatch, variants)
    assert columns == {"linear toy top-1": "0.0 (1)", "linear other top-1": "1.0 (1)", "kNN toy top-1": "2.0 (1)"}


def test_two_checkpoints_of_one_name_are_told_apart(tmp_path, monkeypatch):
    monkeypatch.setenv("RESULTS_DIR", str(tmp_path))
    specs = [make_spec(checkpoint_sha256=digit * 64) for digit in "ab"]
    for spec in specs:
        ResultsStore().save(make_record(spec, {"top1": 1.0}))
    assert set(rows_of(to_markdown(collect([("mine", spec) for spec in specs]), "smoke"))) == {
        "mine [aaaaaa]",
        "mine [bbbbbb]",
    }


def test_the_same_tensors_read_in_two_ways_are_two_rows(tmp_path, monkeypatch):
    monkeypatch.setenv("RESULTS_DIR", str(tmp_path))
    specs = [make_spec(), make_spec(input=dataclasses.replace(IMAGENET_INPUT, channel_order="BGR", stride_in_1x1=True))]
    for spec in specs:
        ResultsStore().save(make_record(spec, {"top1": 1.0}))
    rows = rows_of(to_markdown(collect([("mine", spec) for spec in specs]), "smoke"))
    assert set(rows) == {
        "mine [RGB, mean 0.485 0.456 0.406, std 0.229 0.224 0.225]",
        "mine [BGR, mean 0.485 0.456 0.406, std 0.229 0.224 0.225, stride in 1×1]",
    }


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
    assert "coco_fpn_1x: Mask R-CNN FPN, 90,000 iterations. " in text and "Faster" not in text
    assert "Computed in fp32 (linear), bf16 (coco-seg). " in text


def saved(*runs):
    """(label, spec) of runs that are given as (label, changes of the spec, value or error)."""
    pairs = []
    for label, changes, result in runs:
        spec, failed = make_spec(**changes), isinstance(result, str)
        record = make_record(spec, {} if failed else {"top1": result}, label=label, error=result if failed else None)
        ResultsStore().save(dataclasses.replace(record, start=f"2026-01-01T00:00:{len(pairs):02d}Z"))
        pairs.append((label, spec))
    return pairs


@pytest.fixture
def results(tmp_path, monkeypatch):
    monkeypatch.setenv("RESULTS_DIR", str(tmp_path))
    return tmp_path


def test_hostile_labels_are_rows_like_others(results, capsys):
    pairs = saved(*((label, {"checkpoint_sha256": f"{i:064x}"}, 1.0 * i) for i, label in enumerate(HOSTILE)))
    markdown, paths = write_tables(pairs, "smoke", "t")
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
    markdown, paths = write_tables(pairs, "smoke", "t")
    head, _, row = (line for line in markdown.splitlines() if line.startswith("|"))
    assert re.sub(r"\\\|", "", head).count("|") == row.count("|") == 4 and "<i>" not in markdown
    assert complete(paths) and len(paths) == 4 and "warning" not in capsys.readouterr().err


def test_names_that_look_alike_share_no_cell(results):
    labels = saved(
        ("mine", {"checkpoint_sha256": "a" * 64}, 1.0),
        ("mine", {"checkpoint_sha256": "b" * 64}, 2.0),
        ("mine [aaaaaa]", {"checkpoint_sha256": "c" * 64}, 3.0),
        ("two\nlines", {"checkpoint_sha256": "d" * 64}, 4.0),
        (r"two\nlines", {"checkpoint_sha256": "e" * 64}, 5.0),
    )
    assert [cell.mean for cell in collect(labels) if cell.metric.key == "top1"] == [1.0, 2.0, 3.0, 4.0, 5.0]
    assert len({cell.label for cell in collect(labels)}) == 5
    columns = saved(("x", {"overrides": ("A", "1 B 2")}, 6.0), ("x", {"overrides": ("A", "1", "B", "2")}, 7.0))
    assert len({cell.column for cell in collect(columns)}) == 2


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
    markdown, paths = write_tables(pairs, "smoke", "t")
    assert complete(paths) and len(paths) == 3 and not (results / "tables" / "t.png").exists()
    assert "Every run failed, so there is no number: out of memory (linear: a, b" in markdown and "&lt;no>" in markdown
    assert "Data:" not in markdown and "Bold" not in markdown
    assert rows_of(markdown)["a"]["linear top-1"] == "failed"
    assert "No run has ended yet" in to_markdown(collect([("x", make_spec(seed=9))]), "smoke")


def test_failed_columns_of_settings_or_data_that_are_replaced_go(results):
    old, new = {"protocol_digest": "b" * 64}, {}
    pairs = saved(("a", old, "no disk"), ("a", new, 1.0), ("a", {"data_fingerprint": "e" * 64, **old}, "no disk"))
    assert recorded("smoke") == [pairs[1], pairs[2]]  # the last one is the newest
    (later,) = saved(("a", {"seed": 1}, 2.0))
    assert recorded("smoke") == [pairs[1], pairs[2], later]
    again = saved(*[("a", {"seed": seed}, 2.0) for seed in range(2, 6)])
    assert recorded("smoke") == [pairs[1], later, *again]
    (kept,) = saved(("a", {"protocol_digest": "c" * 64}, 3.0))  # with numbers an older column stays
    assert kept in recorded("smoke") and pairs[0] not in recorded("smoke")


def test_a_large_chart_shows_part_and_says_so(results, monkeypatch):
    figures = []
    monkeypatch.setattr(chart, "PANELS", 3)
    monkeypatch.setattr(Figure, "savefig", lambda self, path, **more: (figures.append(self), Path(path).touch()))
    metric, record = TASKS["knn"].metrics[0], make_record(make_spec(), {})
    cells = [
        Cell(f"row {row}", f"column {column}", metric, (dataclasses.replace(record, metrics={"top1": row / 10}),), 0)
        for column in range(5)
        for row in range(100)
    ]
    assert chart.draw(cells, results / "t.png", "t")
    (figure,) = figures
    axes = [axis for axis in figure.axes if axis.get_visible()]
    assert len(axes) == 3 and {len(axis.patches) for axis in axes} == {chart.ROWS}
    names = [text.get_text() for text in axes[0].get_yticklabels()]
    best = range(100 - chart.ROWS + chart.FIRST, 100)
    assert names == [f"row {row}" for row in (*range(chart.FIRST), *best)]
    assert f"{chart.ROWS} of 100 rows" in figure.get_suptitle() and "3 of 5 columns" in figure.get_suptitle()


def test_the_name_of_a_data_set_leaves_no_folder(pairs, results):
    _, paths = write_tables(pairs, "smoke", "smoke-../../x\n" + "y" * 300)
    assert {path.parent for path in paths} == {results / "tables"} and len(paths) == 4


def test_every_protocol_of_a_task_has_a_heading_and_an_own_file_where_it_trains_a_detector():
    for task in TASKS.values():
        for protocol in task.protocols:
            assert task.column_title(protocol).startswith(task.title)
            assert task.needs == "imagenet" or (PROTOCOLS / f"{protocol}.yaml").is_file()


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
