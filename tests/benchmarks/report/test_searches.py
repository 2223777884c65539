"""A search in tables: a column of its own, a sentence in the caption, each run's choice in the CSV."""

from benchmarks.records import ResultsStore
from benchmarks.report import searches
from benchmarks.report.captions import caption
from benchmarks.report.cells import collect
from benchmarks.report.long_form import long_form
from benchmarks.report.tables import to_latex, to_markdown
from tests.benchmarks.doubles import make_record, make_spec
from transfer.detection.search import KEY

OPTS = ("SOLVER.MAX_ITER", "9")
RATES = "SOLVER.BASE_LR=0.01,0.02,0.05"


def recorded(tmp_path, monkeypatch, *runs):
    """Cells of voc-fpn-24k runs, each (seed, overrides, digest, config)."""
    monkeypatch.setenv("RESULTS_DIR", str(tmp_path))
    pairs = []
    for seed, overrides, digest, config in runs:
        spec = make_spec(task="voc-fpn-24k", seed=seed, overrides=overrides, protocol_digest=digest * 64, num_gpus=0)
        ResultsStore().save(make_record(spec, {"bbox/AP": 10.0 + seed}, config=config))
        pairs.append(("mine", spec))
    return collect(pairs)


def choice(rate, images=80):
    return {"search": {"chosen": ["SOLVER.BASE_LR", rate], "held_out": {"images": images, "sha256": "0"}, "tried": []}}


def test_fixed_and_searched_runs_have_columns_of_their_own(tmp_path, monkeypatch):
    cells = recorded(
        tmp_path, monkeypatch,
        (0, (), "a", {}), (0, (KEY, RATES), "b", choice("0.02")), (1, (KEY, RATES), "b", choice("0.05")),
        (0, (*OPTS, KEY, RATES), "c", choice("0.01", 60)), (0, (KEY, "SOLVER.BASE_LR=0.01,0.02"), "d", choice("0.01")),
    )  # fmt: skip
    found = {cell.column: cell.text(" ± ", "-") for cell in cells if cell.metric.key == "bbox/AP"}
    assert found == {
        "VOC FPN": "10.0 (1)",
        "VOC FPN (lr of 3)": "10.5 ± 0.7 (2)",
        "VOC FPN (lr of 3) SOLVER.MAX_ITER 9": "10.0 (1)",
        "VOC FPN (lr of 2)": "10.0 (1)",
    }
    text = caption(cells, "smoke")
    rates = (
        "each run chose SOLVER.BASE_LR of 0.01, 0.02, 0.05 on 60 to 80 held-out training images, then trained on all."
    )
    assert f"voc-fpn-24k: {rates} " in text and text.count("each run chose") == 2
    assert "Overrides: SOLVER.MAX_ITER 9." in text and KEY not in text
    assert "lr of 3" in to_markdown(cells, "smoke") and "lr of 3" in to_latex(cells, "smoke")


def test_two_searches_of_as_many_values_are_named_by_their_values(tmp_path, monkeypatch):
    other = "SOLVER.BASE_LR=0.1,0.2,0.5"
    runs = [(0, (KEY, RATES), "a", choice("0.02")), (1, (KEY, other), "b", choice("0.2"))]
    cells = recorded(tmp_path, monkeypatch, *runs, (2, (KEY, "SOLVER.BASE_LR=1,2"), "c", choice("1")))
    found = {cell.column: cell.text(" ± ", "-") for cell in cells if cell.metric.key == "bbox/AP"}
    assert found == {
        "VOC FPN (lr of 0.01, 0.02, 0.05)": "10.0 (1)",
        "VOC FPN (lr of 0.1, 0.2, 0.5)": "11.0 (1)",
        "VOC FPN (lr of 2)": "12.0 (1)",
    }


def test_one_searched_column_alone_is_named_too_and_the_csv_has_each_runs_choice(tmp_path, monkeypatch):
    cells = recorded(tmp_path, monkeypatch, *((seed, (KEY, RATES), "b", choice(f"0.0{seed}")) for seed in (1, 2)))
    table = long_form(cells)
    assert set(table["column"]) == {"VOC FPN (lr of 3)"}
    assert set(table["chosen"]) == {"seed 1: SOLVER.BASE_LR 0.01; seed 2: SOLVER.BASE_LR 0.02"}
    assert set(table["overrides"]) == {f"{KEY} {RATES}"}


def test_records_of_others_break_no_table(tmp_path, monkeypatch):
    strange = [
        {},
        {"search": 3},
        {"search": {"chosen": 3, "held_out": {"images": "many"}}},
        {"search": {"held_out": 1}},
    ]
    runs = [(seed, (KEY, RATES), "b", config) for seed, config in enumerate(strange)]
    cells = recorded(tmp_path, monkeypatch, *runs, (9, (KEY, "?"), "c", {}), (9, ("odd",), "d", {}))
    assert "on some held-out training images" in caption(cells, "smoke")
    assert set(long_form(cells)["chosen"]) == {""}
    assert {"VOC FPN (search)", "VOC FPN odd"} < {cell.column for cell in cells}


def test_a_run_without_a_search_says_nothing():
    record = make_record(make_spec(), {"top1": 1.0})
    assert searches.sentences([record]) == searches.chosen(record) == ""
