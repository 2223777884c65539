"""The pair view, accessibility and print of the report in Chromium: one page, whose labels are hostile."""

import contextlib
import importlib.resources
import shlex

import pytest

from benchmarks.report.web.command import gathered, html_of
from benchmarks.report.web.runs import read_facts
from tests.benchmarks.contexts import tiny_root
from tests.benchmarks.report.records import saved
from tests.benchmarks.report.web.browsing import CHROMIUM
from tests.benchmarks.report.web.test_page import HOSTILE
from tests.benchmarks.report.web.test_pairs import CLASSES, EACH, predicted

pytest.importorskip("playwright.sync_api", reason="needs playwright")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium, such as Debian's package chromium"),
]
SERIOUS = ("serious", "critical")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Path of a page: hostile rows with predictions, one of them with a failed run."""
    folder = tmp_path_factory.mktemp("results")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RESULTS_DIR", str(folder))
        tiny_root(folder / "data" / "toy", classes=CLASSES, val=EACH)
        for number, label in enumerate(HOSTILE):
            for seed in range(3):
                predicted(label, str(number), {number, number + 9, 20 + seed}, seed=seed)
        saved((HOSTILE[0], {"task": "knn", "checkpoint_sha256": "0" * 64}, "out of memory"))
        facts = read_facts()
        path = folder / "report.html"
        path.write_text(html_of(gathered("smoke", facts), facts), encoding="utf-8")
        yield path


@contextlib.contextmanager
def opened(browser, path, **options):
    """A page; at its end it must have said no error and asked for nothing but the file."""
    context = browser.new_context(**options)
    page, said, asked = context.new_page(), [], []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(path.as_uri())
    yield page
    context.close()
    assert said == [] and [url for url in asked if not url.startswith("data:")] == [path.as_uri()]


def choose(page, a, b):
    page.select_option("#pair-form [name=a]", value=str(a))
    page.select_option("#pair-form [name=b]", value=str(b))


def rows(page):
    return page.eval_on_selector_all(
        "#pair > .scroll tbody tr", "all => all.map(row => [...row.cells].map(cell => cell.textContent))"
    )


def test_a_pair_is_chosen_swapped_and_not_one_row_twice(browser, made):
    with opened(browser, made) as page:
        labels = page.eval_on_selector_all("tr.row th.name", "all => all.map(one => one.textContent)")
        page.locator("#pair-form").scroll_into_view_if_needed()
        page.locator("#pair table").first.wait_for()  # the first two rows, once it is in view
        choose(page, 1, 3)
        heads = page.eval_on_selector_all("#pair > .scroll thead th", "all => all.map(one => one.textContent)")
        assert heads[1:3] == [f"A: {labels[1]}", f"B: {labels[3]}"]
        (before,) = rows(page)
        page.click("#pair-swap")
        (after,) = rows(page)
        assert after[1:3] == before[2:0:-1] and after[6:] == before[6:]
        low, high = before[5].split(" to ")
        flip = str.maketrans("+−", "−+")
        assert after[3] == before[3].translate(flip)
        assert after[5] == f"{high.translate(flip)} to {low.translate(flip)}"
        choose(page, 2, 2)
        assert page.text_content("#pair") == "Choose two rows."


def test_classes_and_images_open_by_keyboard_and_show_what_is_hostile_as_text(browser, made):
    with opened(browser, made) as page:
        choose(page, 0, 1)
        summaries = page.locator("#pair summary")
        for place in range(summaries.count()):
            summaries.nth(place).focus()
            page.keyboard.press("Enter")
        assert page.locator("#pair details:not([open])").count() == 0
        assert page.locator("#pair .gallery figure").count() == 4
        said = page.text_content("#pair .gallery figure >> nth=0")
        assert said.startswith("Truth: class") and "A: class" in said and "B: class" in said
        shown = page.locator("#pair .gallery svg").first
        assert shown.get_attribute("aria-label").startswith("imagenet/val/class") and shown.bounding_box()["width"] > 20
        command = page.text_content("#pair > code")
        labels = page.eval_on_selector_all("tr.row th.name", "all => all.map(one => one.textContent)")
        words = ["python", "-m", "benchmarks", "compare", *labels[:2], "--profile", "smoke"]
        assert shlex.split(command) == words and set(labels) == set(HOSTILE)
        assert page.locator("script").count() == page.locator("body > script").count()


def violations(page):
    found = page.evaluate("axe.run()")["violations"]
    return [(one["id"], one["nodes"][0]["html"][:200]) for one in found if one["impact"] in SERIOUS]


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing_serious(browser, made, theme):
    axe_package = pytest.importorskip("axe_playwright_python", reason="needs axe-playwright-python, for its axe-core")
    axe = importlib.resources.files(axe_package).joinpath("axe.min.js").read_text(encoding="utf-8")
    # axe is no script of the page's: its content security policy is set aside.
    with opened(browser, made, color_scheme=theme, bypass_csp=True) as page:
        page.evaluate(axe)
        page.evaluate("document.querySelector('#board th[scope=row]').style.color = '#888'")
        page.evaluate("document.querySelector('#board th[scope=row]').style.background = '#777'")
        assert [name for name, _ in violations(page)] == ["color-contrast"]  # it does find some
        page.evaluate("document.querySelector('#board th[scope=row]').removeAttribute('style')")
        choose(page, 0, 1)
        page.eval_on_selector_all("#pair details", "all => all.forEach(one => { one.open = true; })")
        assert violations(page) == []
        page.locator(".cell").first.click()
        assert violations(page) == []


def test_on_paper_controls_are_hidden_the_table_is_whole_and_the_text_dark(browser, made):
    with opened(browser, made, color_scheme="dark") as page:
        page.emulate_media(media="print", color_scheme="dark")
        assert not any(page.locator(one).is_visible() for one in ("#filters", "#theme", "#pair-form", ".skip"))
        assert page.locator("#board tr.row").first.is_visible() and page.locator("#missing-title").is_visible()
        box = page.evaluate(
            "(() => { const one = document.querySelector('.scroll'); return getComputedStyle(one); })()"
        )
        assert box["overflow"] == "visible" and box["maxHeight"] == "none"
        colour = page.evaluate("getComputedStyle(document.body).color")
        assert max(int(one) for one in colour[4:-1].split(",")) < 80
        assert page.pdf().startswith(b"%PDF")
