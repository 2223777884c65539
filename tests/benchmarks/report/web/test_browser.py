"""The report in a real browser: sorting, filters, differences, the drawer, the keyboard; no request, no error."""

import pytest

from benchmarks.report.web.command import write_report
from benchmarks.report.web.page import SCRIPTS
from tests.benchmarks.report.records import VALUES, saved
from tests.benchmarks.report.web.browsing import CHROMIUM
from tests.benchmarks.report.web.test_page import HOSTILE

pytest.importorskip("playwright.sync_api", reason="needs playwright")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium, such as Debian's package chromium"),
]


@pytest.fixture
def opened(browser):
    """Open a file; at the end the page must have said no error and asked for nothing else."""
    page, said, asked = browser.new_page(), [], []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))

    def open_(path):
        page.goto(path.as_uri())
        return page

    yield open_
    page.close()
    assert said == [] and len(asked) == 1


def labels(page):
    return page.eval_on_selector_all("tr.row:not([hidden]) th.name", "all => all.map(one => one.textContent)")


def test_sorting_goes_best_first_then_worst_then_back_and_misses_last(opened, pairs):
    page, means = opened(write_report(pairs, "smoke", "t")), {key: sum(one) / len(one) for key, one in VALUES.items()}
    head = page.locator("th:has(> .sort[data-column='0'])")
    own = labels(page)
    for state, expected in (
        ("descending", sorted(own, key=means.get, reverse=True)),
        ("ascending", sorted(own, key=means.get)),
        (None, own),
    ):
        head.locator("button").click()
        assert head.get_attribute("aria-sort") == state and labels(page) == expected
    page.click(".sort[data-column='1']")
    assert labels(page)[0] == "alpha"
    page.click(".sort[data-column='1']")
    assert labels(page)[0] == "alpha"  # the two others have no number


def test_filters_and_differences(opened, pairs):
    page = opened(write_report(pairs, "smoke", "t"))
    page.select_option("[name=task]", "voc-c4-24k")
    heads = page.eval_on_selector_all("#board thead th:not([hidden])", "all => all.map(one => one.textContent.trim())")
    assert heads == ["VOC C4", "checkpoint", "AP", "AP50", "AP75"]
    page.select_option("[name=task]", "")
    page.fill("[name=text]", "BETA")
    assert labels(page) == ["beta_2"] and "1 of 3 rows" in page.text_content("#said")
    page.fill("[name=text]", "")
    page.select_option("[name=delta]", label="alpha")
    shown = page.eval_on_selector_all("tr.row", "all => all.map(one => one.cells[1].dataset.delta || '')")
    assert shown == ["", "+18.0", "+27.0"]


def test_the_keyboard_reaches_a_cell_and_its_drawer(opened, pairs):
    page = opened(write_report(pairs, "smoke", "t"))
    page.locator(".sort").last.focus()
    page.keyboard.press("Tab")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    assert page.text_content("#drawer-title") == "beta_2, VOC C4 AP"
    assert "out of memory" in page.text_content("#drawer-body")
    page.keyboard.press("Escape")
    assert not page.locator("#drawer").is_visible()
    assert page.evaluate("document.activeElement.textContent") == "failed"


def test_hostile_labels_are_shown_as_they_are(opened, results):
    pairs = saved(*((label, {"checkpoint_sha256": str(n) * 64}, 10.0 + n) for n, label in enumerate(HOSTILE)))
    page = opened(write_report(pairs, "smoke", "t"))
    assert labels(page) == HOSTILE
    page.locator(".cell").first.click()
    assert page.text_content("#drawer-title").startswith(HOSTILE[0])
    assert page.locator("script").count() == 4 + len(SCRIPTS)


def test_the_theme_switches(opened, pairs):
    page = opened(write_report(pairs, "smoke", "t"))
    page.emulate_media(color_scheme="light")
    grounds = set()
    for name in ("light", "dark"):
        page.click("#theme")
        assert page.text_content("#theme") == f"Theme: {name}"
        grounds.add(page.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert len(grounds) == 2


def test_without_scripts_the_table_is_whole_and_nothing_is_offered_that_cannot_work(browser, pairs):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(write_report(pairs, "smoke", "t").as_uri())
    assert page.locator("tr.row").count() == 3 and page.locator("tr.row").first.is_visible()
    assert not page.locator("#filters").is_visible()
    context.close()
