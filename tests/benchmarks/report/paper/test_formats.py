"""The files of a laid-out table: Markdown, HTML, LaTeX, BibTeX, ranks and figures, and --check."""

import re
import shutil
import statistics
import subprocess
import xml.etree.ElementTree as ET

import pandas as pd
import pytest

from benchmarks.__main__ import main
from benchmarks.records import ResultsStore
from benchmarks.report.cells import recorded
from benchmarks.report.paper import bibliography
from benchmarks.report.paper.layout import table_of
from benchmarks.report.paper.markup import marked_up, plain
from benchmarks.report.paper.pictures import KINDS
from benchmarks.report.paper.spec import read_spec
from benchmarks.report.published import REFERENCE
from pretrain.common.errors import InputError
from tests.benchmarks.report.paper.conftest import save
from tests.benchmarks.report.test_text import HOSTILE

FIGURES = """
[[figures]]
name = "scatter"
kind = "scatter"
columns = ["low-shot/top1", "voc-c4-24k/bbox/AP"]
"""


@pytest.fixture
def tables(results, spec_file):
    assert main(["tables", str(spec_file)]) == 0
    return results / "tables"


def test_markdown_marks_published_numbers_best_rows_and_reasons(tables):
    text = (tables / "mine.md").read_text()
    rows = {line.split("|")[1].strip(): line for line in text.splitlines() if line.startswith("|")}
    assert "**31.0 ± 0.9** (+20.0\\*)" in rows["beta_2"] and "<sub>50</sub>" in rows[""]
    published = next(row for name, row in rows.items() if name.startswith("*MoCo v2"))
    assert "*82.4 (+1.1)*" in published and "–<sup>" in rows["gamma"]


def test_html_is_a_table_with_the_same_numbers(tables):
    text = (tables / "mine.html").read_text()
    root = ET.fromstring(text)
    rows = root.findall(".//tbody/tr")
    cells = {row.find("th").text: ["".join(cell.itertext()) for cell in row.findall("td")] for row in rows}
    assert len(rows) == 6 and cells["beta_2"][0] == "31.0 ± 0.9 (+20.0*)"
    grey = [row for row in rows if row.get("class") == "published"]
    assert len(grey) == 2 and all("italic" in row.get("style") for row in grey)
    assert len(root.findall(".//tbody")) == 5  # groups


def test_bibtex_has_the_cited_sources(tables):
    text = (tables / "mine.bib").read_text()
    cited = set(re.findall(r"\\cite\{([^}]*)\}", (tables / "mine.tex").read_text()))
    assert cited == set(re.findall(r"@misc\{([^,]*),", text)) == {"github-facebookresearch-moco"}


def test_every_source_has_an_entry():
    for source in pd.read_csv(REFERENCE, dtype=str)["source"].unique():
        assert bibliography.references(source), source
    assert set(bibliography.references("A paper (arXiv 2011.10566) Table 5; lr searched")) == {"arxiv-2011.10566"}


def compiled(folder, document, name):
    (folder / f"{name}.tex").write_text(document)
    command = ["pdflatex", "-halt-on-error", "-interaction=nonstopmode", f"{name}.tex"]
    for _ in range(2):
        done = subprocess.run(command, cwd=folder, capture_output=True, stdin=subprocess.DEVNULL, encoding="latin-1")
        assert done.returncode == 0, done.stdout[-2000:]
    return done.stdout


def has_latex():
    if not (shutil.which("pdflatex") and shutil.which("kpsewhich")):
        return False
    return bool(subprocess.run(["kpsewhich", "siunitx.sty"], capture_output=True).stdout)


@pytest.mark.skipif(not has_latex(), reason="pdflatex or siunitx is not installed")
def test_latex_compiles_alone_and_in_two_columns(results, spec_file):
    """Labels too that LaTeX would take for markup."""
    for number, label in enumerate(label for label in HOSTILE if label.isascii() and len(label) < 100):
        save(label, "low-shot", [10.0 + number, 90.0], sha="0123456789"[number % 10], data_name=f"set{number}")
        break
    assert main(["tables", str(spec_file)]) == 0
    folder = results / "tables"
    said = compiled(folder, (folder / "mine-alone.tex").read_text(), "mine-alone")
    assert "undefined" not in said
    packages = "\\usepackage[utf8]{inputenc}\\usepackage{booktabs,graphicx,siunitx,xcolor,url}"
    document = f"\\documentclass[twocolumn]{{article}}{packages}\\begin{{document}}\\input{{mine}}\\end{{document}}"
    assert "Overfull" not in compiled(folder, document, "two")


def test_latex_aligns_at_the_point_and_the_plus_minus(tables):
    text = (tables / "mine.tex").read_text()
    assert r"S[table-format=2.1(2)]" in text and r"\best 31.0 +- 0.9" in text
    body = text.split("\\toprule")[1].split("\\bottomrule")[0]
    assert r"\cmidrule(lr)" in body and r"beta\_2" in body and "±" not in body


def test_the_same_records_give_the_same_bytes_and_check_names_the_stale_file(results, spec_file, capsys):
    spec_file.write_text(spec_file.read_text() + FIGURES)
    words = ["tables", str(spec_file), "--ranks", "--row", "alpha", "beta_2"]
    assert main(words) == 0
    files = {path.name: path.read_bytes() for path in (results / "tables").iterdir()}
    assert {
        "mine-ranks.md",
        "mine-ranks.csv",
        "mine-scatter.svg",
        "mine-scatter.pdf",
        "mine-scatter.png",
    } <= files.keys()
    assert main([*words, "--check"]) == 0
    assert not any(str(results).encode() in content for content in files.values())
    save("alpha", "low-shot", [10.0, 11.0, 12.5], sha="a")
    capsys.readouterr()
    assert main([*words, "--check"]) == 1
    assert re.fullmatch(r"stale: .*mine\.md differs from the records: .*\n", capsys.readouterr().err)
    assert {path.name: path.read_bytes() for path in (results / "tables").iterdir()} == files


def test_check_of_a_profile(results, capsys):
    assert main(["tables", "paper", "--check"]) == 1
    assert "paper-all.md cannot be read" in capsys.readouterr().err
    assert main(["tables", "paper"]) == 0 and main(["tables", "paper", "--check"]) == 0


def test_flags_of_a_layout_are_not_for_a_profile(results):
    with pytest.raises(InputError, match="--ranks is for a layout, and paper is a profile"):
        main(["tables", "paper", "--ranks"])


def test_ranks_of_rows_and_tau_of_columns(results, spec_file):
    assert main(["tables", str(spec_file), "--ranks"]) == 0
    frame = pd.read_csv(results / "tables" / "mine-ranks.csv")
    ranks = frame[frame["kind"] == "mean rank"].set_index("row")
    assert ranks.loc["beta_2", "value"] == 1.0 and ranks.loc["Alpha", "value"] == 2.0
    tau = frame[frame["kind"] == "tau-b"].iloc[0]
    assert (tau["value"], tau["n"]) == (1.0, 2)
    text = (results / "tables" / "mine-ranks.md").read_text()
    assert "Left out, for want of a number: gamma, delta" in text and "Kendall τ-b" in text


def test_indices():
    assert marked_up("AP^{bb}_{5<}", lambda text: text.replace("<", "&lt;"), ("[", "]"), ("(", ")")) == "AP(bb)[5&lt;]"
    assert plain("AP^{bb}_{50} x") == "APbb50 x"


def test_bars_have_a_panel_per_column_and_a_bar_per_row(results, spec_file):
    newest = ResultsStore().all_newest()
    table = table_of(read_spec(spec_file), recorded("paper", None, newest), newest)
    figure = KINDS["bars"](table, [0, 2])
    panels = [axis for axis in figure.axes if axis.get_visible()]
    assert [axis.get_title() for axis in panels] == ["10-shot top-1", "VOC AP"]
    assert sorted(bar.get_width() for bar in panels[0].patches) == pytest.approx([11.0, 18.0, 20.0, 31.0])
    widths = sorted(bar.get_width() for bar in panels[1].patches)
    assert widths == pytest.approx(sorted([51.0, statistics.mean([55, 56, 57.5]), 53.5, 57.0]))
    assert "hatched: published" in figure.get_suptitle()
