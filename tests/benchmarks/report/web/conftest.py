"""A browser for the tests of a module."""

import pytest

from tests.benchmarks.report.web.browsing import CHROMIUM, flags


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        one = playwright.chromium.launch(executable_path=CHROMIUM, args=flags())
        yield one
        one.close()
