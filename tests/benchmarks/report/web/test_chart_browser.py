"""Every kind of chart in Chromium: one page, drawn as one scrolls, without an error, a request or unsafe-eval."""

import dataclasses
import importlib.resources
import json

import pytest

from benchmarks.records import ResultsStore
from benchmarks.report.web.command import gathered, html_of
from benchmarks.report.web.runs import read_facts
from benchmarks.suites import SUITES, Figure, Row, SuiteColumn
from tests.benchmarks.doubles import make_record, make_spec
from tests.benchmarks.report.web.browsing import CHROMIUM, flags
from tests.benchmarks.report.web.test_chart_detectors import matches
from tests.benchmarks.report.web.test_page import HOSTILE

sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium, such as Debian's package chromium"),
]
LABELS = [HOSTILE[0], "run @10", "run @20", HOSTILE[2]]  # in the order of a profile's rows
METRICS = {
    "linear": {"top1": 40.0},
    "knn": {"top1": 30.0},
    "factors": {"position": 60.0, "hue": 5.0, "z position": 50.0, "z hue": 2.0},
    "information": {"predictive": 1.5, "superfluous": 4.0},
}
SUITE = dataclasses.replace(
    SUITES["smoke"],
    rows=tuple(
        Row(label=label, preset="p", group="one", at={"x": n % 2, "z": n // 2}) for n, label in enumerate(LABELS)
    ),
    columns=(SuiteColumn(task="knn"),),
    figures=(
        Figure(name="c", kind="curve", x="knn/top1", y=("linear/top1",)),
        Figure(name="p", kind="plane", x="x", across="z", y=("knn/top1",)),
    ),
)
SECTIONS = [
    "Each column",
    "Figures of the suite",
    "Series",
    "One column against another",
    "Score against cost",
    "AP of each class",
    "AP by object size",
    "Precision over recall",
    "Factors that the features hold",
    "Nats of the features",
    "Training of the detectors",
    "Pretraining",
]


def losses(path, steps, key):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps({steps: step, key: 5 / (step + 1)}) + "\n" for step in range(200)))


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    """The page, what it said to the console and what it asked for."""
    folder = tmp_path_factory.mktemp("results")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RESULTS_DIR", str(folder))
        store = ResultsStore()
        for number, label in enumerate(LABELS):
            home = folder / "pretrain" / str(number)
            losses(home / "metrics.jsonl", "step", "loss")
            about = {"path": str(home / "backbone.safetensors"), "family": "superinfo"}
            for seed in range(3):
                shared = {"checkpoint_sha256": str(number) * 64, "seed": seed}
                for task, values in METRICS.items():
                    metrics = {key: value + number + seed / 4 for key, value in values.items()}
                    record = make_record(make_spec(task=task, **shared), metrics, label=label)
                    store.save(dataclasses.replace(record, checkpoint=about))
                spec, found = make_spec(task="coco-fpn-1x", **shared), matches(10 * number + seed)
                found.save(store.working_folder(spec) / "matches-bbox.npz")
                losses(store.working_folder(spec) / "metrics.json", "iteration", "total_loss")
                record = make_record(spec, {"bbox/AP": 100 * found.mean_ap()}, label=label)
                store.save(dataclasses.replace(record, files=("metrics.json",)))  # no draws of images: slow
        facts = read_facts()
        found = dataclasses.replace(gathered("smoke", facts), suite=SUITE)
        (folder / "report.html").write_text(html_of(found, facts), encoding="utf-8")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=flags())
        page, said, asked = browser.new_page(), [], []
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto((folder / "report.html").as_uri())
        yield page, said, asked
        browser.close()


def figures(page, title):
    return page.locator("details.charts", has=page.get_by_role("heading", name=title, exact=True)).locator("figure")


def drawn(figure):
    figure.scroll_into_view_if_needed()
    figure.locator(".plot svg").wait_for()
    return figure.locator("svg .role-mark path, svg .role-mark text, svg .role-mark line").count()


def test_every_kind_is_drawn_when_it_comes_into_view(opened):
    page, said, asked = opened
    assert page.eval_on_selector_all("details.charts h3", "all => all.map(one => one.textContent)") == SECTIONS
    assert figures(page, "Pretraining").locator("svg").count() == 0  # below the view
    for title in SECTIONS:
        for place in range(figures(page, title).count()):
            figure = figures(page, title).nth(place)
            assert drawn(figure), title
            assert (
                figure.locator(".plot").get_attribute("aria-label").startswith(figure.locator("b").text_content()[:9])
            )
    assert said == [] and len(asked) == 1
    policy = page.locator("meta[http-equiv]").get_attribute("content")
    assert "unsafe" not in policy and policy.startswith("default-src 'none'")


def test_bars_have_the_rows_and_their_lengths(opened):
    page, _, _ = opened
    figure = figures(page, "Each column").first
    drawn(figure)
    widths = figure.locator("svg .mark-rect.role-mark path").evaluate_all("all => all.map(one => one.getBBox().width)")
    assert [width / widths[0] for width in widths] == pytest.approx([(40.25 + n) / 40.25 for n in range(4)], rel=1e-3)
    labels = figure.locator("svg .role-axis-label text").all_text_contents()
    assert any(label.startswith("</scr") for label in labels)


def test_a_chart_has_its_numbers_as_a_table_by_keyboard(opened):
    page, _, _ = opened
    figure = figures(page, "Each column").first
    figure.locator("summary").focus()
    page.keyboard.press("Enter")
    figure.locator("table").wait_for()
    cells = figure.locator("tbody tr").nth(1).locator("th, td").all_text_contents()
    assert cells[:2] == ["run @10", "41.25"] and cells[4] == "3"


def test_the_columns_of_a_scatter_are_chosen(opened):
    page, _, _ = opened
    figure = figures(page, "One column against another")
    drawn(figure)
    for side, label in (("Across", "linear top-1"), ("Up", "kNN top-1")):
        figure.get_by_label(side).select_option(label=label)
    assert "Kendall τ = +1.00" in figure.locator("figcaption").text_content()
    figure.get_by_text("kNN top-1, % (more is better)").wait_for()
    assert figure.locator("svg .mark-symbol.role-mark path").count() == len(LABELS)


def test_charts_follow_the_theme_without_being_drawn_again(opened):
    page, _, _ = opened
    page.emulate_media(color_scheme="light")
    figure = figures(page, "Each column").first
    drawn(figure)
    bar = figure.locator("svg .mark-rect.role-mark path").first.element_handle()
    colours = set()
    for _ in range(2):
        page.click("#theme")
        colours.add(bar.evaluate("one => getComputedStyle(one).fill"))
    assert len(colours) == 2


def test_axe_finds_nothing_serious_in_the_charts(opened):
    axe_package = pytest.importorskip("axe_playwright_python", reason="needs axe-playwright-python, for its axe-core")
    axe = importlib.resources.files(axe_package).joinpath("axe.min.js").read_text(encoding="utf-8")
    # axe is no script of the page's: its content security policy is set aside.
    page = opened[0].context.browser.new_page(color_scheme="light", bypass_csp=True)
    page.goto(opened[0].url)
    page.evaluate(axe)
    for title in ("Each column", "One column against another", "AP of each class"):
        drawn(figures(page, title).first)
        figures(page, title).first.locator("summary").click()
    for theme in ("light", "dark"):
        page.emulate_media(color_scheme=theme)
        found = page.evaluate("axe.run('#charts', { resultTypes: ['violations'] })")["violations"]
        assert [(one["id"], one["nodes"][0]["html"]) for one in found if one["impact"] in ("serious", "critical")] == []
    page.close()
